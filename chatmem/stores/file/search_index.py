"""The index of a directory of session files: what lists show, and which words occur in which session.

A full-text index (FTS5 of SQLite) without the text itself: it finds the sessions that may contain a hit, and the hit is
read from the file. A session's file only grows, so each addition is a part of its own, known by its range of bytes.

Changes by this program are written as they happen. To notice those of others without looking at every file, the index
remembers when the directory was changed last. As long as no other program created, renamed or deleted a file there, the
index is current. Otherwise the next list compares every file. The index itself is kept beside that directory.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from chatmem.errors import ChatmemError
from chatmem.history.names import canonical_key
from chatmem.stores.base import Progress, SessionInfo, no_progress
from chatmem.stores.codec import decode_all
from chatmem.stores.search import index_terms, query_terms
from chatmem.stores.session_index import BATCH, INFO_FIELDS, FileStamp, SessionIndex

if TYPE_CHECKING:
    import sqlite3

FORMER_NAME = ".index.sqlite"
"""The name of the index in the directory of the sessions, where older versions kept it."""
NEWEST_FIRST = "last_active DESC, name DESC"
ANCHOR_BYTES = 256
"""How many of the last indexed bytes are compared before more of a file is indexed."""
MAX_NEW_BYTES = 1 << 20
"""How much is indexed at once when a session changes."""
MAX_STALE_PARTS = 1_000
"""How many parts may point to nothing before the index is rebuilt, if they are a quarter of all."""

ReadBytes = Callable[[str, int], bytes]
"""Reads the file of a session from a position on. Raises ChatmemError."""


Times = tuple[int, int]
"""The modification times of the directory before and after changes of this process, if no other process changed it."""


class SearchIndex(SessionIndex):
    """The index of the session files of one user."""

    TABLES: ClassVar[tuple[str, ...]] = (
        *SessionIndex.TABLES,
        "ALTER TABLE sessions ADD COLUMN key TEXT",
        "ALTER TABLE sessions ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN words_of INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE sessions ADD COLUMN anchor INTEGER",
        "CREATE INDEX sessions_without_words ON sessions(number) WHERE words_of != size",
        "CREATE INDEX sessions_by_use ON sessions(last_active, name)",
        "CREATE INDEX sessions_by_key ON sessions(key)",
        "CREATE TABLE parts(number INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER, first INTEGER, last INTEGER)",
        "CREATE INDEX parts_by_session ON parts(session)",
        "CREATE VIRTUAL TABLE texts USING fts5(text, content='', detail=none, columnsize=0, tokenize='ascii')",
        "CREATE TABLE state(directory INTEGER NOT NULL, others INTEGER NOT NULL, stale INTEGER NOT NULL)",
        "INSERT INTO state VALUES (-1, 0, 0)",
    )

    def __init__(self, path: Path, read_bytes: ReadBytes) -> None:
        super().__init__(path)
        self.read_bytes = read_bytes

    def knows_all_files(self, directory_time: int) -> bool:
        """Whether the index has every session, and the directory has no links, torn tails or conflict copies.

        `directory_time` is when names in the directory were changed last.
        """
        return bool(self._query("SELECT 1 FROM state WHERE directory = ? AND others = 0", directory_time))

    def has_all_words(self, directory_time: int) -> bool:
        """Whether the index knows every session and all its words, so that what it does not find is not there."""
        query = "SELECT directory, EXISTS (SELECT 1 FROM sessions WHERE words_of != size) FROM state"
        return self._query(query) == [(directory_time, 0)]

    def latest(self, limit: int) -> list[tuple[FileStamp, SessionInfo]]:
        """The most recently used sessions, newest first. All if `limit` is negative. Empty if they are not known."""
        query = f"SELECT size, changed, inode, {', '.join(INFO_FIELDS)} FROM sessions ORDER BY {NEWEST_FIRST} LIMIT ?"
        rows = self._query(query, limit) or ()
        return [((size, changed, inode), SessionInfo(*row)) for size, changed, inode, *row in rows]

    def names_of(self, key: str) -> list[str] | None:
        """The sessions whose name has this canonical key. None if they are not known."""
        rows = self._query("SELECT name FROM sessions WHERE key = ?", key)
        return None if rows is None else [name for (name,) in rows]

    def matching(self, pattern: str, limit: int) -> list[SessionInfo] | None:
        """The most recent sessions whose name or title contains these characters in this order. None if not known."""
        like = "%".join(["", *(f"\\{c}" if c in "%_\\" else c for c in pattern), ""])
        query = (
            f"SELECT {', '.join(INFO_FIELDS)} FROM sessions "
            f"WHERE name LIKE ?1 ESCAPE '\\' OR title LIKE ?1 ESCAPE '\\' ORDER BY {NEWEST_FIRST} LIMIT ?2"
        )
        rows = self._query(query, like, limit)
        return None if rows is None else [SessionInfo(*row) for row in rows]

    def find(self, words: Sequence[str]) -> list[str] | None:
        """The sessions that may contain words that begin with all of these, the most recently used first.

        None if that is not known.
        """
        query = (
            "SELECT name FROM sessions WHERE number IN "
            "(SELECT session FROM parts WHERE number IN (SELECT rowid FROM texts WHERE texts MATCH ?)) "
            f"ORDER BY {NEWEST_FIRST}"
        )
        rows = self._query(query, " AND ".join(f'"{word}"*' for word in words))
        return None if rows is None else [name for (name,) in rows]

    def ranked(self, words: Sequence[str], limit: int) -> list[str] | None:
        """The sessions that have the most and the rarest of words with these beginnings. None if that is not known."""
        query = "SELECT DISTINCT parts.session FROM texts JOIN parts ON parts.number = texts.rowid WHERE texts MATCH ?"
        total = self._query("SELECT COUNT(*) FROM sessions")
        scores: defaultdict[int, float] = defaultdict(float)
        for term in dict.fromkeys(term for word in words for term in query_terms(word)):
            found = self._query(query, f'"{term}"*')
            if found is None or total is None:
                return None
            weight = math.log(1 + total[0][0] / max(1, len(found)))
            for (session,) in found:
                scores[session] += weight
        best = heapq.nlargest(limit, scores, key=lambda session: (scores[session], session))
        names = dict(
            self._query(f"SELECT number, name FROM sessions WHERE number IN ({', '.join(map(str, best))})") or ()
        )
        return [names[session] for session in best if session in names]

    def update(
        self,
        added: Sequence[tuple[FileStamp, SessionInfo]] = (),
        removed: Mapping[str, bytes] = MappingProxyType({}),
        renamed: tuple[str, str] | None = None,
        times: Times | None = None,
    ) -> None:
        """Apply changes of this process: rename a session, add or replace some, remove others with these contents."""

        def change(database: sqlite3.Connection) -> None:
            if renamed:
                old, new = renamed
                self._remove(database, new)
                database.execute("UPDATE sessions SET name = ?, key = ? WHERE name = ?", (new, canonical_key(new), old))
            for name, data in removed.items():
                self._remove_words(database, name, data)
                self._remove(database, name)
            for stamp, info in added:
                self._add(database, stamp, info)
                self._add_words(database, info.name, MAX_NEW_BYTES)
            if times:
                database.execute("UPDATE state SET directory = ? WHERE directory = ?", times[::-1])

        self._write(change)

    def index_words(self, progress: Progress = no_progress) -> None:
        """Index the words of all sessions that have changed since. Best effort."""
        names = [name for (name,) in self._query("SELECT name FROM sessions WHERE words_of != size") or ()]
        batch: list[str] = []

        def change(database: sqlite3.Connection) -> None:
            for name in batch:
                with contextlib.suppress(ChatmemError):  # deleted in the meantime
                    self._add_words(database, name)

        for name in progress(names, "Indexing"):
            batch.append(name)
            if len(batch) == BATCH or name == names[-1]:
                self._write(change)
                batch.clear()

    def complete(self, directory_time: int, others: int) -> None:
        """Every session that was there at this modification time of the directory is in the index.

        `others` is the number of files beside them that need attention: see `knows_all_files`.
        """
        change = "UPDATE state SET directory = ?, others = ?"
        self._write(lambda database: database.execute(change, (directory_time, others)))

    def has_too_many_stale_parts(self) -> bool:
        """Whether the index should be rebuilt."""
        found = self._query("SELECT stale, (SELECT count(*) FROM parts) FROM state") or ()
        return any(stale > max(MAX_STALE_PARTS, parts // 3) for stale, parts in found)

    def _query(self, query: str, *parameters: Any) -> list[Any] | None:
        """The rows of a query. None if the index cannot be read."""
        import sqlite3

        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            return database.execute(query, parameters).fetchall()
        return None

    def _add(self, database: sqlite3.Connection, stamp: FileStamp, info: SessionInfo) -> None:
        query = "SELECT size, changed, inode FROM sessions WHERE name = ?"
        known = database.execute(query, (info.name,)).fetchone()
        super()._add(database, stamp, info)
        if known is None:
            database.execute("UPDATE sessions SET key = ? WHERE name = ?", (canonical_key(info.name), info.name))
        elif known != stamp and (known[2] != stamp[2] or known[0] >= stamp[0]):
            self._forget_parts(database, info.name)  # another file, or one that did not only grow

    def _add_words(self, database: sqlite3.Connection, name: str, most: int | None = None) -> None:
        """Index what was added to a session's file since its words were indexed, if it is at most `most` bytes."""
        query = "SELECT number, indexed, size, anchor FROM sessions WHERE name = ?"
        row = database.execute(query, (name,)).fetchone()
        if row is None:
            return  # deleted in the meantime
        number, indexed, size, anchor = row
        if most is not None and size - indexed > most:
            return  # a turn does not wait for that: the next search or chat does it
        before = min(indexed, ANCHOR_BYTES)
        data = self.read_bytes(name, indexed - before)
        if before and zlib.crc32(data[:before]) != anchor:  # what was indexed is not there any more
            self._forget_parts(database, name)
            indexed = before = 0
            data = self.read_bytes(name, 0)
        end = max(before, data.rfind(b"\n") + 1)
        if words := _words_in(data[before:end]):
            parts = "INSERT INTO parts(session, first, last) VALUES (?, ?, ?)"
            part = database.execute(parts, (number, indexed, indexed - before + end)).lastrowid
            database.execute("INSERT INTO texts(rowid, text) VALUES (?, ?)", (part, words))
        # An unfinished last line counts as indexed up to the next change.
        anchor = zlib.crc32(data[max(0, end - ANCHOR_BYTES) : end])
        change = "UPDATE sessions SET indexed = ?, anchor = ?, words_of = size WHERE number = ?"
        database.execute(change, (indexed - before + end, anchor, number))

    def _remove(self, database: sqlite3.Connection, name: str) -> None:
        self._forget_parts(database, name)
        super()._remove(database, name)

    def _forget_parts(self, database: sqlite3.Connection, name: str) -> None:
        """The parts of a session point to nothing from now on: their words find no session."""
        own = "session = (SELECT number FROM sessions WHERE name = ?)"
        count = database.execute(f"DELETE FROM parts WHERE {own}", (name,)).rowcount
        database.execute("UPDATE state SET stale = stale + ?", (count,))
        database.execute("UPDATE sessions SET indexed = 0, words_of = 0 WHERE name = ?", (name,))

    def _remove_words(self, database: sqlite3.Connection, name: str, data: bytes) -> None:
        """Remove the words of a session whose file still is as it was indexed. FTS5 must be given the text again."""
        own = "session = (SELECT number FROM sessions WHERE name = ?)"
        parts = database.execute(f"SELECT number, first, last FROM parts WHERE {own}", (name,)).fetchall()
        for number, first, last in parts:
            text = _words_in(data[first:last])
            database.execute("INSERT INTO texts(texts, rowid, text) VALUES ('delete', ?, ?)", (number, text))
        database.execute(f"DELETE FROM parts WHERE {own}", (name,))

    def erase(self) -> None:
        """Overwrite what was removed, so that no word of it is left on the disk."""

        def change(database: sqlite3.Connection) -> None:
            database.execute("INSERT INTO texts(texts) VALUES ('optimize')")

        self._write(change)
        self._query("PRAGMA wal_checkpoint(TRUNCATE)")


def _words_in(data: bytes) -> str:
    """The words of the messages in some lines, as FTS5 splits them: at ASCII characters that are no letter or digit."""
    texts = []
    for record in decode_all(data.split(b"\n")):
        content = record.get("content")
        if record.get("type") == "message" and isinstance(content, str):
            texts.append(content.lower() if content.isascii() else " ".join(index_terms(content)))
    return " ".join(texts)
