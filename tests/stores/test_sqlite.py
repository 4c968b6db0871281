"""SQLite under several stores of one process, beside other processes: its locks belong to the process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chatmem.errors import StorageError, UsageError
from chatmem.history.records import header
from chatmem.input_files import open_input
from chatmem.stores import SessionStore, open_store
from chatmem.stores.database import log as database_log
from chatmem.stores.database.sqlite import SqliteDatabase
from tests.conftest import Run
from tests.stores.test_databases import ask, chat_on, question, texts

pytestmark = pytest.mark.claim("database faults: turns lost, torn or repeated")

PROGRAM = """
import contextlib, os, sys
from pathlib import Path
from chatmem.config.loading import read_system_prompt
from chatmem.errors import UsageError
from chatmem.formats.importer import read_conversations
from chatmem.history.records import header
from chatmem.repl.attachments import attach_files
from chatmem.stores import open_store
from tests.stores.test_databases import question

database, data, action = sys.argv[1:]
store = open_store(f"sqlite:///{database}", Path(data))
logs = [store.open("work", [header("work")])]
for line in sys.stdin:
    for log in logs:
        with log.exclusive():
            log.append([question(line.strip())])
    with contextlib.suppress(UsageError):
        if action == "a second store":
            second = open_store(f"sqlite:///{database}", Path(data))
            second.names()
        elif action == "a second store through a link":
            os.symlink(database, f"{database}.link")
            open_store(f"sqlite:///{database}.link", Path(data)).names()
        elif action == "an attachment":
            attach_files(f"see @{database}")
        elif action == "an attachment after another store was closed":
            for _ in range(2):
                closed = open_store(f"sqlite:///{database}", Path(data))
                closed.names()
                closed.database.close()
                del closed
            attach_files(f"see @{database}")
        elif action == "an attachment of the shared memory":
            attach_files(f"see @{database}-shm")
        elif action == "an attachment through a link":
            os.link(database, f"{database}.hard")
            attach_files(f"see @{database}.hard")
        elif action == "an import":
            read_conversations(Path(database))
        elif action == "a system prompt":
            read_system_prompt(f"@{database}")
    action = ""
    print("stored", flush=True)
