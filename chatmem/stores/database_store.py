"""Sessions in a database, for several users and machines; what cannot reach it waits in files of this machine.

The folder of a database holds a file per session that waits, as the file store would keep it, the partial replies
of this machine, and a cache of outlines. It is empty but for the cache as long as the database answers.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from chatmem.errors import NotSaved, StoreAway, WrongUse
from chatmem.names import checked, counted, fresh, key, valid
from chatmem.records import Record, new_id
from chatmem.session import Session
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.database import TRASH, Database, Entry, Line
from chatmem.stores.database_log import DatabaseLog, lines_of
from chatmem.stores.disk import read_partial
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.outlines import OutlineCache, Stamp

MOST = 1000
"""Records that are sent together when a session begins with many."""


class DatabaseStore(Store):
    """A user's sessions in a database, and those that other users share."""

    deleted: ClassVar[str] = f"deleted; the database forgets it in {TRASH // 86_400} days"

    def __init__(self, database: Database, user: str, folder: Path, say: Say = lambda line: None) -> None:
        super().__init__(say)
        self.database, self.user = database, user
        self.waiting = JsonlStore(folder, say)
        self._cache = OutlineCache(folder / ".database.sqlite")
        self.expires = database.expires

    def names(self) -> list[str]:
        waiting = self.waiting.names()
        try:
            names = [entry.name for entry in self.database.entries(self.user)]
        except StoreAway:
            if not waiting:
                raise
            return waiting
        keys = {key(name) for name in names}
        return names + [name for name in waiting if key(name) not in keys]

    def find(self, name: str) -> str:
        with contextlib.suppress(StoreAway):
            if valid(name) and (entry := self.entry(name)):
                return entry.name
        return super().find(name)

    def entry(self, name: str) -> Entry | None:
        """What the database has under a name, ignoring case."""
        return next(iter(self.database.entries(self.user, key(name))), None)

    def records(self, name: str) -> list[Record]:
        name = self.find(name)
        try:
            return self._records(name, self.entry(name))
        except StoreAway:
            if name not in self.waiting.names():
                raise
            return self._records(name, None)

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        if first := list(first):
            name = checked(name)
            try:
                self.begin(name, lines_of(first))
            except StoreAway as away:
                return DatabaseLog(self, name, None, first, away)
        try:
            entry = self.entry(name := self.find(name))
        except StoreAway as away:
            return DatabaseLog(self, name, None, away=away)  # it waits here
        return DatabaseLog(self, entry.name, entry.id) if entry else DatabaseLog(self, name, None)

    def begin(self, name: str, lines: Sequence[Line]) -> str:
        """Create a session; returns its id in the database. Raises WrongUse if the name is taken."""
        ident, holder = new_id(), new_id()
        if not self.database.create(self.user, key(name), name, ident, lines[:MOST]):
            raise WrongUse(f"There is already a session {name!r}.", "Choose another name.")
        if len(lines) > MOST:
            self.database.lock(ident, holder)
            for start in range(MOST, len(lines), MOST):
                self.database.append(ident, holder, lines[start : start + MOST])
            self.database.unlock(ident, holder)
        return ident

    def rename(self, name: str, new: str) -> None:
        entry, new = self._kept(name), checked(new)
        with self._alone(entry) as log:
            if not self.database.rename(self.user, entry.id, key(new), new):
                raise WrongUse(f"There is already a session {new!r}.", "Choose another name.")
            log.append([{"type": "settings", "title": new}])

    def delete(self, name: str, purge: bool = False) -> None:
        """Remove a session's name, with `purge` its records as well; of a shared one only this user's name."""
        entry = self._kept(name)
        if entry.owner is not None:
            self.database.unlink(entry.id, self.user)
            return
        with self._alone(entry):
            if purge:
                self.database.erase(entry.id)
            else:
                self.database.unlink(entry.id)

    def share(self, name: str, user: str) -> str:
        entry, user = self._kept(name), checked(user, "user") if user else ""
        if user == self.user:
            raise WrongUse("That is you.", "Name another user.")
        there = self.database.entries(user)
        if entry.id in {other.id for other in there}:
            raise WrongUse(f"Session {entry.name!r} is already shared with {user!r}.")
        called = fresh((other.name for other in there), entry.name)
        owner = self.user if entry.owner is None else entry.owner
        self.database.link(user, key(called), called, entry.id, owner)
        return called

    def outlines(self) -> list[Outline]:
        try:
            entries = {entry.name: entry for entry in self.database.entries(self.user)}
        except StoreAway as error:
            if not self.waiting.names():
                raise
            self.say(f"{error.message} Only what waits here is listed.")
            return self.waiting.outlines()
        stamps: dict[str, Stamp] = {
            e.name: (e.last, int(e.changed * 1e6), zlib.crc32(e.id.encode())) for e in entries.values()
        }
        with contextlib.suppress(OSError, NotSaved):
            self.waiting.make_folder(self.waiting.folder)
        found = [
            outline._replace(owner=entries[outline.name].owner)
            for outline in self._cache.outlines(stamps, lambda name: self._outlined(entries[name]))
        ]
        keys = {key(name) for name in entries}
        found += [outline for outline in self.waiting.outlines() if key(outline.name) not in keys]
        return sorted(found, key=lambda o: (o.last_active, o.name), reverse=True)

    def rebuild(self) -> None:
        self.waiting.forget(self._cache.path)
        self.waiting.rebuild()
        self.outlines()

    def place(self, name: str | None = None) -> str:
        return f"{self.database.shown}#{self.find(name)}" if name else self.database.shown

    def _outlined(self, entry: Entry) -> Outline:
        return Outline.of(Session.replay(entry.name, self._records(entry.name, entry)))

    def _records(self, name: str, entry: Entry | None) -> list[Record]:
        """What the database has, and behind it what waits here: records, and what a dead process left of a reply."""
        records = [json.loads(line) for _, line in self.database.read(entry.id, 0)] if entry else []
        waiting = self.waiting.records(name) if name in self.waiting.names() else []
        if not waiting and (left := read_partial(self.waiting.system, self.waiting.path(name, ".partial"))):
            waiting = [left]
        known = {record.get("id") for record in records if record.get("type") == "message"}
        return records + [r for r in waiting if not records or (r["type"] != "session" and r.get("id") not in known)]

    def _kept(self, name: str) -> Entry:
        """A session that is in the database. Raises NoSuchSession, or NotSaved where it only waits here."""
        entry = self.entry(name := self.find(name))
        if entry is None:
            raise StoreAway(f"Session {name!r} still waits for {self.database.shown}.", "Open it once it is back.")
        return entry

    @contextlib.contextmanager
    def _alone(self, entry: Entry) -> Iterator[Log]:
        log = DatabaseLog(self, entry.name, entry.id)
        try:
            with log.turn(wait=False):
                if log.away:
                    raise log.away
                yield log
        finally:
            log.close()

    def moved(self, count: int, name: str) -> None:
        """Say that what waited is where it belongs."""
        self.say(
            f"{self.database.shown} is back: {counted(count, 'record')} of {name!r} that waited here are in it now."
        )
