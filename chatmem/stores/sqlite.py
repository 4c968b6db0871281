"""sqlite:///path: all sessions in one SQLite database, on this machine or on a shared disk (standard library).

The address is SQLAlchemy's: `sqlite:///chats.db` is a file of the current folder, `sqlite:////home/me/chats.db` an
absolute one. A write is on the disk when it returns (`synchronous = FULL`). Write-ahead logging is used where the
file system has shared memory for it: on a network it would lose data (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatmem.errors import NotSaved, StoreAway, WrongUse
from chatmem.paths import private_file
from chatmem.stores.address import Address
from chatmem.stores.database import PATIENCE, Line
from chatmem.stores.sql import Execute, SqlDatabase

_NETWORKED = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs"}


class SqliteDatabase(SqlDatabase):
    """One file, opened when it is first needed."""

    now = "((julianday('now') - 2440587.5) * 86400.0)"
    there = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'chatmem_schema'"

    def __init__(self, url: str, keep: float | None = None) -> None:
        path = Address.parse(url).path
        if not url.lower().startswith("sqlite:///") or not path:
            raise WrongUse(
                "A SQLite store needs a path.",
                "sqlite:///chats.db is in this folder, sqlite:////home/me/chats.db absolute.",
            )
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        self.shown = self.identity = f"sqlite:///{self.path}"
        super().__init__()

    def add(self, execute: Execute, session: str, first: int, lines: Sequence[Line]) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO chatmem_records (session, number, id, record) VALUES (?, ?, ?, ?)",
            ((session, number, *line) for number, line in enumerate(lines, first)),
        )

    def connect(self) -> None:
        if self.connection is not None:
            return
        import sqlite3

        if not self.path.parent.is_dir():
            raise WrongUse(
                f"There is no folder {str(self.path.parent)!r} for the store.",
                "An absolute path has four slashes: sqlite:////home/me/chats.db",
            )
        os.close(private_file(self.path, os.O_RDWR | os.O_CREAT))
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if networked(self.path) else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
            with self.together(connection):
                self.migrate(self.executing(connection))
        except BaseException:
            connection.close()
            raise
        self.connection = connection

    @contextmanager
    def together(self, connection: Any) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def faults(self) -> tuple[type[Exception], ...]:
        import sqlite3

        return sqlite3.Error, OSError

    def translated(self, error: Any) -> NotSaved:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        kind = StoreAway if "locked" in str(error) or "busy" in str(error) else NotSaved
        return kind(f"The store {self.path} cannot be used: {reason}.", "Check the disk and the file's permissions.")


def networked(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a file is on another machine's disk, as far as the system tells."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    kinds = {fields[1].replace("\\040", " "): fields[2] for line in lines if len(fields := line.split(" ")) > 2}
    place = next((p for p in (path, *path.parents) if str(p) in kinds), None)
    return place is not None and kinds[str(place)] in _NETWORKED
