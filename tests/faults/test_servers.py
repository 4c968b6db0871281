"""Database servers are killed, connections are cut, and processes sleep through their lease. No turn is lost or doubled."""

from __future__ import annotations

import contextlib
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chatmem.history.records import new_id
from chatmem.stores import open_store
from tests.conftest import RecordProperty
from tests.databases import SERVERS, Databases, DatabaseServer
from tests.stores.test_databases import ask, chat_on

pytestmark = [pytest.mark.claim("killed servers, cuts and expired leases: turns lost or doubled"), pytest.mark.no_cover]


def check_turns(url: str, directory: Path, user: str, sent: list[str]) -> None:
    """All turns are in the session, once and in order, each with its reply."""
    session = open_store(url, directory, user).session("work")
    assert [turn.question.content for turn in session.turns if turn.reply] == sent
    assert len(session.messages) == len(session.path) == 2 * len(sent)


# Killed servers


def check_killed_servers(
    own_server: tuple[DatabaseServer, str], directory: Path, rng: random.Random, times: int
) -> None:
    server, url = own_server
    chat, sent = chat_on(open_store(url, directory, ""), "work"), list[str]()
    for number in range(times):
        for turn in range(rng.randrange(1, 4)):
            ask(chat, text := f"before kill {number}, turn {turn}")
            sent.append(text)
        killer = threading.Timer(rng.random() * 0.03, server.kill)
        killer.start()
        for turn in range(rng.randrange(1, 6)):
            ask(chat, text := f"around kill {number}, turn {turn}")
            sent.append(text)
        killer.join()
        server.start()
    ask(chat, "the last one")
    chat.close()
    check_turns(url, directory, "", [*sent, "the last one"])


def test_2_killed_servers_lose_and_double_no_turn(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 2)
    check_killed_servers(own_server, tmp_path, rng, 2)


@pytest.mark.long
def test_25_killed_servers_lose_and_double_no_turn(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 25)
    check_killed_servers(own_server, tmp_path, rng, 25)


# Cut connections


class CuttingProxy:
    """Forwards connections to a port, and cuts each after a number of bytes in either direction."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.target, self.rng, self.rate, self.cuts = port, rng, 0.0, 0
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    target = server if source is client else client
                    if self.rng.random() < self.rate:
                        self.cuts += 1
                        target.sendall(data[: self.rng.randrange(len(data) + 1)])
                        return
                    target.sendall(data)


def check_cuts(url: str, directory: Path, rng: random.Random, times: int) -> int:
    port = int(url.rpartition(":")[2].partition("/")[0])
    proxy = CuttingProxy(port, rng)
    user, sent = new_id(), list[str]()
    through = url.replace(f":{port}/", f":{proxy.port}/")
    chat = chat_on(open_store(through, directory, user), "work")
    while proxy.cuts < times:
        proxy.rate = rng.choice([0.0, 0.02, 0.1, 0.3])
        ask(chat, text := f"question {len(sent)}")
        sent.append(text)
        if rng.random() < 0.05:
            proxy.rate = 0.0
            chat.close()
            chat = chat_on(open_store(through, directory, user), "work")
    proxy.rate = 0.0
    ask(chat, "the last one")
    chat.close()
    check_turns(through, directory, user, [*sent, "the last one"])
    proxy.socket.close()
    return proxy.cuts


@pytest.mark.parametrize("kind", SERVERS)
def test_20_cut_connections_lose_and_double_no_turn(
    kind: str, databases: Databases, tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", check_cuts(databases.url(kind, tmp_path), tmp_path, rng, 20))


@pytest.mark.long
@pytest.mark.parametrize("kind", SERVERS)
def test_250_cut_connections_lose_and_double_no_turn(
    kind: str, databases: Databases, tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", check_cuts(databases.url(kind, tmp_path), tmp_path, rng, 250))


# Expired leases

SLEEPER = """
import sys
from pathlib import Path
from chatmem.stores import open_store
from chatmem.stores.database import base, remote_log
from tests.stores.test_databases import ask, chat_on
url, data, user, number = sys.argv[1:]
import importlib
from chatmem.stores import DATABASES
importlib.import_module(DATABASES[url.partition(":")[0]].module)
for name, module in list(sys.modules.items()):
    if name.startswith("chatmem.stores.database") and hasattr(module, "LEASE_SECONDS"):
        module.LEASE_SECONDS = 1.0
chat = chat_on(open_store(url, Path(data), user), "work")
reply = chat.send(f"asked before sleep {number}")
next(reply)
print("asked", flush=True)
sys.stdin.readline()
for _ in reply:
    pass
chat.close()
"""


def check_sleepers(url: str, directory: Path, times: int) -> None:
    """A process is stopped in the middle of a reply until its lease expired, and another machine takes its turn."""
    user = new_id()
    awake = chat_on(open_store(url, directory / "awake", user), "work")
    ask(awake, "the first one")
    expected = ["the first one"]
    for number in range(times):
        command = [sys.executable, "-c", SLEEPER, url, str(directory / "sleeper"), user, str(number)]
        sleeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert sleeper.stdin and sleeper.stdout and sleeper.stdout.readline() == b"asked\n"
        sleeper.send_signal(signal.SIGSTOP)
        ask(awake, text := f"asked during sleep {number}")  # waits for the lease to expire
        expected.append(text)
        sleeper.send_signal(signal.SIGCONT)
        sleeper.communicate(b"go on\n", timeout=60)
        assert sleeper.returncode == 0
    awake.close()
    session = open_store(url, directory / "later", user).session("work")
    on_path = [turn.question.content for turn in session.turns]
    assert [text for text in on_path if "before" not in text] == expected, "a newer turn left the conversation"
    questions = [m.content for m in session.messages.values() if m.role == "user"]
    late = [f"asked before sleep {number}" for number in range(times)]
    assert sorted(questions) == sorted([*expected, *late])
    assert sum(m.role == "assistant" for m in session.messages.values()) == len(questions)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_process_that_slept_through_its_lease_takes_no_turn_of_another(
    kind: str, databases: Databases, tmp_path: Path
) -> None:
    check_sleepers(databases.url(kind, tmp_path), tmp_path, 1)


@pytest.mark.long
@pytest.mark.parametrize("kind", SERVERS)
def test_10_processes_that_slept_through_their_lease_take_no_turn_of_another(
    kind: str, databases: Databases, tmp_path: Path, record_property: RecordProperty
) -> None:
    record_property("cases", 10)
    check_sleepers(databases.url(kind, tmp_path), tmp_path, 10)
