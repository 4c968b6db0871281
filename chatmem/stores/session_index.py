"""A cache of session infos beside the sessions, so that lists need not read them. It may be deleted at any time.

An entry is valid as long as its file has the same size, modification time and inode. The cache is an SQLite database.
If it is locked, damaged or not writable, everything works as if it did not exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chatmem.paths import create_private
from chatmem.stores.base import Progress, SessionInfo, no_progress

FILE_NAME = ".index.sqlite"

FileStamp = tuple[int, int, int]
"""Size, modification time in nanoseconds, and inode of a file."""

_FIELDS = ("name", "title", "turns", "messages", "created", "last_active", "model", "memory", "id", "source")
_VERSION = 3


class SessionIndex:
    """Session infos by name, each with the stamp of the file it was read from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sessions(
        self, stamps: dict[str, FileStamp], read: Callable[[str], SessionInfo | None], progress: Progress = no_progress
    ) -> Iterator[SessionInfo]:
        """The info of every session in `stamps`. `read` is called, with `progress`, for those that are not cached."""
        import sqlite3  # imported lazily: slow

        cached: dict[str, tuple[FileStamp, SessionInfo]] = {}
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            query = f"SELECT size, changed, inode, {', '.join(_FIELDS)} FROM sessions"
            for size, changed, inode, *fields in database.execute(query):
                cached[fields[0]] = (size, changed, inode), SessionInfo(*fields)
        added: list[tuple[FileStamp, SessionInfo]] = []
        missing = []
        for name, stamp in stamps.items():
            found = cached.get(name)
            if found and found[0] == stamp:
                yield found[1]
            else:
                missing.append(name)
        for name in progress(missing, "Indexing"):
            if info := read(name):
                added.append((stamps[name], info))
                yield info
        removed = cached.keys() - stamps.keys()
        if added or removed:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._write(added, removed)

    def _write(self, added: Iterable[tuple[FileStamp, SessionInfo]], removed: Iterable[str]) -> None:
        with self._open() as database:
            placeholders = ", ".join("?" * (3 + len(_FIELDS)))
            columns = f"size, changed, inode, {', '.join(_FIELDS)}"
            rows = ((*stamp, *(getattr(info, field) for field in _FIELDS)) for stamp, info in added)
            database.executemany(f"REPLACE INTO sessions({columns}) VALUES ({placeholders})", rows)
            database.executemany("DELETE FROM sessions WHERE name = ?", ((name,) for name in removed))
            database.commit()

    @contextlib.contextmanager
    def _open(self):  # type: ignore[no-untyped-def]  # sqlite3 is imported lazily
        import sqlite3

        create_private(self.path)
        database = sqlite3.connect(self.path, timeout=0.2)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                database.execute("DROP TABLE IF EXISTS sessions")
                columns = ", ".join(f"{field} TEXT PRIMARY KEY" if field == "name" else field for field in _FIELDS)
                database.execute(f"CREATE TABLE sessions(size INTEGER, changed INTEGER, inode INTEGER, {columns})")
                database.execute(f"PRAGMA user_version = {_VERSION}")
            yield database
        except sqlite3.DatabaseError as error:
            database.close()
            if not isinstance(error, sqlite3.OperationalError):
                self.path.unlink(missing_ok=True)  # damaged: the next list rebuilds it
            raise
        finally:
            database.close()
