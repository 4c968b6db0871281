"""One session of a database, open for reading and appending, whether the database accepts records or not.

While it cannot be reached, or refuses to store, the session continues in the outbox, a file of this machine. When the
database accepts records again, the outbox is appended to it: by record id, so that nothing is stored twice. The
processes of one machine take turns under a file lock, and hold the session's lease in the database within it: so the
outbox and the draft of a session belong to one process at a time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from chatmem.errors import ChatmemError, StorageError, StoreUnavailableError, UsageError
from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.stores.base import SessionLog
from chatmem.stores.database.base import SLOW_FAILURE
from chatmem.stores.database.catalog import Catalog
from chatmem.stores.database.outbox import Outbox
from chatmem.stores.database.remote_log import CONTINUED_ELSEWHERE, RemoteLog
from chatmem.stores.database.row_codec import encode_line, has_id, with_record_id, without_record_id
from chatmem.stores.file.log import FileLog
from chatmem.stores.file.posix_io import DraftFile
from chatmem.text import pluralize

REFUSALS = (StorageError, UsageError)
"""The errors of a database that does not store a record: the outbox does."""
RECONNECT_INTERVAL = 2.0
"""Seconds between two attempts to reach the database again."""


class DatabaseLog(SessionLog):
    """One session of a database, or of the outbox while the database accepts nothing."""

    unavailable: ChatmemError | None

    def __init__(
        self,
        catalog: Catalog,
        outbox: Outbox,
        name: str,
        ident: str | None,
        first: Sequence[Record] = (),
        cause: ChatmemError | None = None,
    ) -> None:
        """`ident` is the session's id in the database. None: it exists only in the outbox, because of `cause`."""
        self.outbox = outbox
        self.unavailable = None
        self._remote = RemoteLog(catalog, name, ident or outbox.ident_for(name))
        self._local: FileLog | None = None
        self._draft = DraftFile(outbox.directory.system)
        self._pending: list[Record] = []
        self._held = contextlib.ExitStack()
        self._is_exclusive = False
        self._is_slow = False
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._reconnecting: threading.Thread | None = None
        if ident is None:
            with self.outbox.exclusive(self._file, True, self.name):
                self._use_outbox(
                    cause or StoreUnavailableError("The session is in the outbox."), first, announce=cause is not None
                )

    @property
    def name(self) -> str:  # type: ignore[override]  # the remote log follows renames
        return self._remote.name

    def read(self) -> tuple[list[Record], bool]:
        if not self._local:
            try:
                records, replaced = self._remote.read()
            except REFUSALS as cause:
                if not self._is_exclusive:
                    raise
                self._held.enter_context(self._use_outbox(cause).exclusive())
                return self.read()[0], False
            pending, self._pending = self._pending, []
            return (records if replaced else pending + records), replaced
        records, replaced = self._local.read()
        pending, self._pending = self._pending, []
        kept = (r for r in records if r.get("type") != "session" or not self._remote.ident)
        return pending + [without_record_id(record) for record in kept], replaced

    def append(self, records: Iterable[Record]) -> None:
        records = list(map(with_record_id, records))  # so that what may be stored already is not stored again
        if not self._local:
            try:
                self._remote.append(records)
                return
            except REFUSALS as cause:
                self._held.enter_context(self._use_outbox(cause).exclusive())
        assert self._local
        self._local.append(records)

    @contextlib.contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        with (
            self._lock,
            self.outbox.exclusive(self._file, wait, self.name) as owner,
            contextlib.ExitStack() as self._held,
        ):
            if not self._local or not self._is_slow:
                try:
                    self._timed(lambda: self._enter(wait, owner))
                except REFUSALS as cause:
                    self._use_outbox(cause)
            if self._local:
                self._held.enter_context(self._local.exclusive(wait))
            self._is_exclusive = True
            self._held.callback(setattr, self, "_is_exclusive", False)
            yield

    def open_draft(self, skeleton: Record) -> Callable[[str], None]:
        with contextlib.suppress(ChatmemError):
            self.outbox.directory.make_dir()
        return self._draft.start(self.outbox.path(self._file, ".partial"), skeleton)

    def close_draft(self, stored: bool = True) -> None:
        self._draft.finish(self.outbox.path(self._file, ".partial"), stored)

    def close(self) -> None:
        self._closed.set()
        self._draft.close()
        if self._local:
            self._local.close()

    @property
    def _file(self) -> str:
        """The file of this session in the outbox, whether it exists or not."""
        return self._local.name if self._local else self.outbox.file_for(self.name, self._remote.ident)

    # From the database to the outbox

    def _use_outbox(self, cause: ChatmemError, first: Sequence[Record] = (), announce: bool = True) -> FileLog:
        """Continue in the outbox, and try in the background to use the database again. Raises StorageError."""
        self._remote.unreachable = isinstance(cause, StoreUnavailableError)
        if self._local is None:
            try:
                self._local = self.outbox.open(self.name, self._remote.ident, list(first))
            except StorageError as error:
                raise StorageError(f"{cause.message} {error.message}", error.hint, error.action) from error
            self._local.draft = self._draft
            if announce:
                state = "Store unreachable; saving" if self._remote.unreachable else "Saving"
                until = "it returns" if self._remote.unreachable else "the store accepts it"
                path = self.outbox.path(self._local.name)
                self._remote.catalog.notify(f"{cause.message} {state} to {path} until {until}.")
        previous, self.unavailable = self.unavailable, cause
        if previous is None and not (self._reconnecting and self._reconnecting.is_alive()):
            self._reconnecting = threading.Thread(target=self._reconnect, daemon=True, name="reconnect")
            self._reconnecting.start()
        return self._local

    def _timed(self, request: Callable[[], object]) -> None:
        """Note whether a request fails slowly: then only the background thread tries again."""
        started = time.monotonic()
        try:
            request()
            self._is_slow = False
        except StorageError:
            self._is_slow = time.monotonic() - started > SLOW_FAILURE
            raise

    # From the outbox to the database

    def _reconnect(self) -> None:
        """Try between turns to reach the database, until it answers."""
        while self.unavailable and not self._closed.wait(RECONNECT_INTERVAL):
            with contextlib.suppress(ChatmemError):
                self._timed(lambda: self._remote.catalog.row(self.name))  # without the lock: no turn waits for this
                if self._lock.acquire(blocking=False):
                    try:
                        with (
                            self.outbox.exclusive(self._file, False, self.name) as owner,
                            contextlib.ExitStack() as self._held,
                        ):
                            self._enter(False, owner)
                    finally:
                        self._lock.release()

    def _enter(self, wait: bool, owner: str) -> None:
        """Take the lease, and bring the session up to date: the outbox, and the draft of a process that died."""
        file = self._file

        def headers() -> list[Record]:
            return self.outbox.headers(file)

        ident = self._remote.resolve(headers)
        if file != ident:  # processes that know the session's id lock the file of that name
            owner = self._held.enter_context(self.outbox.exclusive(ident, wait, self.name))
        self._remote.enter(wait, headers, self._held, owner)
        self._flush_outbox()

    def _flush_outbox(self) -> None:
        """Move the records of the outbox to the session in the database."""
        ident, count = self._remote.ident, 0
        assert ident is not None
        files = self.outbox.files_for(self.name, ident)
        if ident not in files:
            self._recover_draft(ident)  # before what was said after it
        for file in files:
            local = self._local if self._local and self._local.name == file else self.outbox.open_existing(file)
            try:
                with local.exclusive(wait=False):
                    records = self.outbox.records(file)
                    if records:
                        self._remote.append_lines([encode_line(r) for r in self._attach(ident, records)])
                    self.outbox.remove(file)
            finally:
                if local is not self._local:
                    local.close()
            count += len(records)
            self._remote.replaced = True
        if self._local:
            self._local.close()
        self._local, self.unavailable = None, None
        if count:
            url = self._remote.catalog.database.display_url
            self._remote.catalog.notify(f"Moved {pluralize(count, 'record')} of {self.name!r} to {url}.")

    def _attach(self, ident: str, records: list[Record]) -> Iterator[Record]:
        """The records of the outbox, so that they follow what other machines added to the session in the meantime.

        What followed the end that was known here then follows the current end, and so does the first question. Replies
        without a later question stay on a branch of their own.
        """
        stored = Session.replay(self.name, self._remote.catalog.read(ident)[0])
        first = next((r for r in records if has_id(r) or r.get("type") == "head"), {})
        is_continued = has_id(first) and first["id"] not in stored.messages and first.get("parent") != stored.head
        if not is_continued or stored.head is None:
            yield from records
            return
        question = next((r for r in records if has_id(r) and r.get("role") == "user"), None)
        known_end = first.get("parent")
        for record in records:
            if record is question or (record.get("role") == "user" and record.get("parent") == known_end):
                yield {**record, "parent": stored.head}
            elif record.get("type") == "head" and record.get("message") == known_end:
                yield {**record, "message": stored.head}
            else:
                yield record
        if question is None:
            yield with_record_id({"type": "head", "message": stored.head})
        outcome = "This turn is on its own branch." if question is None else "What was saved here follows it."
        self._remote.catalog.notify(f"{CONTINUED_ELSEWHERE.format(self.name)} {outcome}")

    def _recover_draft(self, ident: str) -> None:
        """Turn the draft of a process of this machine that died into an interrupted message."""
        if self._draft.in_use:
            return
        try:
            draft = self.outbox.draft(ident)
        except OSError:
            return
        if draft:
            self._pending += self._remote.read_new()
            records = list(self._attach(ident, [draft]))
            self._remote.append_lines([encode_line(record) for record in records])
            self._pending += map(without_record_id, records)
        self.outbox.remove(ident, ".partial")  # also one without text: the next reply needs its place
