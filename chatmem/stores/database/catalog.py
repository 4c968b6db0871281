"""The sessions of one user in a database: finding, creating and reading them."""

from __future__ import annotations

from collections.abc import Sequence

from chatmem.errors import Notify, StorageError, UsageError
from chatmem.history.names import canonical_key
from chatmem.history.records import Record, new_id
from chatmem.stores.codec import MALFORMED, decode
from chatmem.stores.database.base import PENDING_USER, Database, Line, SessionRow

MAX_BATCH = 1000
"""Records that are sent together when a session is created with many."""


class Catalog:
    """The sessions of one user in a database."""

    def __init__(self, database: Database, user: str, notify: Notify) -> None:
        self.database, self.user, self.notify = database, user, notify

    def row(self, name: str) -> SessionRow | None:
        """The session with a name, ignoring case."""
        return next(iter(self.database.rows(self.user, canonical_key(name))), None)

    def read(self, ident: str, after: int = 0) -> tuple[list[Record], int]:
        """The records of a session after a number, and the number of the last one."""
        rows = self.database.read(ident, after)
        return [decode(line.encode()) or MALFORMED for _, line in rows], rows[-1][0] if rows else after

    def create(self, name: str, lines: Sequence[Line]) -> str:
        """Create a session, all or nothing. Returns its id. Raises UsageError if the name is taken."""
        ident = new_id()
        taken = UsageError(f"There is already a session {name!r}.", "Choose another name.")
        if len(lines) <= MAX_BATCH:
            if not self.database.create(self.user, canonical_key(name), name, ident, lines):
                raise taken
            return ident
        if self.row(name):
            raise taken
        self.database.create(PENDING_USER, ident, ident, ident, lines[:MAX_BATCH])
        self.database.lock(ident, ident)
        for start in range(MAX_BATCH, len(lines), MAX_BATCH):
            if self.database.append(ident, ident, lines[start : start + MAX_BATCH]) is None:
                raise StorageError(f"Cannot write session {name!r} completely.", "Try again.")
        self.database.unlock(ident, ident)
        if not self.database.link(self.user, canonical_key(name), name, ident, None):
            self.database.purge(ident)
            raise taken
        self.database.unlink(ident, PENDING_USER)
        return ident