"""
"""Stores a message per line of stdin, and after the first one does something else with the file."""


def store_at(path: Path, home: Path) -> SessionStore:
    return open_store(f"sqlite:///{path}", home / "data")


@pytest.mark.parametrize(
    "action",
    [
        "a second store",
        "a second store through a link",
        "an attachment",
        "an attachment after another store was closed",
        "an attachment of the shared memory",
        "an attachment through a link",
        "an import",
        "a system prompt",
    ],
)
def test_nothing_is_lost_if_a_process_opens_its_database_twice_beside_another_process(
    action: str, run: Run, home: Path
) -> None:
    database = home / "chats.db"
    command = [sys.executable, "-c", PROGRAM, str(database), str(home / "data"), action]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as program:
        assert program.stdin and program.stdout
        for number in range(3):
            program.stdin.write(f"message {number}\n")
            assert program.stdout.readline() == "stored\n"
            other = run("ask", "-m", "offline", "-s", "other", "--store", f"sqlite:///{database}", f"hello {number}")
            assert other.returncode == 0, other.stderr
        program.kill()
    stored = store_at(database, home)
    assert texts(stored, "work") == ["message 0", "message 1", "message 2"]
    assert texts(stored, "other")[::2] == ["hello 0", "hello 1", "hello 2"]


def open_descriptors(path: Path) -> int:
    """How many descriptors of a file this process has open."""
    return sum(link.samefile(path) for link in Path("/proc/self/fd").iterdir() if link.exists())


def test_stores_of_one_process_share_a_connection(home: Path) -> None:
    stores = [store_at(home / "chats.db", home) for _ in range(50)]
    stores[0].open("work", [header("work")]).close()
    assert all(store.names() == ["work"] for store in stores)
    assert open_descriptors(home / "chats.db") == 1


def test_a_connection_is_open_until_the_last_store_that_uses_it_is_closed(home: Path) -> None:
    first, second = store_at(home / "chats.db", home), store_at(home / "chats.db", home)
    first.open("work", [header("work")]).close()
    assert second.names() == ["work"]
    first.database.close()  # type: ignore[attr-defined]
    assert (home / "chats.db-wal").exists() and second.names() == ["work"]
    second.database.close()  # type: ignore[attr-defined]
    assert not (home / "chats.db-wal").exists() and first.names() == ["work"]


def test_a_database_that_is_deleted_in_the_middle_of_a_chat_is_created_again(home: Path) -> None:
    chat = chat_on(store_at(home / "chats.db", home), "work")
    ask(chat, "one")
    for path in home.glob("chats.db*"):
        path.unlink()
    ask(chat, "two")
    assert "two" in texts(store_at(home / "chats.db", home), "work")


def test_a_database_keeps_its_mode_private(home: Path) -> None:
    store_at(home / "chats.db", home).open("work", [header("work"), question("one")]).close()
    assert [path.stat().st_mode & 0o777 for path in sorted(home.glob("chats.db*"))] == [0o600] * 3


class FailingConnection:
    """A connection on which one statement is executed, and then fails."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: BaseException) -> None:
        self.connection, self.statement, self.error = connection, statement, error

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def execute(self, statement: str) -> None:
        if statement.startswith("COMMIT") and self.statement == "COMMIT":
            raise self.error
        self.connection.execute(statement)
        if statement.startswith(self.statement):
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), sqlite3.OperationalError("database is locked")])
@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT", "none"])
def test_no_transaction_is_left_open_whatever_fails(statement: str, error: BaseException, tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite:///{tmp_path}/chats.db")
    with database.session():
        pass
    connection = FailingConnection(database.connection, statement, error)
    with pytest.raises(type(error)), database.begin(connection):
        raise error
    assert not database.connection.in_transaction
    with database.session() as execute:
        execute("SELECT 1")


def test_an_error_after_which_sqlite_has_rolled_back_is_reported_as_it_is(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite:///{tmp_path}/chats.db")
    with pytest.raises(StorageError, match="database or disk is full"), database.session() as execute:
        execute("PRAGMA max_page_count = 1")
        execute(
            "CREATE TABLE big AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 99999) SELECT * FROM n"
        )


FORKING_PROGRAM = """
import os, sys
from pathlib import Path
from chatmem.history.records import header
from chatmem.stores import open_store
from tests.stores.test_databases import question

database, data = sys.argv[1:]
store = open_store(f"sqlite:///{database}", Path(data))

def say(log, text):
    with log.exclusive():
        log.read()
        log.append([question(text)])

log = store.open("work", [header("work")])
say(log, "parent")
closed, told = os.pipe()
if os.fork() == 0:
    own = store.open("work")
    say(own, "child 1")
    os.read(closed, 1)
    say(own, "child 2")
    os.kill(os.getpid(), 9)
while "child 1" not in [r.get("content") for r in store.records("work")]:
    os.sched_yield()
store.database.close()
os.write(told, b".")
os.wait()
"""


def test_a_store_can_be_used_after_a_fork(home: Path) -> None:
    command = [sys.executable, "-c", FORKING_PROGRAM, str(home / "chats.db"), str(home / "data")]
    subprocess.run(command, check=True, timeout=60)
    assert texts(store_at(home / "chats.db", home), "work") == ["parent", "child 1", "child 2"]


def test_a_directory_that_vanishes_in_the_middle_of_a_turn_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    directory = tmp_path / "disk"
    directory.mkdir()
    chat = chat_on(store_at(directory / "chats.db", tmp_path), "work")
    ask(chat, "one")
    pieces = chat.send("two")
    next(pieces)
    directory.rename(tmp_path / "gone")
    list(pieces)
    ask(chat, "three")
    assert chat.save_error is None
    (tmp_path / "gone").rename(directory)
    ask(chat, "four")
    path = store_at(directory / "chats.db", tmp_path / "elsewhere").session("work").path
    assert [m.content for m in path if m.role == "user"] == ["one", "two", "three", "four"] and len(path) == 8


def test_a_link_that_leads_elsewhere_later_changes_nothing_in_this_process(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first.db", tmp_path / "second.db", tmp_path / "link.db"
    link.symlink_to(first)
    store = open_store(f"sqlite:///{link}", tmp_path)
    store.open("one", [header("one")]).close()
    second.write_bytes(b"")
    link.unlink()
    link.symlink_to(second)
    store.open("two", [header("two")]).close()
    assert sorted(store.names()) == ["one", "two"] and second.read_bytes() == b""
    with pytest.raises(UsageError, match="belongs to the store"):
        open_input(first)
