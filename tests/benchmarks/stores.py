"""What a database costs: a turn's append at any length and a list of many sessions, beside LangChain's histories.

    python -m tests.benchmarks.stores [--quick]

The servers are started here, on free ports. `append` is what both do: two messages, durable on return. `turn` is what
only we do: lease, reading what others added, the append, giving the lease back.
"""

from __future__ import annotations

import contextlib
import importlib.util
import statistics
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chatmem.records import header, new_id, now
from chatmem.stores import open_store
from tests.benchmarks.program import measured
from tests.benchmarks.rows import Row, judged, missing, seconds, spread
from tests.databases import Databases

KINDS = ("file", "sqlite", "redis", "postgres")
PEERS = {
    "sqlite": "SQLChatMessageHistory",
    "redis": "RedisChatMessageHistory",
    "postgres": "PostgresChatMessageHistory",
}
TEXT = "word " * 60


def message(role: str = "user") -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": None, "role": role, "content": TEXT, "time": now()}


def ours(url: str, folder: Path, length: int) -> tuple[Callable[[], None], Callable[[], None], Any]:
    """An append of two messages in a held turn, a whole turn, and the turn to hold."""
    store = open_store(url, folder, new_id())
    store.open("work", [header("work"), *(message() for _ in range(length))]).close()
    log = store.open("work")
    log.read()

    def append() -> None:
        log.append([message(), message("assistant")])

    def turn() -> None:
        with log.turn():
            log.read()
            append()

    return append, turn, log


def theirs(kind: str, url: str, folder: Path, length: int) -> Callable[[], None]:
    """The same append in LangChain's class for this server."""
    from langchain_core.messages import AIMessage, HumanMessage

    history: Any
    if kind == "sqlite":
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        history = SQLChatMessageHistory("work", connection=f"sqlite:///{folder}/theirs{length}.db")
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


def compared(kind: str, url: str, folder: Path, long: int, times: int) -> Iterator[Row]:
    short_append, short_turn, short_log = ours(url, folder, 10)
    append, turn, log = ours(url, folder, long)
    peer = None
    if kind in PEERS and importlib.util.find_spec("langchain_community"):
        with contextlib.suppress(ImportError):
            peer = theirs(kind, url, folder, long)
    with short_log.turn(), log.turn():
        samples: list[tuple[float, float, float]] = []
        for number in range(times + 3):  # taking turns, so that a busy moment meets all of them
            found = tuple(seconds(once, 1, 0)[0] for once in (append, short_append, peer or append))
            if number >= 3:
                samples.append(found)  # type: ignore[arg-type]
    at_length, at_ten, at_peer = (statistics.median(column) for column in zip(*samples, strict=True))
    micros = spread([s[0] for s in samples], " ms", 1000)
    if kind in PEERS:
        claim = f"{kind}: append at {long:,} messages"
        yield (
            judged(claim, at_length / at_peer, 1.0, " x", PEERS[kind], micros) if peer else missing(claim, PEERS[kind])
        )
    yield judged(f"{kind}: append at {long:,} messages, of one at 10", at_length / at_ten, 1.5, " x", spread=micros)
    whole, short = seconds(turn, times), seconds(short_turn, times)
    ratio = statistics.median(whole) / statistics.median(short)
    yield judged(
        f"{kind}: whole turn at {long:,} messages, of one at 10", ratio, 1.5, " x", spread=spread(whole, " ms", 1000)
    )


def listed(kind: str, url: str, folder: Path, count: int) -> Row:
    user = new_id()
    store = open_store(url, folder, user)
    for number in range(count):
        store.open(f"session {number}", [header("x"), *(message() for _ in range(10))]).close()

    def read_each() -> None:
        for name in store.names():
            store.records(name)

    first = seconds(store.outlines, 1, 0)[0]
    listing, reading = seconds(store.outlines, 5), seconds(read_each, 1, 0)
    share = statistics.median(listing) / reading[0]
    claim = f"{kind}: list {count:,} sessions, of reading each (first time {first:.1f} s)"
    return judged(claim, share, 0.2, " x", spread=spread(listing, " ms", 1000))


def rows(quick: bool) -> Iterator[Row]:
    long, times, count = (1_000, 30, 100) if quick else (10_000, 200, 1_000)
    databases = Databases()
    try:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as name:
                url = databases.url(kind, Path(name))
                yield from compared(kind, url, Path(name), long, times)
                yield listed(kind, url, Path(name), count)
    finally:
        databases.close()


if __name__ == "__main__":
    measured(rows)
