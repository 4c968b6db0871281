"""System calls and databases fail at random. Acknowledged turns are stored once; every failure raises a ChatmemError."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.errors import ChatmemError, StorageError, StoreUnavailableError
from chatmem.history.records import new_id
from chatmem.history.session import Session
from chatmem.memory.strategies.buffer import BufferStrategy
from chatmem.stores import SessionStore, open_store
from chatmem.stores.database import log as database_log
from chatmem.stores.file.store import FileStore
from chatmem.tokens.counter import Counter
from tests.conftest import RecordProperty
from tests.databases import SCHEMES, Databases
from tests.fakes import ScriptedModel

pytestmark = [pytest.mark.claim("errors of disks and databases: turns lost or doubled"), pytest.mark.no_cover]

CODES = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EINTR, errno.ENOLCK)
TURNS = 8


class Faults:
    """Decides which calls fail, and counts those that did."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.rate, self.count = rng, 0.0, 0

    def now(self) -> bool:
        if self.rng.random() >= self.rate:
            return False
        self.count += 1
        return True


class FaultySystem:
    """The `os` module, whose calls fail at random. A write may be half done before."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in ("close", "fspath") or not callable(real):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            if self.faults.now():
                if name == "write" and self.faults.rng.random() < 0.5:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                code = self.faults.rng.choice(CODES)
                raise OSError(code, os.strerror(code))
            return real(*arguments, **options)

        return call


class FaultyDatabase:
    """A database whose operations fail at random: before they were carried out, or after."""

    def __init__(self, database: Any, faults: Faults) -> None:
        self._database, self._faults = database, faults

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._database, name)
        if name not in ("rows", "create", "link", "unlink", "rename", "read", "append", "lock", "unlock"):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            fails, is_done = self._faults.now(), self._faults.rng.random() < 0.5
            result = real(*arguments, **options) if is_done or not fails else None
            if fails:
                raise self._faults.rng.choice([StorageError, StoreUnavailableError])("injected")
            return result

        return call


def chat_on(store: SessionStore, model: ScriptedModel) -> Chat:
    config = TurnConfig(model, BufferStrategy(), lambda name: Counter(None, lambda text: len(text) // 4))
    return Chat(store, "work", lambda settings: config)


def check_faults(open_faulty: Callable[[Faults], SessionStore], intact: Callable[[], SessionStore], seed: int) -> int:
    """Chat while calls fail, then without failures. Returns the number of failures."""
    faults = Faults(random.Random(seed))
    chat: Chat | None = None
    acknowledged: list[str] = []
    sent: list[str] = []
    for number in range(TURNS):
        faults.rate = faults.rng.choice([0.0, 0.03, 0.1, 0.3])
        text = f"question {number}"
        sent.append(text)
        try:
            chat = chat or chat_on(open_faulty(faults), ScriptedModel())
            for _ in chat.send(text):
                pass
            acknowledged.append(text)
        except ChatmemError:
            pass
        if chat and faults.rng.random() < 0.2:
            faults.rate = 0.0  # as when the program ends
            chat.close()
            assert not chat.journal.has_unsaved_messages
            chat = None
    faults.rate = 0.0
    chat = chat or chat_on(open_faulty(faults), ScriptedModel())
    for _ in chat.send("the last one"):
        pass
    chat.close()
    with contextlib.closing(intact().open("work")) as log, log.exclusive():
        log.read()
    session = Session.replay("work", intact().records("work"))
    questions = [m.content for m in session.messages.values() if m.role == "user"]
    assert len(questions) == len(set(questions)) and set(questions) <= {*sent, "the last one"}, questions
    answered = [turn.question.content for turn in session.turns if turn.reply]
    assert [text for text in answered if text in acknowledged] == acknowledged, (answered, acknowledged)
    assert answered[-1] == "the last one" and session.malformed_count <= faults.count
    replies = [m for m in session.messages.values() if m.role == "assistant"]
    assert len({m.parent for m in replies}) == len(replies), "a reply is there twice"
    return faults.count


@pytest.fixture(params=["file", *SCHEMES])
def check(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], int]:
    """Runs one case with a seed on one kind of store. Returns the number of failures in it."""
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    for name, module in list(sys.modules.items()):  # a lease whose return failed is waited for
        if name.startswith("chatmem.stores.database") and hasattr(module, "LEASE_SECONDS"):
            monkeypatch.setattr(module, "LEASE_SECONDS", 1.0)
    url = databases.url(request.param, tmp_path) if request.param in SCHEMES else ""

    def on_files(seed: int) -> int:
        directory = tmp_path / str(seed)
        return check_faults(
            lambda faults: FileStore(directory, system=FaultySystem(faults)), lambda: FileStore(directory), seed
        )

    def on_database(seed: int) -> int:
        directory, user = tmp_path / str(seed), new_id()

        def open_faulty(faults: Faults) -> SessionStore:
            store: Any = open_store(url, directory, user)
            store.database = store.catalog.database = FaultyDatabase(store.database, faults)
            store.outbox.store.system = store.outbox.directory.system = FaultySystem(faults)
            return store  # type: ignore[no-any-return]

        return check_faults(open_faulty, lambda: open_store(url, directory, user), seed)

    return on_database if url else on_files


def check_failures(check: Callable[[int], int], rng: random.Random, wanted: int) -> int:
    """Run cases until there were `wanted` failures."""
    failures = 0
    while failures < wanted:
        seed = rng.randrange(1 << 32)
        try:
            failures += check(seed)
        except BaseException:
            print(f"seed of the case: {seed}")
            raise
    return failures


def test_20_failures_lose_and_double_no_turn(
    check: Callable[[int], int], rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", check_failures(check, rng, 20))


@pytest.mark.long
def test_2000_failures_lose_and_double_no_turn(
    check: Callable[[int], int], rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", check_failures(check, rng, 2000))
