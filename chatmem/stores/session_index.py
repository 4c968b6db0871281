"""A cache of session infos beside the sessions, so that lists need not read them. It may be deleted at any time.

An entry is valid as long as its session has the same stamp. The cache is an SQLite database. If it is locked, damaged
or not writable, everything works as if it did not exist.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from chatmem.errors import ChatmemError
from chatmem.input_files import OPEN_DATABASES
from chatmem.paths import create_private
from chatmem.stores.base import Progress, SessionInfo, no_progress

if TYPE_CHECKING:
    import sqlite3

FileStamp = tuple[int, int, int]
"""Size, modification time in nanoseconds, and inode of a file."""

INFO_FIELDS = ("name", "title", "turns", "messages", "created", "last_active", "model", "memory", "id", "source")
MAX_CONNECTIONS = 8
"""How many caches stay open."""
BATCH = 500
"""How many sessions are written in one transaction, so that other processes wait little."""


class _Connection:
    """The connection to a cache. It stays open: closing the last one of a database takes longer than a change."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.database: sqlite3.Connection | None = None
        self.opened = (0, 0, 0)
        """The process, device and inode of the connection."""

    def close(self) -> None:
        with self.lock:
            if self.database:
                self.database.close()
            self.database = None


@lru_cache(maxsize=MAX_CONNECTIONS)
def _connection(path: Path) -> _Connection:
    """The connection to the cache at a path, one for all stores of this process."""
    return _Connection()


class SessionIndex:
    """Session infos by name, each with the stamp of the session it was read from."""

    VERSION: ClassVar[int] = 6
    """Grows with each change of the tables. Other versions are rebuilt."""
    TABLES: ClassVar[tuple[str, ...]] = (
        "CREATE TABLE sessions(number INTEGER PRIMARY KEY, size INTEGER, changed INTEGER, inode INTEGER, "
        f"{', '.join(f'{field} UNIQUE' if field == 'name' else field for field in INFO_FIELDS)})",
    )

    def __init__(self, path: Path) -> None:
        self.path = path

    def sessions(
        self,
        stamps: Mapping[str, FileStamp],
        read: Callable[[str], SessionInfo | None],
        progress: Progress = no_progress,
    ) -> Iterator[SessionInfo]:
        """The info of every session in `stamps`. `read` is called, with `progress`, for those that are not cached."""
        import sqlite3  # imported lazily: slow

        cached: dict[str, tuple[FileStamp, SessionInfo]] = {}
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            for size, changed, inode, *fields in database.execute(
                f"SELECT size, changed, inode, {', '.join(INFO_FIELDS)} FROM sessions"
            ):
                cached[fields[0]] = (size, changed, inode), SessionInfo(*fields)
        missing = []
        for name, stamp in stamps.items():
            found = cached.get(name)
            if found and found[0] == stamp:
                yield found[1]
            else:
                missing.append(name)
        self.remove(cached.keys() - stamps.keys())
        added: list[tuple[FileStamp, SessionInfo]] = []
        for name in progress(missing, "Indexing"):
            if info := read(name):
                added.append((stamps[name], info))
                yield info
            if len(added) == BATCH:
                self.add(added)
                added = []
        self.add(added)

    def add(self, sessions: Iterable[tuple[FileStamp, SessionInfo]]) -> None:
        """Add sessions, or replace what is known of them. Best effort."""
        if sessions := list(sessions):

            def change(database: sqlite3.Connection) -> None:
                for stamp, info in sessions:
                    self._add(database, stamp, info)

            self._write(change)

    def remove(self, names: Iterable[str]) -> None:
        """Forget sessions. Best effort."""
        if names := list(names):

            def change(database: sqlite3.Connection) -> None:
                for name in names:
                    self._remove(database, name)

            self._write(change)

    def delete(self) -> None:
        """Delete the cache."""
        _connection(self.path).close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _add(self, database: sqlite3.Connection, stamp: FileStamp, info: SessionInfo) -> None:
        fields = ("size", "changed", "inode", *INFO_FIELDS)
        values = (*stamp, *(getattr(info, field) for field in INFO_FIELDS))
        updates = ", ".join(f"{field} = excluded.{field}" for field in fields)
        database.execute(
            f"INSERT INTO sessions({', '.join(fields)}) VALUES ({', '.join('?' * len(fields))}) "
            f"ON CONFLICT(name) DO UPDATE SET {updates}",
            values,
        )

    def _remove(self, database: sqlite3.Connection, name: str) -> None:
        database.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Apply a change in one transaction. Best effort: if anything fails, nothing is changed."""
        import sqlite3

        with contextlib.suppress(sqlite3.Error, OSError, ChatmemError), self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            change(database)
            database.commit()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection to the cache, which is created or emptied if necessary. Raises sqlite3.Error and OSError."""
        import sqlite3

        shared = _connection(self.path)
        with shared.lock:
            create_private(self.path)
            status = self.path.stat()
            opened = os.getpid(), status.st_dev, status.st_ino
            if shared.database is None or shared.opened != opened:  # another process may have deleted it
                shared.database = sqlite3.connect(self.path, timeout=0.2, check_same_thread=False)
                shared.opened = opened
                OPEN_DATABASES.add(self.path)
            try:
                shared.database.execute("PRAGMA synchronous = NORMAL")
                shared.database.execute("PRAGMA secure_delete = ON")  # deleted conversations are overwritten
                if shared.database.execute("PRAGMA user_version").fetchone()[0] != self.VERSION:
                    self._create(shared.database)
                yield shared.database
            except sqlite3.DatabaseError as error:
                shared.close()
                if not isinstance(error, sqlite3.OperationalError):
                    self.delete()  # damaged: the next list rebuilds it
                raise
            finally:
                if shared.database and shared.database.in_transaction:
                    shared.database.rollback()

    def _create(self, database: sqlite3.Connection) -> None:
        """Create the tables, and drop those of another version."""
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        if database.execute("PRAGMA user_version").fetchone()[0] != self.VERSION:  # no other process was faster
            for table in ("sessions", "texts", "parts", "state"):
                database.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in self.TABLES:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {self.VERSION}")
        database.commit()
