"""The trash of a database: which sessions of a user were deleted.

A deleted session has no name any more, and the database removes it after a while. Beside it there is a marker: a
session of one record, which belongs to a user that cannot exist.
"""

from __future__ import annotations

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
        """Mark a session as deleted, before it loses its name."""
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

    def remove(self, session: str) -> None:
        """Remove the marker of a session that was restored."""
        for row in self.database.rows(self._owner, key=session):
            self.database.purge(row.id)
