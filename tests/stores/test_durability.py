"""Kills, power losses and concurrent writers: nothing acknowledged is lost, and no file becomes unreadable."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatmem.history.records import header, new_id, utc_now
from chatmem.history.session import Session
from chatmem.stores.file.store import FileStore
from tests.conftest import RecordProperty
from tests.server import OK, Server, delta

APPENDER = """
import os, random, sys
from pathlib import Path
from chatmem.history.records import new_id, utc_now
from chatmem.stores.file.store import FileStore
directory, seed = sys.argv[1:]
rng = random.Random(int(seed))
store = FileStore(Path(directory))
log = store.open("work")
while True:
    ident = new_id()
    size = rng.choice([1, 100, 2_000, 60_000])
    with log.exclusive():
        log.read()
        log.append([{"type": "message", "id": ident, "parent": None, "role": "user", "content": "x" * size, "time": utc_now()}])
    os.write(1, (ident + "\\n").encode())
"""


def check_kills(directory: Path, rng: random.Random, times: int) -> None:
    """Kill a writer at random points. Every record it acknowledged is stored once, and the file opens."""
    FileStore(directory).open("work", [header("work")]).close()
    acknowledged: list[str] = []
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(directory), str(rng.randrange(1 << 30))], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout
            data = os.read(writer.stdout.fileno(), 25)
            for _ in range(rng.randrange(0, 4000)):
                pass
            for _ in range(rng.randrange(0, 6)):
                data += os.read(writer.stdout.fileno(), 4096)
            writer.send_signal(signal.SIGKILL)
            data += writer.stdout.read()
        acknowledged += data.decode().rpartition("\n")[0].split()
    store = FileStore(directory)
    log = store.open("work")
    with log.exclusive():
        log.read()
    ids = [r.get("id") for r in store.records("work") if r["type"] == "message"]
    assert len(ids) == len(set(ids)) and set(acknowledged) <= set(ids) and len(acknowledged) >= times
    assert store.check("work").ok


@pytest.mark.claim("kills during an append: records lost")
def test_10_kills_during_appends_lose_nothing(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 10)
    check_kills(tmp_path / "s", rng, 10)


@pytest.mark.claim("kills during an append: records lost")
@pytest.mark.long
def test_1000_kills_during_appends_lose_nothing(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 1000)
    check_kills(tmp_path / "s", rng, 1000)


def check_program_kills(server: Server, home: Path, rng: random.Random, times: int) -> None:
    """Kill the program during a reply. The question is stored, and so is what was shown of the reply."""
    gates: list[threading.Event] = []

    def pause_after_pieces(request: Any) -> Any:
        gate = threading.Event()
        gates.append(gate)

        def answer(request: Any, connection: Any) -> None:
            connection.sendall(OK)
            for n in range(rng.randrange(1, 30)):
                connection.sendall(delta(f"piece{n} "))
            gate.wait(20)

        return answer

    server.otherwise = pause_after_pieces
    store = FileStore(home / "data" / "sessions")
    for number in range(times):
        with subprocess.Popen(
            [sys.executable, "-m", "chatmem", "ask", "-s", f"s{number}", f"question {number}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as program:
            assert program.stdout
            shown = os.read(program.stdout.fileno(), 4096)
            program.send_signal(signal.SIGKILL)
            shown += program.stdout.read()
        gates[-1].set()
        question, reply = Session.replay("s", store.records(f"s{number}")).path
        assert question.content == f"question {number}"
        assert reply.status == "interrupted" and reply.content.startswith(shown.decode().rpartition(" ")[0])
        log = store.open(f"s{number}")
        with log.exclusive():
            log.read()
        assert not store.path(f"s{number}", ".partial").exists() and store.check(f"s{number}").ok
        assert Session.replay("s", store.records(f"s{number}")).path[1].content == reply.content


@pytest.mark.claim("kills during a reply: records lost")
def test_2_kills_of_the_program_during_a_reply_keep_question_and_draft(
    server: Server, home: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 2)
    check_program_kills(server, home, rng, 2)


@pytest.mark.claim("kills during a reply: records lost")
@pytest.mark.long
def test_200_kills_of_the_program_during_a_reply_keep_question_and_draft(
    server: Server, home: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 200)
    check_program_kills(server, home, rng, 200)


class Recorder:
    """The `os` module, which records the size of each file when it was synced."""

    def __init__(self) -> None:
        self.synced: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "fsync":

            def fsync(descriptor: int) -> None:
                real(descriptor)
                found = os.fstat(descriptor)
                self.synced[found.st_ino] = found.st_size

            return fsync
        return real


SECTOR = 512


def check_power_losses(directory: Path, rng: random.Random, images: int) -> None:
    """Lose power at any moment. Unsynced sectors may be lost, reordered or zero, but no acknowledged record."""
    system = Recorder()
    store = FileStore(directory, system=system)
    log = store.open("work", [header("work")])
    states: list[tuple[bytes, int, list[str]]] = []
    acknowledged: list[str] = []
    path = store.path("work")
    for number in range(24):
        ident = f"{number:03}"
        with log.exclusive():
            log.read()
            record = {
                "type": "message",
                "id": ident,
                "parent": None,
                "role": "user",
                "content": "é" * rng.choice([5, 300, 1500]),
                "time": utc_now(),
            }
            before = path.stat().st_size
            log.append([record])
        data = path.read_bytes()
        # During the append everything is written and nothing is synced. The earlier records are acknowledged.
        states.append((data, before, list(acknowledged)))
        acknowledged.append(ident)
        assert system.synced[path.stat().st_ino] == len(data), "the append returned before it was synced"
        states.append((data, len(data), list(acknowledged)))
    log.close()
    for _ in range(images):
        data, safe, required = rng.choice(states)
        length = rng.randrange(safe, len(data) + 1)
        image = bytearray(data[:length])
        for start in range(safe, length, SECTOR):
            chance = rng.random()
            end = min(length, (start // SECTOR + 1) * SECTOR)
            if chance < 0.3:
                image[start:end] = b"\0" * (end - start)
            elif chance < 0.4:
                image[start:end] = rng.randbytes(end - start)
        path.write_bytes(image)
        fresh = FileStore(directory)
        log = fresh.open("work")
        with log.exclusive():
            log.read()
            log.append(
                [{"type": "message", "id": "after", "parent": None, "role": "user", "content": "after", "time": ""}]
            )
        log.close()
        ids = [r.get("id") for r in fresh.records("work") if r.get("type") == "message"]
        assert set(required) <= set(ids) and ids[-1] == "after" and fresh.check("work").ok
        for torn in directory.glob("work.torn-*"):
            torn.unlink()


@pytest.mark.no_cover
@pytest.mark.claim("power losses: records lost")
def test_500_power_losses_lose_nothing_acknowledged(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 500)
    check_power_losses(tmp_path / "s", rng, 500)


@pytest.mark.claim("power losses: records lost")
@pytest.mark.long
def test_10000_power_losses_lose_nothing_acknowledged(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 10_000)
    check_power_losses(tmp_path / "s", rng, 10_000)


TURN_WRITER = """
import sys
from pathlib import Path
from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.memory.strategies.window import WindowStrategy
from chatmem.models.base import StreamChunk
from chatmem.stores.file.store import FileStore
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.conftest import RecordProperty
directory, who, times = sys.argv[1:]
class Echo:
    name, server, window = "echo", "", 8192
    def preload(self): pass
    def list_models(self, timeout=10.0): return []
    def stream(self, messages, options):
        before = messages[-3]["content"] if len(messages) > 2 else "nothing"
        yield StreamChunk(text=f"reply to {messages[-1]['content']} after {before}")
        yield StreamChunk(status="complete")
