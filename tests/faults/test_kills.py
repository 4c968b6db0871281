"""The program is killed between any two of its lines. What was acknowledged is there, once and in order."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatmem.history.records import header, new_id
from chatmem.history.session import Session
from chatmem.stores import SessionStore, open_store
from tests.conftest import RecordProperty, Run
from tests.databases import SCHEMES, Databases
from tests.stores.test_databases import question, texts

pytestmark = [pytest.mark.claim("kills between any two lines: records lost or doubled"), pytest.mark.no_cover]

KILLED = -9


@dataclass
class Victim:
    """Runs commands on a store of its own, and kills them at random lines."""

    run: Run
    home: Path
    url: str
    rng: random.Random
    kills: int = 0
    _lines: dict[str, int] = field(default_factory=dict)
    """How many lines each kind of command runs."""

    def __post_init__(self) -> None:
        self.counter = self.home / "lines"
        self.counter.write_bytes(bytes(8))
        self.user = new_id()

    def store(self) -> SessionStore:
        return open_store(self.url, self.home / "data", self.user)

    def command(self, *arguments: str, at: int = 0, input: str = "") -> tuple[int, str]:
        """Run a command, and kill it at a line. Returns its exit code and its output."""
        place = ["--store", self.url, "--user", self.user]
        env = {"TEST_LINE_COUNTER": str(self.counter), "TEST_KILLED_AT_LINE": str(at)}
        done = self.run(*arguments, *place, input=input, **env)
        assert "Traceback" not in done.stderr and "chatmem failed" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def killed(self, kind: str, *arguments: str, input: str = "") -> tuple[int, str]:
        """Run a command, and kill it at a random line. It may end before: then it must succeed."""
        if kind not in self._lines:
            assert self.command(*arguments, input=input)[0] == 0
            (self._lines[kind],) = struct.unpack("Q", self.counter.read_bytes())
            assert self._lines[kind] > 100
            return 0, ""
        code, output = self.command(*arguments, at=self.rng.randrange(1, self._lines[kind] + 1), input=input)
        assert code in (0, KILLED)
        self.kills += code == KILLED
        return code, output


@pytest.fixture
def victim(request: pytest.FixtureRequest, run: Run, home: Path, rng: random.Random, databases: Databases) -> Victim:
    kind = getattr(request, "param", "file")
    return Victim(run, home, databases.url(kind, home) if kind in SCHEMES else kind, rng)


def check_asks(victim: Victim, times: int) -> None:
    """Kill `ask`. A question whose reply was acknowledged is there once, with its reply, in order."""
    acknowledged: list[str] = []
    sent: list[str] = []
    while victim.kills < times:
        text = f"Number {len(sent)} is my favourite."
        sent.append(text)
        code, shown = victim.killed("ask", "ask", text, "-s", "work", "-m", "offline")
        if code == 0:
            acknowledged.append(text)
        elif shown:
            session = Session.replay("work", victim.store().records("work"))
            assert session.path[-1].content.startswith(shown.rstrip("\n"))
    victim.command("ask", "the last one", "-s", "work", "-m", "offline")
    session = victim.store().session("work")
    questions = [message.content for message in session.messages.values() if message.role == "user"]
    assert len(questions) == len(set(questions)) and set(questions) <= {*sent, "the last one"}
    on_path = [turn.question.content for turn in session.turns if turn.reply]
    assert [text for text in on_path if text in acknowledged] == acknowledged
    assert victim.store().check("work", deep=True).ok


def check_summaries(victim: Victim, times: int) -> None:
    """Kill a piped chat that summarises. No message is lost or changed, whatever became of the summary."""
    victim.command("ask", "The first thing that is said.", "-s", "work", "-m", "offline")
    lines = "".join(f"Line {n}: {'some more words ' * 12}\n" for n in range(3))
    while victim.kills < times:
        before = texts(victim.store(), "work")
        victim.killed("chat", "chat", "-s", "work", "-m", "offline", "--memory", "summary:256", input=lines)
        assert texts(victim.store(), "work")[: len(before)] == before
        if len(before) > 60:
            victim.command("sessions", "delete", "work", "--yes")
            victim.command("ask", "The first thing that is said.", "-s", "work", "-m", "offline")


def check_forks(victim: Victim, times: int) -> None:
    """Kill `sessions fork`. The copy is complete or not there."""
    victim.store().open("work", [header("work"), *(question(f"text {n}") for n in range(5))]).close()
    original, number = victim.store().records("work"), 0
    while victim.kills < times:
        number += 1
        code, _ = victim.killed("fork", "sessions", "fork", "work", f"copy{number}")
        store = victim.store()
        assert code == KILLED or f"copy{number}" in store.names()
        if f"copy{number}" in store.names():
            session, copied = store.session("work"), store.session(f"copy{number}")
            assert [m.content for m in copied.path] == [m.content for m in session.path]
        assert store.records("work") == original


def check_renames(victim: Victim, times: int) -> None:
    """Kill `sessions rename`. The session has one of the two names, and everything in it."""
    victim.store().open("before", [header("before"), *(question(f"text {n}") for n in range(5))]).close()
    old, new = "before", "after"
    while victim.kills < times:
        code, _ = victim.killed("rename", "sessions", "rename", old, new)
        (name,) = victim.store().names()
        assert (code == KILLED and name == old) or name == new
        assert texts(victim.store(), name) == [f"text {n}" for n in range(5)]
        if name == new:
            old, new = new, old


def check_prunes(victim: Victim, times: int) -> None:
    """Kill `sessions prune`. A session is there as a whole, or in the trash as a whole."""
    trash = victim.home / "data" / "users" / victim.user / "trash"
    kept = question("kept")
    number = 0
    while victim.kills < times:
        number += 1
        old = {**question("old"), "time": "2020-01-01T00:00:00.000Z"}
        victim.store().open(f"old{number}", [{**header("x"), "created": "2020-01-01T00:00:00.000Z"}, old]).close()
        if number == 1:
            victim.store().open("work", [header("work"), kept]).close()
        code, _ = victim.killed("prune", "sessions", "prune", "--older-than", "30d", "--yes")
        names = victim.store().names()
        assert "work" in names and texts(victim.store(), "work") == ["kept"]
        if f"old{number}" in names:
            assert code == KILLED and texts(victim.store(), f"old{number}") == ["old"]
        elif victim.url == "file":
            (moved,) = trash.glob(f"old{number}.*")
            assert '"old"' in moved.read_text()


def check_copies(victim: Victim, times: int) -> None:
    """Kill `sessions copy`, and run it again. The copy is the same, whatever the first run left."""
    victim.store().open("work", [header("work"), *(question(f"text {n}") for n in range(5))]).close()
    number = 0
    while victim.kills < times:
        number += 1
        target = f"sqlite:///{victim.home}/copy{number}.db"
        command = ["sessions", "copy", "work", "--from", victim.url, "--to", target]
        victim.killed("copy", *command)
        assert victim.command(*command)[0] == 0
        assert open_store(target, victim.home / "data", victim.user).records("work") == victim.store().records("work")


def check_imports(victim: Victim, times: int) -> None:
    """Kill `import`, and run it again. Every conversation is there once, and complete."""
    number = 0
    while victim.kills < times:
        number += 1
        source = victim.home / "conversations.json"
        source.write_text(json.dumps([claude_conversation(f"{number}-{n}") for n in range(4)]))
        victim.killed("import", "import", str(source))
        assert victim.command("import", str(source))[0] == 0
        names = sorted(name for name in victim.store().names() if name.startswith(f"talk-{number}-"))
        assert names == [f"talk-{number}-{n}" for n in range(4)]
        for name in names:
            assert texts(victim.store(), name) == [f"asked in {name}", f"answered in {name}"]
    unfinished = [p for p in (victim.home / "data").rglob(".*.new") if p.name.count("-") != 2]
    assert not unfinished


def claude_conversation(ident: str) -> dict[str, object]:
    """One conversation of an export of Claude."""
    name, time = f"talk-{ident}", "2025-01-01T00:00:00Z"
    said = [("human", f"asked in {name}"), ("assistant", f"answered in {name}")]
    messages = [{"uuid": f"{ident}-{who}", "sender": who, "text": text, "created_at": time} for who, text in said]
    return {"uuid": ident, "name": name, "created_at": time, "updated_at": time, "chat_messages": messages}


CHECKS: dict[str, tuple[Callable[[Victim, int], None], int]] = {
    "ask": (check_asks, 160),
    "summary": (check_summaries, 80),
    "fork": (check_forks, 60),
    "rename": (check_renames, 60),
    "prune": (check_prunes, 60),
    "copy": (check_copies, 60),
    "import": (check_imports, 60),
}
"""The check of each kind of command, and how many kills the long test makes of it in each store."""


@pytest.mark.parametrize(
    ("victim", "kind"),
    [*(("file", kind) for kind in CHECKS), ("sqlite", "ask"), ("sqlite", "import")],
    indirect=["victim"],
)
def test_3_kills_lose_and_double_nothing(victim: Victim, kind: str, record_property: RecordProperty) -> None:
    CHECKS[kind][0](victim, 3)
    record_property("cases", victim.kills)


@pytest.mark.long
@pytest.mark.parametrize("kind", CHECKS)
@pytest.mark.parametrize("victim", ["file", *SCHEMES], indirect=True)
def test_many_kills_lose_and_double_nothing(victim: Victim, kind: str, record_property: RecordProperty) -> None:
    check, kills = CHECKS[kind]
    check(victim, kills)
    record_property("cases", victim.kills)
