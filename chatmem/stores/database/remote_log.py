"""One session in a database that can be reached: its lease, its name, and what was read of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from chatmem.errors import ChatmemError, SessionLockedError, StorageError
from chatmem.history.names import canonical_key, unique_name
from chatmem.history.records import Record, header, new_id
from chatmem.history.session import Session
from chatmem.stores.database.base import LEASE_SECONDS, Line
from chatmem.stores.database.catalog import Catalog
from chatmem.stores.database.row_codec import encode_lines, has_id, message_ids

CONTINUED_ELSEWHERE = "Another process continued session {!r} in the meantime."


class RemoteLog:
    """One session in a database. Everything raises StoreUnavailableError if the server cannot be reached.

    `ident` is the session's id in the database, None until it was found or created there.
    """

    def __init__(self, catalog: Catalog, name: str, ident: str | None) -> None:
        self.catalog, self.name, self.ident = catalog, name, ident
        self.replaced = False
        """Whether everything read before is invalid."""
        self.unreachable = False
        """Whether the server became unreachable during this turn. Then its lease is left to expire."""
        self._id = new_id()
        self._holder = self._id
        self._last = 0
        self._known_ids: set[str] = set()

    def read(self) -> tuple[list[Record], bool]:
        """The records added since the last read, and whether they replace everything read before."""
        if self.replaced:
            self._last = 0
        records = self.read_new()
        replaced, self.replaced = self.replaced, False
        return records, replaced

    def read_new(self) -> list[Record]:
        records, self._last = self.catalog.read(self._known_ident, self._last)
        self._known_ids |= message_ids(records)
        return records

    def append(self, records: Sequence[Record]) -> None:
        """Add records. One that was read before gets a new id.

        If another process continued the session since it was read, while this one was suspended and its lease expired,
        the conversation stays with what that process added. The records are on a branch of their own.
        """
        lines, last_read = encode_lines(records, self._known_ids), self._last
        self.append_lines(lines)
        is_late = 0 < last_read < self._last - len(lines)
        if is_late and any(has_id(record) for record in records) and self._has_others(last_read, lines):
            self._return_to_others({ident for ident, _ in lines})

    def _has_others(self, last_read: int, lines: Sequence[Line]) -> bool:
        """Whether there are records after a number that are not among `lines`. Numbers may have gaps."""
        own = {line for _, line in lines}
        return any(line not in own for _, line in self.catalog.database.read(self._known_ident, last_read))

    def _return_to_others(self, added: set[str]) -> None:
        """Move the head to where the conversation is without the messages with the ids `added`."""
        others = [r for r in self.catalog.read(self._known_ident)[0] if not message_ids([r]) & added]
        head = Session.replay(self.name, others).head
        self.append_lines(encode_lines([{"type": "head", "message": head}]))
        self.replaced = True
        self.catalog.notify(f"{CONTINUED_ELSEWHERE.format(self.name)} This turn is on its own branch.")

    def append_lines(self, lines: Sequence[Line]) -> None:
        """Add records under the lease. One whose id is stored already is not added again. Raises StorageError."""
        database, ident = self.catalog.database, self._known_ident
        last = database.append(ident, self._holder, lines)
        if last is None:  # this process was suspended for longer than the lease lasts
            if not database.lock(ident, self._holder):
                raise StorageError(f"Another process took over session {self.name!r}.")
            last = database.append(ident, self._holder, lines)
            if last is None:
                raise StorageError(f"Another process took over session {self.name!r}.")
        self._last = last
        self._known_ids.update(line_id for line_id, _ in lines)

    def resolve(self, headers: Callable[[], Sequence[Record]]) -> str:
        """The session's id in the database. A session that does not exist there is created, with `headers`."""
        self.unreachable = False
        if self.ident is None:
            self._find_or_create(headers)
        return self._known_ident

    def enter(
        self, wait: bool, headers: Callable[[], Sequence[Record]], held: contextlib.ExitStack, owner: str = ""
    ) -> None:
        """Take the lease until `held` is closed, and learn the session's current name.

        `headers` returns the first records of the session, if it has to be created. `owner` is a name that this process
        shares with processes that are known to be dead if they still hold the lease: it is taken from them at once.
        Raises SessionLockedError if another process holds the lease and `wait` is false.
        """
        self._holder = f"{owner}/{self._id}" if owner else self._id
        self._acquire(wait, headers)
        stop = threading.Event()
        held.callback(self._release, stop)
        threading.Thread(target=self._renew, args=(stop,), daemon=True, name="lease").start()
        self._follow()

    # The lease

    def _acquire(self, wait: bool, headers: Callable[[], Sequence[Record]]) -> None:
        pause, notified = 0.005, False
        while True:
            acquired = self.catalog.database.lock(self._known_ident, self._holder)
            if acquired:
                return
            if acquired is None:
                self._create_again(headers)
                continue
            if not wait:
                raise SessionLockedError(
                    f"Session {self.name!r} is in use by another process.", "Try again when its turn is done."
                )
            if not notified and pause > 0.1:
                notified = True
                self.catalog.notify(f"Session {self.name!r} is in use. Waiting for its turn to end (Ctrl-C cancels).")
            time.sleep(pause)
            pause = min(pause * 1.3, 0.25)

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(LEASE_SECONDS / 3):
            with contextlib.suppress(ChatmemError):
                self.catalog.database.lock(self._known_ident, self._holder)

    def _release(self, stop: threading.Event) -> None:
        stop.set()
        if not self.unreachable:
            with contextlib.suppress(ChatmemError):  # the lease expires by itself
                self.catalog.database.unlock(self._known_ident, self._holder)

    # The session behind the name

    def _find_or_create(self, headers: Callable[[], Sequence[Record]]) -> None:
        row = self.catalog.row(self.name)
        self.ident = row.id if row else self.catalog.create(self.name, encode_lines(headers() or [header(self.name)]))

    def _create_again(self, headers: Callable[[], Sequence[Record]]) -> None:
        """The session was purged or has expired: create it again."""
        self.catalog.notify(f"Session {self.name!r} was erased elsewhere; started again under the same name.")
        self.ident = None
        self.replaced = True
        self._find_or_create(headers)

    def _follow(self) -> None:
        """Notice that the session was renamed or deleted. A deleted one is saved again under the same name."""
        database, user = self.catalog.database, self.catalog.user
        row = next(iter(database.rows(user, session=self._known_ident)), None)
        if row is None:
            taken = [other.name for other in database.rows(user)]
            is_taken = canonical_key(self.name) in map(canonical_key, taken)
            name = unique_name(taken, self.name) if is_taken else self.name
            database.link(user, canonical_key(name), name, self._known_ident, None)
            self.catalog.notify(f"Session {self.name!r} was deleted elsewhere; saved again as {name!r}.")
            self.name = name
        elif row.name != self.name:
            self.catalog.notify(f"Session {self.name!r} was renamed to {row.name!r}.")
            self.name = row.name

    @property
    def _known_ident(self) -> str:
        assert self.ident is not None
        return self.ident
