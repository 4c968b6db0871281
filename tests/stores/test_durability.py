"""Kills, power losses and crowds: nothing acknowledged is lost, and no file becomes unreadable."""

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

from chatmem.records import header, new_id, now
from chatmem.session import Session
from chatmem.stores.jsonl import JsonlStore
from tests.server import OK, Server, delta

APPENDER = """
import os, random, sys
from pathlib import Path
from chatmem.records import header, new_id, now
from chatmem.stores.jsonl import JsonlStore
folder, seed = sys.argv[1:]
chance = random.Random(int(seed))
store = JsonlStore(Path(folder))
log = store.open("work")
while True:
    ident = new_id()
    size = chance.choice([1, 100, 2_000, 60_000])
    with log.turn():
        log.read()
        log.append([{"type": "message", "id": ident, "parent": None, "role": "user", "content": "x" * size, "time": now()}])
    os.write(1, (ident + "\\n").encode())
"""


def check_kills(folder: Path, chance: random.Random, times: int) -> None:
    """Kill a writer at random points; every record it acknowledged is there, once, and the file opens."""
    JsonlStore(folder).open("work", [header("work")]).close()
    acknowledged: list[str] = []
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(folder), str(chance.randrange(1 << 30))], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout
            data = os.read(writer.stdout.fileno(), 25)
            for _ in range(chance.randrange(0, 4000)):
                pass
            for _ in range(chance.randrange(0, 6)):
                data += os.read(writer.stdout.fileno(), 4096)
            writer.send_signal(signal.SIGKILL)
            data += writer.stdout.read()
        acknowledged += data.decode().rpartition("\n")[0].split()
    store = JsonlStore(folder)
    log = store.open("work")
    with log.turn():
        log.read()
    ids = [r.get("id") for r in store.records("work") if r["type"] == "message"]
    assert len(ids) == len(set(ids)) and set(acknowledged) <= set(ids) and len(acknowledged) >= times
    assert store.check("work").sound


def test_100_kills_at_random_points_of_appends_lose_nothing(tmp_path: Path, chance: random.Random) -> None:
    check_kills(tmp_path / "s", chance, 100)


@pytest.mark.long
def test_1000_kills_at_random_points_of_appends_lose_nothing(tmp_path: Path, chance: random.Random) -> None:
    check_kills(tmp_path / "s", chance, 1000)


def check_program_kills(server: Server, home: Path, chance: random.Random, times: int) -> None:
    """Kill the whole program in mid-reply: the question is there, and so is what was shown of the reply."""
    gates: list[threading.Event] = []

    def slowly(request: Any) -> Any:
        gate = threading.Event()
        gates.append(gate)

        def answer(request: Any, connection: Any) -> None:
            connection.sendall(OK)
            for n in range(chance.randrange(1, 30)):
                connection.sendall(delta(f"piece{n} "))
            gate.wait(20)

        return answer

    server.otherwise = slowly
    store = JsonlStore(home / "data" / "sessions")
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
        with log.turn():
            log.read()
        assert not store.path(f"s{number}", ".partial").exists() and store.check(f"s{number}").sound
        assert Session.replay("s", store.records(f"s{number}")).path[1].content == reply.content


def test_20_kills_of_the_program_in_mid_reply_keep_question_and_partial(
    server: Server, home: Path, chance: random.Random
) -> None:
    check_program_kills(server, home, chance, 20)


@pytest.mark.long
def test_200_kills_of_the_program_in_mid_reply_keep_question_and_partial(
    server: Server, home: Path, chance: random.Random
) -> None:
    check_program_kills(server, home, chance, 200)


class Recorder:
    """System calls that also remember what is safe: what was synced, and what was only written."""

    def __init__(self) -> None:
        self.synced: dict[int, int] = {}
        self.events: list[tuple[str, Any]] = []

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


