"""What a database has to offer to keep sessions: a few operations, each of them atomic and safe to try again.

A session is an id with numbered records; a name leads a user to it, and a second name another user (a share). Who
writes holds a lease, which a killed process cannot renew. Records are appended by the lease's holder only, and one
that is there already, by its id, is not added again: so whatever may have failed can be repeated.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from chatmem.errors import StoreAway

LEASE = 15.0
"""Seconds until the lease of a process that no longer renews it is over."""
TRASH = 30 * 86_400
"""Seconds for which a deleted session's records stay, for a chat that is in the middle of it."""
UNBORN = "*"
"""The user, which nobody can be, who has a session while its first records are still on their way."""
PATIENCE = 4
"""Seconds to wait for a connection, and for an answer."""
SLOW = 0.5
"""Seconds: where a failure took longer, no question waits for another try."""

Line = tuple[str, str]
"""A record's id, and the record as a line of JSON."""


class Entry(NamedTuple):
    """A session in a user's list."""

    name: str
    id: str
    owner: str | None
    """Whose it is, where another user shared it."""
    last: int
    """The number of its last record."""
    changed: float
    """When that was added, in seconds of the server's clock."""


class Database(ABC):
    """Where sessions are kept for several users and machines. Raises StoreAway where the server cannot be reached."""

    expires: ClassVar[bool] = False
    """Whether the server itself forgets what was not used for `keep` seconds."""
    shown: str
    """The address, without its password."""
    identity: str
    """What tells this place from others, without its password."""
    open_to_all: bool = False
    """Whether what is said crosses a network unencrypted."""

    _away: StoreAway | None = None
    _away_until = 0.0

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around every question to the server: who has just waited for it in vain does not wait again at once."""
        begun = time.monotonic()
        if self._away and begun < self._away_until:
            raise self._away
        try:
            yield
        except StoreAway as away:
            if time.monotonic() - begun > SLOW:
                self._away, self._away_until = away, time.monotonic() + PATIENCE
            raise

    @abstractmethod
    def entries(self, user: str, key: str | None = None, session: str | None = None) -> list[Entry]:
        """What a user has: all of it, or what has that key, or is that session."""

    @abstractmethod
    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        """Begin a session with its first records, all or nothing; False if the user has that key already."""

    @abstractmethod
    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        """Give a user a name for a session that is there; False if the user has that key already."""

    @abstractmethod
    def unlink(self, session: str, user: str | None = None) -> None:
        """Take away a user's name for a session, or everybody's. What has no name is kept for `TRASH` more seconds."""

    @abstractmethod
    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        """Change a user's name for a session; False if the user has that key already."""

    @abstractmethod
    def erase(self, session: str) -> None:
        """Remove a session with its records and every name."""

    @abstractmethod
    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        """The records with a number above `after`, in their order: number and line."""

    @abstractmethod
    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        """Add records, all or none, and renew the lease. Returns the last number; None if the lease is lost."""

    @abstractmethod
    def lock(self, session: str, holder: str) -> bool | None:
        """Take or renew the lease for `LEASE` seconds; False if another holds it, None if the session is gone."""

    @abstractmethod
    def unlock(self, session: str, holder: str) -> None:
        """Give the lease back."""

    def close(self) -> None:
        """Let go of the connection."""
