"""Sessions in a database, for several users and machines. What cannot be written there is kept in the outbox."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from chatmem.errors import (
    ChatmemError,
    Notify,
    SessionNotFoundError,
    StorageError,
    StoreUnavailableError,
    UsageError,
    ignore_notices,
)
from chatmem.history.names import canonical_key, is_valid, unique_name, validate
from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.stores.base import DeletedSession, SessionInfo, SessionLog, SessionStore, newest_first
from chatmem.stores.database.base import ABOUT_USER, TRASH_SECONDS, Database, SessionRow
from chatmem.stores.database.catalog import Catalog
from chatmem.stores.database.log import DatabaseLog
from chatmem.stores.database.outbox import Outbox
from chatmem.stores.database.row_codec import encode_lines
from chatmem.stores.database.trash import DatabaseTrash
from chatmem.stores.session_index import FileStamp, SessionIndex


class DatabaseStore(SessionStore):
    """A user's sessions in a database, and those that other users share."""

    deleted_note: ClassVar[str] = f"deleted; the database keeps it for {TRASH_SECONDS // 86_400} days"

    def __init__(self, database: Database, user: str, path: Path, notify: Notify = ignore_notices) -> None:
        super().__init__(notify)
        self.database, self.user = database, user
        self.catalog = Catalog(database, user, notify)
        self._trash = DatabaseTrash(database, user)
        self.outbox = Outbox(path, notify)
        self._index = SessionIndex(path / ".database.sqlite")
        self.expires = database.expires

    # Finding

    def names(self) -> list[str]:
        local = self.outbox.names()
        try:
            rows = self.database.rows(self.user)
        except StorageError:
            if not local:
                raise
            return list(local)
        return [row.name for row in rows] + self._only_in_outbox(rows)

    def lookup(self, name: str) -> str | None:
        with contextlib.suppress(StorageError):
            if is_valid(name) and (row := self.catalog.row(name)):
                return row.name
        return super().lookup(name)

    def location(self, name: str | None = None) -> str:
        return f"{self.database.display_url}#{self.find(name)}" if name else self.database.display_url

    def list_sessions(self) -> list[SessionInfo]:
        try:
            rows = {row.name: row for row in self.database.rows(self.user)}
        except StorageError as error:
            if not self.outbox.names():
                raise
            self.notify(f"{error.message} Only sessions in the outbox are listed.")
            rows = {}
        stamps: dict[str, FileStamp] = {
            row.name: (row.last, int(row.changed * 1e6), zlib.crc32(row.id.encode())) for row in rows.values()
        }
        with contextlib.suppress(OSError, StorageError):
            self.outbox.directory.make_dir()
        remote = self._index.sessions(stamps, lambda name: self._info(name, rows[name]), self.progress)
        local = (self._info(name, None) for name in self._only_in_outbox(rows.values()))
        return newest_first(
            [*(info._replace(owner=rows[info.name].owner) for info in remote), *(info for info in local if info)]
        )

    def rebuild_index(self) -> None:
        self._index.delete()
        self.list_sessions()

    def _find_row(self, name: str) -> tuple[str, SessionRow | None]:
        """A session's name and its row, None if it is only in the outbox. Raises SessionNotFoundError."""
        row = self.catalog.row(name) if is_valid(name) else None
        name = row.name if row else super().find(name)
        return name, row or self.catalog.row(name)

    def _require_row(self, name: str) -> SessionRow:
        """The row of a session. Raises SessionNotFoundError, or StoreUnavailableError if it is only in the outbox."""
        name, row = self._find_row(name)
        if row is None:
            raise StoreUnavailableError(
                f"Session {name!r} is still in the outbox for {self.database.display_url}.",
                "Open it once the database is back.",
            )
        return row

    def _only_in_outbox(self, rows: Iterable[SessionRow]) -> list[str]:
        """The sessions in the outbox that the database does not know."""
        keys, idents = {canonical_key(row.name) for row in rows}, {row.id for row in rows}
        local = self.outbox.names().items()
        return [name for name, file in local if canonical_key(name) not in keys and file not in idents]

    # Reading

    def records(self, name: str) -> list[Record]:
        try:
            return self._records(*self._find_row(name))
        except StorageError:
            return self._records(super().find(name), None)  # if it is in the outbox

    def _records(self, name: str, row: SessionRow | None) -> list[Record]:
        """The records in the database, then those in the outbox and the draft of a process that died."""
        files = self.outbox.files_for(name, row.id) if row else [self.outbox.names().get(name, name)]
        local = [record for file in files or ([row.id] if row else []) for record in self.outbox.records(file)]
        if row is None:
            return [*self.outbox.headers(files[0]), *local]
        records = self.catalog.read(row.id)[0]
        known = {record.get("id") for record in records if record.get("type") == "message"}
        return records + [record for record in local if record.get("id") not in known]

    def _lines(self, name: str) -> Iterable[bytes]:
        row = self._find_row(name)[1]
        if row is None:
            return super()._lines(name)
        return (line.encode() + b"\n" for _, line in self.database.read(row.id, 0))

    def _info(self, name: str, row: SessionRow | None) -> SessionInfo | None:
        try:
            return SessionInfo.from_session(Session.replay(name, self._records(name, row)))
        except ChatmemError as error:
            self.notify(f"Skipped session {name!r}: {error.message}")
            return None

    # Writing

    def open(self, name: str, first: Iterable[Record] = ()) -> SessionLog:
        if first := list(first):
            name = validate(name)
            try:
                self.catalog.create(name, encode_lines(first))
            except StorageError as cause:
                return self._open_log(name, None, first, cause)
        try:
            name, row = self._find_row(name)
        except StorageError as cause:
            with contextlib.suppress(SessionNotFoundError, StorageError):
                name = super().find(name)  # it is in the outbox
            return self._open_log(name, None, cause=cause)
        return self._open_log(row.name, row.id) if row else self._open_log(name, None)

    def _open_log(
        self,
        name: str,
        ident: str | None,
        first: list[Record] | None = None,
        cause: StorageError | None = None,
    ) -> DatabaseLog:
        return DatabaseLog(self.catalog, self.outbox, name, ident, first or (), cause)

    def rename(self, name: str, new: str) -> None:
        row, new = self._require_row(name), validate(new)
        with self._exclusive(row):
            if not self.database.rename(self.user, row.id, canonical_key(new), new):
                raise UsageError(f"There is already a session {new!r}.", "Choose another name.")

    def delete(self, name: str, purge: bool = False) -> None:
        """Remove a session's name, with `purge` its records too. Of a shared session only this user's name."""
        row = self._require_row(name)
        if row.owner is not None:
            self.database.unlink(row.id, self.user)
            return
        with self._exclusive(row):
            if purge:
                self.database.purge(row.id)
            else:
                self._trash.add(row)
                self.database.unlink(row.id)

    def user_store(self) -> DatabaseStore:
        path = self.outbox.directory.root
        return DatabaseStore(
            self.database, f"{ABOUT_USER}{self.user}", path.with_name(f"{path.name}.about"), self.notify
        )

    def trash(self) -> list[DeletedSession]:
        return self._trash.entries()

    def _restore(self, deleted: DeletedSession, name: str) -> None:
        self._trash.restore(deleted, name)

    def share(self, name: str, user: str) -> str:
        row, user = self._require_row(name), validate(user, "user") if user else ""
        if user == self.user:
            raise UsageError("You cannot share a session with yourself.", "Name another user.")
        others = self.database.rows(user)
        if row.id in {other.id for other in others}:
            raise UsageError(f"Session {row.name!r} is already shared with {user!r}.")
        shared_name = unique_name((other.name for other in others), row.name)
        owner = self.user if row.owner is None else row.owner
        self.database.link(user, canonical_key(shared_name), shared_name, row.id, owner)
        return shared_name

    @contextlib.contextmanager
    def _exclusive(self, row: SessionRow) -> Iterator[SessionLog]:
        log = self._open_log(row.name, row.id)
        try:
            with log.exclusive(wait=False):
                if log.unavailable:
                    raise log.unavailable
                yield log
        finally:
            log.close()
