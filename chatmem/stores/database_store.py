"""Sessions in a database, for several users and machines; what cannot reach it waits in files of this machine."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from chatmem.errors import ChatmemError, NotSaved, StoreAway, WrongUse
from chatmem.names import checked, counted, fresh, key, valid
from chatmem.records import Record, new_id
from chatmem.session import Session
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.database import TRASH, UNBORN, Database, Entry, Line
from chatmem.stores.database_log import DatabaseLog, lines_of
from chatmem.stores.lines import BROKEN, record_of
from chatmem.stores.outlines import OutlineCache, Stamp
from chatmem.stores.waiting import Waiting

MOST = 1000
"""Records that are sent together when a session begins with many."""


class DatabaseStore(Store):
    """A user's sessions in a database, and those that other users share."""

    deleted: ClassVar[str] = f"deleted; the database forgets it in {TRASH // 86_400} days"

    def __init__(self, database: Database, user: str, folder: Path, say: Say = lambda line: None) -> None:
        super().__init__(say)
        self.database, self.user = database, user
        self.waiting = Waiting(folder, say)
        self._cache = OutlineCache(folder / ".database.sqlite")
        self.expires = database.expires

    def names(self) -> list[str]:
        waiting = self.waiting.names()
        try:
            entries = self.database.entries(self.user)
        except StoreAway:
            if not waiting:
                raise
            return list(waiting)
        return [entry.name for entry in entries] + self._only_here(entries)

    def find(self, name: str) -> str:
        with contextlib.suppress(StoreAway):
            return self._found(name)[0]
        return super().find(name)

    def _found(self, name: str) -> tuple[str, Entry | None]:
        """A session's name, and what the database has of it; nothing if it only waits here. Raises NoSuchSession."""
        entry = self.entry(name) if valid(name) else None
        name = entry.name if entry else super().find(name)
        return name, entry or self.entry(name)

    def entry(self, name: str) -> Entry | None:
        """What the database has under a name, ignoring case."""
        return next(iter(self.database.entries(self.user, key(name))), None)

    def records(self, name: str) -> list[Record]:
        try:
            return self._records(*self._found(name))
        except StoreAway:
            return self._records(super().find(name), None)  # if it waits here

    def read(self, ident: str, after: int = 0) -> tuple[list[Record], int]:
        """The records in the database after a number, and the number of the last one."""
        rows = self.database.read(ident, after)
        return [record_of(line.encode()) or BROKEN for _, line in rows], rows[-1][0] if rows else after

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        if first := list(first):
            name = checked(name)
            try:
                self.begin(name, lines_of(first))
            except StoreAway as away:
                return DatabaseLog(self, name, None, first, away)
        try:
            name, entry = self._found(name)
        except StoreAway as away:
            return DatabaseLog(self, super().find(name), None, away=away)  # it waits here
        return DatabaseLog(self, entry.name, entry.id) if entry else DatabaseLog(self, name, None)

    def begin(self, name: str, lines: Sequence[Line]) -> str:
        """Create a session, all or nothing; returns its id in the database. Raises WrongUse if the name is taken."""
        ident = new_id()
        taken = WrongUse(f"There is already a session {name!r}.", "Choose another name.")
        if len(lines) <= MOST:
            if not self.database.create(self.user, key(name), name, ident, lines):
                raise taken
            return ident
        if self.entry(name):
            raise taken
        self.database.create(UNBORN, ident, ident, ident, lines[:MOST])
        self.database.lock(ident, ident)
        for start in range(MOST, len(lines), MOST):
            if self.database.append(ident, ident, lines[start : start + MOST]) is None:
                raise NotSaved(f"Session {name!r} could not be written whole.", "Try again.")
        self.database.unlock(ident, ident)
        if not self.database.link(self.user, key(name), name, ident, None):
            self.database.erase(ident)
            raise taken
        self.database.unlink(ident, UNBORN)
        return ident

    def rename(self, name: str, new: str) -> None:
        entry, new = self._kept(name), checked(new)
        with self._alone(entry) as log:
            if not self.database.rename(self.user, entry.id, key(new), new):
                raise WrongUse(f"There is already a session {new!r}.", "Choose another name.")
            if entry.owner is None:
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
            entries = {}
        stamps: dict[str, Stamp] = {
            e.name: (e.last, int(e.changed * 1e6), zlib.crc32(e.id.encode())) for e in entries.values()
        }
        with contextlib.suppress(OSError, NotSaved):
            self.waiting.files.make_folder(self.waiting.folder)
        found = [
            outline._replace(owner=entries[outline.name].owner)
            for outline in self._cache.outlines(stamps, lambda name: self._outlined(name, entries[name]), self.watched)
        ]
        here = [self._outlined(name, None) for name in self._only_here(entries.values())]
        return sorted([*found, *filter(None, here)], key=lambda o: (o.last_active, o.name), reverse=True)

    def rebuild(self) -> None:
        self.waiting.forget(self._cache.path)
        self.outlines()

    def place(self, name: str | None = None) -> str:
        return f"{self.database.shown}#{self.find(name)}" if name else self.database.shown

    def moved(self, count: int, name: str) -> None:
        """Say that what waited is where it belongs."""
        what = f"{counted(count, 'record')} of {name!r} that waited here"
        self.say(f"{self.database.shown} is back: {what} {'is' if count == 1 else 'are'} in it now.")

    def _only_here(self, entries: Iterable[Entry]) -> list[str]:
        """The sessions that wait here, and that the database has under no name of this user's."""
        keys, idents = {key(entry.name) for entry in entries}, {entry.id for entry in entries}
        return [n for n, file in self.waiting.names().items() if key(n) not in keys and file not in idents]

    def _outlined(self, name: str, entry: Entry | None) -> Outline | None:
        try:
            return Outline.of(Session.replay(name, self._records(name, entry)))
        except ChatmemError as error:
            self.say(f"Session {name!r} is left out: {error.message}")
            return None

    def _records(self, name: str, entry: Entry | None) -> list[Record]:
        """What the database has, and behind it what waits here: records, and what a dead process left of a reply."""
        files = self.waiting.of(name, entry.id) if entry else [self.waiting.names().get(name, name)]
        waiting = [record for file in files or ([entry.id] if entry else []) for record in self.waiting.records(file)]
        if entry is None:
            return [*self.waiting.headers(files[0]), *waiting]
        records = self.read(entry.id)[0]
        known = {record.get("id") for record in records if record.get("type") == "message"}
        return records + [r for r in waiting if r.get("id") not in known]

    def _kept(self, name: str) -> Entry:
        """A session that is in the database. Raises NoSuchSession, or StoreAway where it only waits here."""
        name, entry = self._found(name)
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
