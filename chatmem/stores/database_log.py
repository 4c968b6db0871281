"""One session of a database, open for reading and appending, whether the database answers or not.

While it does not, the session goes on in a file of this machine. When it answers again, what waited is appended: by
record id, so that nothing is in it twice. The processes of one machine take turns under a file lock, and hold the
session's lease in the database within it: so the file and the partial reply of a session are one process's at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from chatmem.errors import Busy, ChatmemError, NotSaved, StoreAway
from chatmem.names import fresh, key
from chatmem.records import Record, header, new_id
from chatmem.session import Session
from chatmem.stores.base import Log
from chatmem.stores.database import LEASE, SLOW, Line
from chatmem.stores.disk import Partial
from chatmem.stores.jsonl_log import JsonlLog
from chatmem.stores.lines import line_of
from chatmem.stores.waiting import ID

if TYPE_CHECKING:
    from chatmem.stores.database_store import DatabaseStore

AGAIN = 2.0
"""Seconds between two looks whether a database is back."""


class DatabaseLog(Log):
    """One session; `ident` is its id in the database, None where it is only known here."""

    def __init__(
        self,
        store: DatabaseStore,
        name: str,
        ident: str | None,
        first: Sequence[Record] = (),
        away: StoreAway | None = None,
    ) -> None:
        self.store, self.name, self._ident = store, name, ident
        self.away: StoreAway | None = None
        """Why the database cannot be reached; None if it can."""
        self._holder = new_id()
        self._read_to = 0
        self._anew = False
        self._held: list[Record] = []
        self._ids: set[str] = set()
        self._turn = contextlib.ExitStack()
        self._partial = Partial(store.waiting.system)
        self._local: JsonlLog | None = None
        self._slow = False
        self._mine = threading.RLock()
        self._over = threading.Event()
        if ident is None:
            with self.store.waiting.turn(self._place, True, self.name):
                self._wait_here(away or StoreAway("It waits here."), first, say=away is not None)

    def read(self) -> tuple[list[Record], bool]:
        held, self._held = self._held, []
        if self._local:
            records, anew = self._local.read()
            return held + [_untagged(r) for r in records if r.get("type") != "session" or not self._ident], anew
        if self._anew:
            self._anew, self._read_to, held = False, 0, []
            return self._rows(), True
        return held + self._rows(), False

    def append(self, records: Iterable[Record]) -> None:
        records = list(records)
        if not self._local:
            try:
                self._append(lines_of(records, self._ids))
                return
            except StoreAway as away:
                self._wait_here(away)
                assert self._local
                self._turn.enter_context(self._local.turn())
        self._local.append([r if _named(r) else {**r, ID: new_id()} for r in records])

    @contextlib.contextmanager
    def turn(self, wait: bool = True) -> Iterator[None]:
        with self._mine, self.store.waiting.turn(self._place, wait, self.name), contextlib.ExitStack() as self._turn:
            if not self._local or not self._slow:
                try:
                    self._timed(lambda: self._enter(wait))
                except StoreAway as away:
                    self._wait_here(away)
            if self._local:
                self._turn.enter_context(self._local.turn(wait))
            yield

    def partial(self, skeleton: Record) -> Callable[[str], None]:
        with contextlib.suppress(ChatmemError):
            self.store.waiting.files.make_folder(self.store.waiting.folder)
        return self._partial.begin(self.store.waiting.path(self._place, ".partial"), skeleton)

    def partial_done(self, stored: bool = True) -> None:
        self._partial.over(self.store.waiting.path(self._place, ".partial"), stored)

    def close(self) -> None:
        self._over.set()
        self._partial.close()
        if self._local:
            self._local.close()

    @property
    def _place(self) -> str:
        """The file of this session on this machine, whether it is there or not."""
        return self._local.name if self._local else self.store.waiting.place(self.name, self._ident)

    # While the database answers

    def _enter(self, wait: bool) -> None:
        """Take the lease, and bring the session up to date: its name, what waited here, what a dead process left."""
        if self._ident is None:
            self._join()
        self._acquire(wait)
        stop = threading.Event()
        self._turn.callback(self._leave, stop)
        threading.Thread(target=self._renew, args=(stop,), daemon=True, name="lease").start()
        self._follow()
        self._move()

    def _leave(self, stop: threading.Event) -> None:
        stop.set()
        if not self.away:
            with contextlib.suppress(ChatmemError):  # it runs out by itself
                self.store.database.unlock(self._known, self._holder)

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(LEASE / 3):
            with contextlib.suppress(ChatmemError):
                self.store.database.lock(self._known, self._holder)

    def _acquire(self, wait: bool) -> None:
        pause, told = 0.005, False
        while True:
            got = self.store.database.lock(self._known, self._holder)
            if got:
                return
            if got is None:
                self._begin_anew()
                continue
            if not wait:
                raise Busy(f"Session {self.name!r} is in use by another process.", "Try again when its turn is done.")
            if not told and pause > 0.1:
                told = True
                self.store.say(f"Session {self.name!r} is in use: waiting for its turn to end (Ctrl-C to cancel).")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.25)

    def _follow(self) -> None:
        """Notice that the session was renamed or deleted; a deleted one is kept on under the same name."""
        database, user = self.store.database, self.store.user
        entry = next(iter(database.entries(user, session=self._known)), None)
        if entry is None:
            taken = [other.name for other in database.entries(user)]
            name = fresh(taken, self.name) if key(self.name) in map(key, taken) else self.name
            database.link(user, key(name), name, self._known, None)
            self.store.say(f"Session {self.name!r} was deleted meanwhile: it is kept on as {name!r}.")
            self.name = name
        elif entry.name != self.name:
            self.store.say(f"Session {self.name!r} is called {entry.name!r} now.")
            self.name = entry.name

    def _begin_anew(self) -> None:
        """The session was erased, or has expired: nothing of it is left to go on with."""
        self.store.say(f"Session {self.name!r} was erased meanwhile: it begins anew.")
        self._ident = None
        self._anew = True
        self._join()

    def _join(self) -> None:
        """Find the session in the database, or begin it there, with the header that it has here."""
        entry = self.store.entry(self.name)
        if entry:
            self._ident = entry.id
        else:
            headers = self.store.waiting.headers(self._place) or [header(self.name)]
            self._ident = self.store.begin(self.name, lines_of(headers))

    def _append(self, lines: Sequence[Line]) -> None:
        database = self.store.database
        last = database.append(self._known, self._holder, lines)
        if last is None:  # we were stopped for longer than the lease lasts
            if not database.lock(self._known, self._holder):
                raise NotSaved(f"Another process took over session {self.name!r}.", "It is saved with the next turn.")
            last = database.append(self._known, self._holder, lines)
            self._anew = True
        self._read_to = last or self._read_to
        self._ids.update(ident for ident, _ in lines)

    def _rows(self) -> list[Record]:
        records, self._read_to = self.store.read(self._known, self._read_to) if self._ident else ([], 0)
        self._ids.update(_identity(str(r["id"])) for r in records if _named(r))
        return records

    @property
    def _known(self) -> str:
        assert self._ident is not None
        return self._ident

    # While it does not

    def _wait_here(self, away: StoreAway, first: Sequence[Record] = (), say: bool = True) -> None:
        """Go on in a file of this machine, and look in the background whether the database is back."""
        before, self.away = self.away, away
        if self._local is None:
            log = self.store.waiting.open(self.name, self._ident, list(first))
            log.partial_file = self._partial
            self._local = log
            if say:
                place = self.store.waiting.path(log.name)
                self.store.say(f"{away.message} What is said is kept in {place} until it is back.")
        if before is None:
            threading.Thread(target=self._look, daemon=True, name="away").start()

    def _look(self) -> None:
        """Try again and again, between turns, until the database answers."""
        while self.away and not self._over.wait(AGAIN):
            with contextlib.suppress(ChatmemError):
                self._timed(lambda: self.store.entry(self.name))  # no turn waits for this
                if self._mine.acquire(blocking=False):
                    try:
                        with (
                            self.store.waiting.turn(self._place, False, self.name),
                            contextlib.ExitStack() as self._turn,
                        ):
                            self._enter(wait=False)
                    finally:
                        self._mine.release()

    def _timed(self, question: Callable[[], object]) -> None:
        """Ask the database something, and note whether in vain and for long: then only the background asks again."""
        begun = time.monotonic()
        try:
            question()
            self._slow = False
        except StoreAway:
            self._slow = time.monotonic() - begun > SLOW
            raise

    def _move(self) -> None:
        """Append what waited here to the session in the database, and forget it here."""
        waiting, count = self.store.waiting, 0
        files = waiting.of(self.name, self._known)
        if self._known not in files:
            self._recover_partial()  # before what was said after it
        for file in files:
            local = self._local if self._local and self._local.name == file else waiting.files.open(file)
            with local.turn(wait=False):
                records = waiting.records(file)
                self._append([_line(r) for r in self._attached(file, records)]) if records else None
                waiting.forget(waiting.path(file))
            local.close()
            count += len(records)
            self._anew = True
        self._local, self.away = None, None
        if count:
            self.store.moved(count, self.name)

    def _attached(self, file: str, records: list[Record]) -> Iterator[Record]:
        """What was said without knowing what came before goes on where the session was."""
        head = Session.replay(self.name, self.store.read(self._known)[0]).head if file != self._ident else None
        for record in records:
            yield {**record, "parent": head} if head and _named(record) and record.get("parent") is None else record

    def _recover_partial(self) -> None:
        """What a dead process of this machine left of a reply becomes an interrupted message."""
        waiting = self.store.waiting
        if not self._partial.ours and (left := waiting.records(self._known)):
            self._held += self._rows()
            self._append([_line(r) for r in left])
            self._held += left
            waiting.forget(waiting.path(self._known, ".partial"))


def lines_of(records: Iterable[Record], known: Container[str] = ()) -> list[Line]:
    """Records as lines with the ids that they are known by; one that is `known`, or comes again, gets another."""
    lines: dict[str, str] = {}
    for record in records:
        ident, line = _line(record)
        lines[new_id() if ident in lines or ident in known else ident] = line
    return list(lines.items())


def _line(record: Record) -> Line:
    ident = _identity(record["id"]) if _named(record) else str(record.get(ID) or new_id())
    return ident, line_of(_untagged(record)).decode().removesuffix("\n")


def _identity(ident: str) -> str:
    """An id as every database can hold it."""
    plain = re.fullmatch(r"[\w.:-]{1,100}", ident, re.ASCII)
    return ident if plain else hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()


def _named(record: Record) -> bool:
    return record.get("type") == "message" and isinstance(record.get("id"), str)


def _untagged(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != ID} if ID in record else record