def check_power_losses(folder: Path, chance: random.Random, images: int) -> None:
    """Take the power away at any moment: unsynced sectors may be lost, reordered or zeroes; nothing acknowledged is."""
    system = Recorder()
    store = JsonlStore(folder, system=system)
    log = store.open("work", [header("work")])
    states: list[tuple[bytes, int, list[str]]] = []
    acknowledged: list[str] = []
    path = store.path("work")
    for number in range(24):
        ident = f"{number:03}"
        with log.turn():
            log.read()
            record = {
                "type": "message",
                "id": ident,
                "parent": None,
                "role": "user",
                "content": "é" * chance.choice([5, 300, 1500]),
                "time": now(),
            }
            before = path.stat().st_size
            log.append([record])
        data = path.read_bytes()
        # In the middle of the append: all of it written, none of it synced; the ones before are acknowledged.
        states.append((data, before, list(acknowledged)))
        acknowledged.append(ident)
        assert system.synced[path.stat().st_ino] == len(data), "it is synced before the promise is given"
        states.append((data, len(data), list(acknowledged)))
    log.close()
    for _ in range(images):
        data, safe, promised = chance.choice(states)
        length = chance.randrange(safe, len(data) + 1)
        image = bytearray(data[:length])
        for start in range(safe, length, SECTOR):
            fate = chance.random()
            end = min(length, (start // SECTOR + 1) * SECTOR)
            if fate < 0.3:
                image[start:end] = b"\0" * (end - start)
            elif fate < 0.4:
                image[start:end] = chance.randbytes(end - start)
        path.write_bytes(image)
        fresh = JsonlStore(folder)
        log = fresh.open("work")
        with log.turn():
            log.read()
            log.append(
                [{"type": "message", "id": "after", "parent": None, "role": "user", "content": "after", "time": ""}]
            )
        log.close()
        ids = [r.get("id") for r in fresh.records("work") if r.get("type") == "message"]
        assert set(promised) <= set(ids) and ids[-1] == "after" and fresh.check("work").sound
        for torn in folder.glob("work.torn-*"):
            torn.unlink()


def test_500_power_losses_lose_nothing_acknowledged(tmp_path: Path, chance: random.Random) -> None:
    check_power_losses(tmp_path / "s", chance, 500)


@pytest.mark.long
def test_10000_power_losses_lose_nothing_acknowledged(tmp_path: Path, chance: random.Random) -> None:
    check_power_losses(tmp_path / "s", chance, 10_000)


TALKER = """
import sys
from pathlib import Path
from chatmem.chat import Chat, Choice
from chatmem.memory.window import Window
from chatmem.models.base import Piece
from chatmem.stores.jsonl import JsonlStore
from chatmem.tokens import Counter, estimate
folder, who, times = sys.argv[1:]
class Echo:
    name, window = "echo", 8192
    def warm(self): pass
    def stream(self, messages, options):
        yield Piece(text=f"reply to {messages[-1]['content']} after {messages[-3]['content'] if len(messages) > 2 else 'nothing'}")
        yield Piece(finish="complete")
chat = Chat(JsonlStore(Path(folder)), "work", lambda s: Choice(Echo(), Window(1, 0), lambda m: Counter(None, estimate)))
for n in range(int(times)):
    list(chat.say(f"{who}{n}"))
"""


def check_crowd(folder: Path, times: int) -> None:
    """Two processes on one session: every turn is whole, in order, and each saw the one before it."""
    JsonlStore(folder).open("work", [header("work")]).close()
    crowd = [subprocess.Popen([sys.executable, "-c", TALKER, str(folder), who, str(times)]) for who in "ab"]
    assert [process.wait(600) for process in crowd] == [0, 0]
    session = JsonlStore(folder).session("work")
    assert len(session.turns) == 2 * times and session.damaged == 0
    before = "nothing"
    for turn in session.turns:
        assert turn.reply == f"reply to {turn.question.content} after {before}"
        before = turn.question.content
    for who in "ab":
        assert [t.question.content for t in session.turns if t.question.content[0] == who] == [
            f"{who}{n}" for n in range(times)
        ]


def test_2_processes_with_50_turns_each_lose_and_interleave_nothing(tmp_path: Path) -> None:
    check_crowd(tmp_path / "s", 50)


@pytest.mark.long
def test_2_processes_with_500_turns_each_lose_and_interleave_nothing(tmp_path: Path) -> None:
    check_crowd(tmp_path / "s", 500)


class Sessions(RuleBasedStateMachine):
    """The store against a list: whatever is done in whatever order, both say the same."""

    @initialize(where=st.just(None))
    def begin(self, where: None) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.store = JsonlStore(self.folder / "s")
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
        with self.log.turn():
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
        with self.log.turn():
            self.log.read()

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.store = JsonlStore(self.folder / "s")
        self.log = self.store.open(self.name)

    @rule()
    def rename(self) -> None:
        new = "play" if self.name == "work" else "work"
        self.store.rename(self.name, new)
        with self.log.turn():
            self.log.read()
        self.name = new
        assert self.log.name == new

    @rule()
    def vanish(self) -> None:
        self.store.path(self.name).unlink()
        with self.log.turn():
            self.log.read()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "store"):
            assert [r["content"] for r in self.store.records(self.name) if r["type"] == "message"] == self.model


TestSessions = Sessions.TestCase
TestSessions.settings = hypothesis_settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_check_names_the_broken_lines(tmp_path: Path) -> None:
    store = JsonlStore(tmp_path)
    store.open("work", [header("work")]).close()
    with store.path("work").open("ab") as file:
        file.write(b'oops\n{"type":"message"}\n{"type":"new kind"}\n{"half')
    verdict = store.check("work")
    assert (
        verdict.broken_lines,
        verdict.damaged_records,
        verdict.unknown_records,
        verdict.torn_tail,
        verdict.sound,
    ) == ([2], 1, 1, 6, False)
    assert json.dumps(verdict.record())