chat = Chat(
    FileStore(Path(directory)),
    "work",
    lambda session: TurnConfig(Echo(), WindowStrategy(1, 0), lambda model: Counter(None, estimate_tokens)),
)
for n in range(int(times)):
    list(chat.send(f"{who}{n}"))
"""


def check_two_writers(directory: Path, times: int) -> None:
    """Two processes write to one session. Every turn is complete, in order, and saw the one before it."""
    FileStore(directory).open("work", [header("work")]).close()
    writers = [subprocess.Popen([sys.executable, "-c", TURN_WRITER, str(directory), who, str(times)]) for who in "ab"]
    assert [process.wait(600) for process in writers] == [0, 0]
    session = FileStore(directory).session("work")
    assert len(session.turns) == 2 * times and session.malformed_count == 0
    before = "nothing"
    for turn in session.turns:
        assert turn.reply == f"reply to {turn.question.content} after {before}"
        before = turn.question.content
    for who in "ab":
        assert [t.question.content for t in session.turns if t.question.content[0] == who] == [
            f"{who}{n}" for n in range(times)
        ]


def test_two_processes_with_50_turns_each_neither_lose_nor_interleave_turns(tmp_path: Path) -> None:
    check_two_writers(tmp_path / "s", 50)


@pytest.mark.long
def test_two_processes_with_500_turns_each_neither_lose_nor_interleave_turns(tmp_path: Path) -> None:
    check_two_writers(tmp_path / "s", 500)


class Sessions(RuleBasedStateMachine):
    """The store compared with a list, after any sequence of operations."""

    @initialize(where=st.just(None))
    def begin(self, where: None) -> None:
        import tempfile

        self.directory = Path(tempfile.mkdtemp())
        self.store = FileStore(self.directory / "s")
        self.model: list[str] = []
        self.name = "work"
        self.log = self.store.open("work", [header("work")])

    @rule(
        texts=st.lists(
            st.text(max_size=20).filter(lambda t: t.isascii() or t.encode("utf-8", "ignore").decode() == t),
            min_size=1,
            max_size=3,
        )
    )
    def append(self, texts: list[str]) -> None:
        with self.log.exclusive():
            self.log.read()
            self.log.append(
                [
                    {"type": "message", "id": new_id(), "parent": None, "role": "user", "content": t, "time": ""}
                    for t in texts
                ]
            )
        self.model += texts

    @rule(junk=st.binary(min_size=1, max_size=30))
    def tear(self, junk: bytes) -> None:
        with self.store.path(self.name).open("ab") as file:
            file.write(b"{" + junk.replace(b"\n", b"").replace(b"}", b""))
        self.reopen()
        with self.log.exclusive():
            self.log.read()

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.store = FileStore(self.directory / "s")
        self.log = self.store.open(self.name)

    @rule()
    def rename(self) -> None:
        new = "play" if self.name == "work" else "work"
        self.store.rename(self.name, new)
        with self.log.exclusive():
            self.log.read()
        self.name = new
        assert self.log.name == new

    @rule()
    def vanish(self) -> None:
        self.store.path(self.name).unlink()
        with self.log.exclusive():
            self.log.read()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "store"):
            assert [r["content"] for r in self.store.records(self.name) if r["type"] == "message"] == self.model


TestSessions = Sessions.TestCase
TestSessions.settings = hypothesis_settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_check_reports_the_damaged_lines(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.open("work", [header("work")]).close()
    with store.path("work").open("ab") as file:
        file.write(b'oops\n{"type":"message"}\n{"type":"new kind"}\n{"half')
    report = store.check("work")
    assert (
        report.malformed_lines,
        report.malformed_records,
        report.unknown_records,
        report.torn_tail,
        report.ok,
    ) == ([2], 1, 1, 6, False)
    assert json.dumps(report.record())
