"""SQLite under several stores of one process, beside other processes: its locks belong to the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chatmem.history.records import header
from chatmem.stores import SessionStore, open_store
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
