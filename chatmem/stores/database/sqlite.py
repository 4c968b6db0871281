"""sqlite:///path: all sessions in one SQLite database, on this machine or on a shared disk (standard library).

URLs are those of SQLAlchemy: `sqlite:///chats.db` is relative to the current directory, `sqlite:////home/me/chats.db`
is absolute. A write is on the disk when it returns (`synchronous = FULL`). Write-ahead logging is used except on
network file systems, where it would lose data (https://www.sqlite.org/wal.html).

The locks of SQLite belong to the process, not to a connection. So all stores of a process that use the same file share
one connection, and the file is never opened in any other way (see `input_files`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet, WeakValueDictionary, finalize

from chatmem.errors import StorageError, StoreUnavailableError, UsageError
from chatmem.input_files import OPEN_DATABASES
from chatmem.paths import create_private
from chatmem.stores.database.address import Address
from chatmem.stores.database.base import TIMEOUT, Line
from chatmem.stores.database.sql import Execute, SqlDatabase

_NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "fuse.sshfs",
}


class SharedConnection:
    """The connection of this process to one file, and the stores that use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.connection: Any = None
        self.file: tuple[int, int] | None = None
        """Device and inode of the file when it was opened."""
        self.users: WeakSet[SqliteDatabase] = WeakSet()
        finalize(self, OPEN_DATABASES.discard, path)

    @classmethod
    def to(cls, path: Path) -> SharedConnection:
        """The connection to a file, open or not."""
        path = path.resolve()
        with _connections_lock:
            shared = _connections.get(path)
            if shared is None:
                shared = _connections[path] = cls(path)
            return shared

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        OPEN_DATABASES.discard(self.path)


_connections: WeakValueDictionary[Path, SharedConnection] = WeakValueDictionary()
_connections_lock = threading.Lock()
_held_at_fork: list[SharedConnection] = []


def _close_before_fork() -> None:
    """Close all connections. A child inherits what SQLite knows of its locks, but not the locks."""
    _held_at_fork[:] = _connections.values()
    for shared in _held_at_fork:
        shared.lock.acquire()
        if shared.connection is not None and not shared.connection.in_transaction:
            shared.close()


def _continue_after_fork() -> None:
    while _held_at_fork:
        _held_at_fork.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_close_before_fork, after_in_parent=_continue_after_fork, after_in_child=_continue_after_fork
    )


class SqliteDatabase(SqlDatabase):
    """One file, opened on first use."""

    clock = "((julianday('now') - 2440587.5) * 86400.0)"
    schema_exists = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'chatmem_schema'"

    def __init__(self, url: str, ttl: float | None = None) -> None:
        path = Address.parse(url).path
        if not url.lower().startswith("sqlite:///") or not path:
            raise UsageError(
                "A SQLite store needs a path.",
                "sqlite:///chats.db is relative to this directory, sqlite:////home/me/chats.db is absolute.",
            )
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        self.display_url = self.identity = f"sqlite:///{self.path}"
        self._shared = SharedConnection.to(self.path)
        super().__init__(self._shared.lock)

    def add(self, execute: Execute, session: str, first: int, lines: Sequence[Line]) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO chatmem_records (session, number, id, record) VALUES (?, ?, ?, ?)",
            ((session, number, *line) for number, line in enumerate(lines, first)),
        )

    def connect(self) -> None:
        shared = self._shared
        if shared.connection is not None and shared.file != _identity(shared.path):
            shared.close()  # the file was moved or deleted: what is written to it would be lost
        if shared.connection is None:
            shared.connection = self._open()
            shared.file = _identity(shared.path)
            OPEN_DATABASES.add(shared.path)
        shared.users.add(self)
        self.connection = shared.connection

    def close(self) -> None:
        with self._shared.lock:
            self._shared.users.discard(self)
            self.connection = None
            if not self._shared.users:
                self._shared.close()

    def _open(self) -> Any:
        import sqlite3

        path = self._shared.path
        if not path.parent.is_dir():
            raise UsageError(
                f"The directory {str(path.parent)!r} of the store does not exist.",
                "An absolute path has four slashes: sqlite:////home/me/chats.db",
            )
        create_private(path)
        with suppress(OSError):  # another user's file
            path.chmod(0o600)
        connection = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if is_network_file(path) else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
            with self.begin(connection):
                self.migrate(self.executor(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def begin(self, connection: Any) -> Iterator[None]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite may have rolled back by itself, and Ctrl-C may follow a BEGIN
                connection.execute("ROLLBACK")
            raise

    def driver_errors(self) -> tuple[type[Exception], ...]:
        import sqlite3

        return sqlite3.Error, OSError

    def map_error(self, error: Any) -> StorageError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        kind = StoreUnavailableError if "locked" in str(error) or "busy" in str(error) else StorageError
        return kind(f"Cannot use the store {self.path}: {reason}.", "Check the disk and the file's permissions.")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_network_file(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a file is on a network file system, as far as the system tells."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    kinds = {fields[1].replace("\\040", " "): fields[2] for line in lines if len(fields := line.split(" ")) > 2}
    place = next((p for p in (path, *path.parents) if str(p) in kinds), None)
    return place is not None and kinds[str(place)] in _NETWORK_FILE_SYSTEMS
