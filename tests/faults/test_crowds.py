"""Many processes at once: on one SQLite file, and a thousand questions, forty at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chatmem.history.records import header
from chatmem.history.session import Session
from chatmem.stores import open_store
from tests.conftest import RecordProperty
from tests.server import Server
from tests.stores.test_databases import texts

pytestmark = [pytest.mark.claim("crowds of processes: turns lost or doubled"), pytest.mark.no_cover]

MAX_MEGABYTES = 300
"""The most memory of one process."""

WRITER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from chatmem.stores import open_store
from tests.stores.test_databases import question
url, data, name, turns = sys.argv[1:]
def write(thread):
    log = open_store(url, Path(data), "").open("work")
    for turn in range(int(turns)):
        with log.exclusive():
            log.read()
            for word in ("asks", "answers"):
                log.append([question(f"{name}-{thread} {turn} {word}")])
    log.close()
with ThreadPoolExecutor(2) as threads:
    list(threads.map(write, range(2)))
"""


def check_sqlite_crowd(directory: Path, server: Server, processes: int, turns: int) -> int:
    """Processes with two threads each append to one session of an SQLite file, beside `ask` on the same file."""
    url = f"sqlite:///{directory}/chats.db"
    open_store(url, directory, "").open("work", [header("work")]).close()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(directory / f"m{n}"), str(n), str(turns)])
        for n in range(processes)
    ]
    asks = 0
    while any(writer.poll() is None for writer in writers):
        ask = [sys.executable, "-m", "chatmem", "ask", f"question {asks}", "-s", "asked", "--store", url]
        assert subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
        asks += 1
    assert [writer.returncode for writer in writers] == [0] * processes
    store = open_store(url, directory, "")
    stored = texts(store, "work")
    assert len(stored) == 4 * processes * turns
    for first, second in zip(stored[::2], stored[1::2], strict=True):
        assert second == first.replace("asks", "answers")
    for writer in (f"{n}-{thread}" for n in range(processes) for thread in range(2)):
        mine = [text for text in stored if text.startswith(f"{writer} ") and "asks" in text]
        assert mine == [f"{writer} {turn} asks" for turn in range(turns)]
    assert [t.question.content for t in store.session("asked").turns] == [f"question {n}" for n in range(asks)]
    return 2 * processes * turns + asks


def test_3_processes_with_two_threads_on_one_sqlite_file_lose_and_double_nothing(
    tmp_path: Path, server: Server, record_property: RecordProperty
) -> None:
    record_property("cases", check_sqlite_crowd(tmp_path, server, 3, 8))


@pytest.mark.long
def test_8_processes_with_two_threads_on_one_sqlite_file_lose_and_double_nothing(
    tmp_path: Path, server: Server, record_property: RecordProperty
) -> None:
    record_property("cases", check_sqlite_crowd(tmp_path, server, 8, 60))


def peak_megabytes(command: list[str]) -> float:
    """Run a command that must succeed. Returns the most memory that it used."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    shown, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == 0 and b"Traceback" not in errors and shown, errors
    return usage.ru_maxrss / 1024


def check_asks(home: Path, server: Server, asks: int, at_once: int, store: Callable[[int], list[str]]) -> None:
    """Ask questions in 20 sessions, many at once. Each is there once with its reply, and no process grows large."""
    started = time.monotonic()
    commands = [
        [sys.executable, "-m", "chatmem", "ask", f"question {n}", "-s", f"s{n % 20}", *store(n)] for n in range(asks)
    ]
    with ThreadPoolExecutor(at_once) as threads:
        peaks = list(threads.map(peak_megabytes, commands))
    print(f"{asks} questions in {time.monotonic() - started:.0f} s, at most {max(peaks):.0f} MB")
    assert max(peaks) < MAX_MEGABYTES
    found = []
    for number in range(20):
        name, url = f"s{number}", (store(number) or ["", "file"])[1]
        session = Session.replay(name, open_store(url, home / "data", "").records(name))
        assert all(turn.reply for turn in session.turns) and len(session.messages) == 2 * len(session.turns)
        found += [turn.question.content for turn in session.turns]
    assert sorted(found) == sorted(f"question {n}" for n in range(asks))


@pytest.mark.long
def test_1000_questions_40_at_a_time_are_each_stored_once_with_their_reply(
    home: Path, server: Server, record_property: RecordProperty
) -> None:
    record_property("cases", 1000)
    check_asks(home, server, 1000, 40, lambda n: [] if n % 2 else ["--store", f"sqlite:///{home}/chats.db"])
