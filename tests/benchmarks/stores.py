"""The cost of databases: appending to long sessions and listing many, compared to the histories of LangChain.

    python -m tests.benchmarks.stores [--quick]

The servers are started on free ports. An append adds two messages, durable on return. A turn takes the lease, reads what
others added, appends, and releases the lease; the histories of LangChain have no equivalent.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import header, new_id, utc_now
from chatmem.stores import SessionLog, open_store
from tests.benchmarks.rows import Claim, Row, half, measured, seconds
from tests.databases import Databases

PEERS = {
    "sqlite": "SQLChatMessageHistory",
    "redis": "RedisChatMessageHistory",
    "postgresql": "PostgresChatMessageHistory",
}
KINDS = ("file", *PEERS)
BESIDE = {
    kind: Claim(f"{kind}: append a turn to a long session", compared_to=peer, at_most=1.0)
    for kind, peer in PEERS.items()
}
FLAT = {
    kind: Claim(f"{kind}: append to a long session", compared_to="one to a short one", at_most=1.5) for kind in KINDS
}
TURN = {
    kind: Claim(f"{kind}: whole turn in a long session", compared_to="one in a short one", at_most=1.5)
    for kind in KINDS
}
LIST = {kind: Claim(f"{kind}: list sessions", compared_to="reading each", at_most=0.2) for kind in KINDS}
CLAIMS = (*BESIDE.values(), *FLAT.values(), *TURN.values(), *LIST.values())
TEXT = "word " * 60


def message(role: str = "user") -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": None, "role": role, "content": TEXT, "time": utc_now()}


def ours(url: str, directory: Path, length: int) -> tuple[Callable[[], None], Callable[[], None], SessionLog]:
    """An append of two messages under the lease, a whole turn, and the session."""
    store = open_store(url, directory, new_id())
    store.open("work", [header("work"), *(message() for _ in range(length))]).close()
    log = store.open("work")
    log.read()

    def append() -> None:
        log.append([message(), message("assistant")])

    def turn() -> None:
        with log.exclusive():
            log.read()
            append()

    return append, turn, log


def theirs(kind: str, url: str, directory: Path, length: int) -> Callable[[], None]:
    """The same append in LangChain's class for this server."""
    warnings.simplefilter("ignore")
    from langchain_core.messages import AIMessage, HumanMessage

    history: Any
    if kind == "sqlite":
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        history = SQLChatMessageHistory("work", connection=f"sqlite:///{directory}/theirs.db")
    elif kind == "redis":
        from langchain_community.chat_message_histories import RedisChatMessageHistory

        history = RedisChatMessageHistory(uuid.uuid4().hex, url=url)
    else:
        import psycopg
        from langchain_postgres import PostgresChatMessageHistory

        connection = psycopg.connect(url)
        PostgresChatMessageHistory.create_tables(connection, "theirs")
        history = PostgresChatMessageHistory("theirs", str(uuid.uuid4()), sync_connection=connection)
    pair = [HumanMessage(TEXT), AIMessage(TEXT)]
    for start in range(0, length, 1000):
        history.add_messages(pair * (min(1000, length - start) // 2))
    return lambda: history.add_messages(pair)


def compare_kind(kind: str, url: str, directory: Path, long: int, times: int) -> Iterator[Row]:
    short_append, short_turn, short_log = ours(url, directory, 10)
    append, turn, log = ours(url, directory, long)
    peer = None
    if kind in PEERS and importlib.util.find_spec("langchain_core"):
        with contextlib.suppress(ImportError):
            peer = theirs(kind, url, directory, long)
    samples = []
    with short_log.exclusive(), log.exclusive():
        for number in range(times + 3):  # alternating, so that noise affects all of them
            found = [seconds(once, 1, 0)[0] for once in (append, short_append, peer or append)]
            if number >= 3:
                samples.append(found)
    at_length, at_ten, at_peer = (statistics.median(column) for column in zip(*samples, strict=True))
    spread, how = half([s[0] for s in samples], " ms", 1000), f"{long:,} messages, {times} times"
    if kind in PEERS:
        yield BESIDE[kind].row(at_length / at_peer, spread, how) if peer else BESIDE[kind].missing(PEERS[kind])
    yield FLAT[kind].row(at_length / at_ten, spread, how)
    turns = [(seconds(turn, 1, 0)[0], seconds(short_turn, 1, 0)[0]) for _ in range(times)]
    whole, short = ([pair[n] for pair in turns] for n in (0, 1))
    yield TURN[kind].row(statistics.median(whole) / statistics.median(short), half(whole, " ms", 1000), how)


def list_many(kind: str, url: str, directory: Path, count: int) -> Row:
    store = open_store(url, directory, new_id())
    for number in range(count):
        store.open(f"session {number}", [header("x"), *(message() for _ in range(10))]).close()

    def read_each() -> None:
        for name in store.names():
            store.records(name)

    first = seconds(store.list_sessions, 1, 0)[0]
    listing, reading = seconds(store.list_sessions, 5), seconds(read_each, 1, 0)
    how = f"{count:,} sessions; the first list {first:.1f} s"
    return LIST[kind].row(statistics.median(listing) / reading[0], half(listing, " ms", 1000), how)


def rows(quick: bool) -> Iterator[Row]:
    long, times, count = (1_000, 30, 100) if quick else (10_000, 200, 1_000)
    databases = Databases()
    try:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as name:
                try:
                    url = "file" if kind == "file" else databases.url(kind, Path(name))
                except pytest.skip.Exception as reason:  # no server, or no driver
                    claims = [table[kind] for table in (BESIDE, FLAT, TURN, LIST) if kind in table]
                    yield from (Row(claim.name, "not measured", str(reason)) for claim in claims)
                    continue
                yield from compare_kind(kind, url, Path(name), long, times)
                yield list_many(kind, url, Path(name), count)
    finally:
        databases.close()


if __name__ == "__main__":
    measured(rows)
