"""The power fails while an SQLite store is written to. Nothing acknowledged is lost.

What SQLite syncs is what it promises (https://www.sqlite.org/atomiccommit.html, https://www.sqlite.org/wal.html): the log
at every commit, the database before the log is used from its start again. Everything else may be lost or half written.
`tests/stores/test_durability.py` does the same for session files.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest

from chatmem.history.records import header
from chatmem.stores import open_store
from tests.conftest import RecordProperty
from tests.stores.test_databases import question, texts

pytestmark = [pytest.mark.claim("power losses: records lost"), pytest.mark.no_cover]

SECTOR = 512
LOG_HEADER = 32
"""Bytes of the header of a log (https://www.sqlite.org/fileformat.html, section 4.1)."""


class Moment(NamedTuple):
    """A moment at which the power may fail: what is on disk for certain, and what was being written."""

    database: bytes
    log: bytes
    next_database: bytes
    next_log: bytes
    acknowledged: list[str]


def moments(directory: Path, rng: random.Random) -> list[Moment]:
    """Append records, with checkpoints in between, and note the files before and after each step."""
    path = directory / "chats.db"
    store = open_store(f"sqlite:///{path}", directory)
    log = store.open("work", [header("work")])
    checkpointer = sqlite3.connect(path)
    files = (path, path.with_name("chats.db-wal"))
    found, acknowledged = [], list[str]()
    for number in range(40):
        before = [file.read_bytes() for file in files]
        if number % 8 == 7:
            checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        else:
            with log.exclusive():
                log.read()
                log.append([question(text := f"{number} " + "é" * rng.choice([5, 300, 3000]))])
        after = [file.read_bytes() for file in files]
        if before[1][:LOG_HEADER] != after[1][:LOG_HEADER]:  # the log restarts: its header is synced before the frames
            with_header = after[1][:LOG_HEADER] + before[1][LOG_HEADER:]
            found.append(Moment(before[0], before[1], before[0], with_header, list(acknowledged)))
            before[1] = with_header
        found.append(Moment(before[0], before[1], after[0], after[1], list(acknowledged)))
        if number % 8 != 7:
            acknowledged.append(text)
    checkpointer.close()
    return found


def torn(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """A file of which any sector may have its old or its new content, and whose end may be missing or zero."""
    length = rng.randrange(min(len(old), len(new)), max(len(old), len(new)) + 1)
    image = bytearray(old[:length].ljust(length, b"\0"))
    for start in range(0, length, SECTOR):
        end = min(start + SECTOR, length)
        if rng.random() < 0.5:
            image[start:end] = new[start:end].ljust(end - start, b"\0")
        elif start >= len(old) and rng.random() < 0.2:
            image[start:end] = rng.randbytes(end - start)
    return bytes(image)


def check_power_losses(directory: Path, rng: random.Random, images: int) -> None:
    directory.mkdir()
    candidates = moments(directory, rng)
    for number in range(images):
        moment = rng.choice(candidates)
        image = directory / str(number)
        image.mkdir()
        (image / "chats.db").write_bytes(torn(moment.database, moment.next_database, rng))
        (image / "chats.db-wal").write_bytes(torn(moment.log, moment.next_log, rng))
        store = open_store(f"sqlite:///{image}/chats.db", image)
        found = texts(store, "work")
        expected = len(moment.acknowledged)
        assert found[:expected] == moment.acknowledged and len(found) <= expected + 1
        log = store.open("work")
        with log.exclusive():
            log.read()
            log.append([question("after")])
        assert not log.unavailable and texts(store, "work") == [*found, "after"]
        store.database.close()  # type: ignore[attr-defined]
        shutil.rmtree(image)


def test_2_power_losses_of_sqlite_lose_nothing_acknowledged(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 2)
    check_power_losses(tmp_path / "s", rng, 2)


@pytest.mark.long
def test_2500_power_losses_of_sqlite_lose_nothing_acknowledged(
    tmp_path: Path, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 2500)
    check_power_losses(tmp_path / "s", rng, 2500)
