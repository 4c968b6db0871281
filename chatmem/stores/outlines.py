"""A cache of outlines beside the session files, so that a list need not read them; it may be deleted at any time.

An entry holds as long as its file has the size, time and inode it had. SQLite keeps it, since it is read in whole and
written in part; when it is locked, damaged or cannot be written, everything works as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chatmem.stores.base import Outline, Watched, unwatched

Stamp = tuple[int, int, int]
"""Size, time of the last change in nanoseconds, and inode of a file."""

_FIELDS = ("name", "title", "turns", "messages", "created", "last_active", "model", "memory", "id", "source")
_VERSION = 2


class OutlineCache:
    """Outlines by session name, each with the stamp of the file that it was read from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def outlines(
        self, stamps: dict[str, Stamp], read: Callable[[str], Outline | None], watched: Watched = unwatched
    ) -> Iterator[Outline]:
        """The outline of every session in `stamps`; `read` gives those that the cache has not, which is `watched`."""
        import sqlite3  # only who lists pays for it

        known: dict[str, tuple[Stamp, Outline]] = {}
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as base:
            for size, changed, inode, *fields in base.execute(
                f"SELECT size, changed, inode, {', '.join(_FIELDS)} FROM outlines"
            ):
                known[fields[0]] = (size, changed, inode), Outline(*fields)
        fresh: list[tuple[Stamp, Outline]] = []
        missing = []
        for name, stamp in stamps.items():
            found = known.get(name)
            if found and found[0] == stamp:
                yield found[1]
            else:
                missing.append(name)
        for name in watched(missing, "Indexing"):
            if outline := read(name):
                fresh.append((stamps[name], outline))
                yield outline
        gone = known.keys() - stamps.keys()
        if fresh or gone:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._write(fresh, gone)

    def _write(self, fresh: Iterable[tuple[Stamp, Outline]], gone: Iterable[str]) -> None:
        with self._open() as base:
            places = ", ".join("?" * (3 + len(_FIELDS)))
            rows = ((*stamp, *(getattr(outline, f) for f in _FIELDS)) for stamp, outline in fresh)
            base.executemany(
                f"REPLACE INTO outlines(size, changed, inode, {', '.join(_FIELDS)}) VALUES ({places})", rows
            )
            base.executemany("DELETE FROM outlines WHERE name = ?", ((name,) for name in gone))
            base.commit()

    @contextlib.contextmanager
    def _open(self):  # type: ignore[no-untyped-def]  # sqlite3 enters here alone
        import sqlite3

        if not self.path.exists():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        base = sqlite3.connect(self.path, timeout=0.2)
        try:
            if base.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                base.execute("DROP TABLE IF EXISTS outlines")
                columns = ", ".join(f"{f} TEXT PRIMARY KEY" if f == "name" else f for f in _FIELDS)
                base.execute(f"CREATE TABLE outlines(size INTEGER, changed INTEGER, inode INTEGER, {columns})")
                base.execute(f"PRAGMA user_version = {_VERSION}")
            yield base
        except sqlite3.DatabaseError as error:
            base.close()
            if not isinstance(error, sqlite3.OperationalError):
                self.path.unlink(missing_ok=True)  # damaged: the next list makes it anew
            raise
        finally:
            base.close()
