"""The trash of a database: which sessions of a user were deleted.

A deleted session has no name any more, and the database removes it after a while. Beside it there is a marker: a
session of one record, which belongs to a user that cannot exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chatmem.errors import SessionLockedError, SessionNotFoundError, UsageError
from chatmem.history.names import canonical_key
from chatmem.history.records import new_id, utc_now
from chatmem.stores.base import DeletedSession
from chatmem.stores.codec import decode
from chatmem.stores.database.base import TRASH_USER, Database, SessionRow
from chatmem.stores.database.row_codec import encode_lines


class DatabaseTrash:
    """The markers of one user."""

    def __init__(self, database: Database, user: str) -> None:
        self.database, self.user, self._owner = database, user, f"{TRASH_USER}{user}"

    def add(self, row: SessionRow) -> None:
        """Mark a session as deleted, before it loses its name. Only while its lease is held."""
        self._remove(row.id)  # of a process that was killed before it had deleted or restored the session
        marker = {"type": "deleted", "session": row.id, "name": row.name, "time": utc_now()}
        self.database.create(self._owner, row.id, row.id, new_id(), encode_lines([marker]))

    def entries(self) -> list[DeletedSession]:
        """The deleted sessions that the database still has, the last deleted one first. Removes other markers."""
        found = []
        for row in self.database.rows(self._owner):
            marker = next((decode(line.encode()) for _, line in self.database.read(row.id, 0)), None) or {}
            lines = self.database.read(str(marker.get("session")), 0)
            if not lines:
                self.database.purge(row.id)
            elif not self.database.rows(self.user, session=str(marker["session"])):  # else it is being deleted now
                entry = DeletedSession(str(marker.get("name")), str(marker.get("time")), str(marker["session"]))
                found.append(entry.with_content(record for _, line in lines if (record := decode(line.encode()))))
        return sorted(found, key=lambda entry: entry.deleted, reverse=True)

    def restore(self, deleted: DeletedSession, name: str) -> None:
        """Give a deleted session a name. Raises UsageError if it is taken, and SessionNotFoundError if it is too late.

        The lease keeps other processes away that would restore the session too, or remove it.
        """
        key = canonical_key(name)
        with self._lease(deleted):
            if self.database.rows(self.user, session=deleted.key):
                raise SessionNotFoundError(f"Session {deleted.name!r} was restored by another process.")
            if not self.database.link(self.user, key, name, deleted.key, None):
                if self.database.rows(self.user, key):
                    raise UsageError(f"There is already a session {name!r}.", "Choose another name.")
                raise _gone(deleted)
            self._remove(deleted.key)

    @contextlib.contextmanager
    def _lease(self, deleted: DeletedSession) -> Iterator[None]:
        holder = new_id()
        is_held = self.database.lock(deleted.key, holder)
        if is_held is None:
            raise _gone(deleted)
        if not is_held:
            raise SessionLockedError(f"Session {deleted.name!r} is in use by another process.", "Try again.")
        try:
            yield
        finally:
            self.database.unlock(deleted.key, holder)

    def _remove(self, session: str) -> None:
        """Remove the marker of a session."""
        for row in self.database.rows(self._owner, key=session):
            self.database.purge(row.id)


def _gone(deleted: DeletedSession) -> SessionNotFoundError:
    return SessionNotFoundError(f"Session {deleted.name!r} was removed from the trash.")
