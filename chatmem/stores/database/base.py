"""The interface of a database: a few operations, each atomic and safe to repeat.

A session is an id with numbered records. A name leads a user to it; a second name leads another user to it (a share).
The writer holds a lease, which a killed process cannot renew. Only the holder of the lease appends, and a record whose
id is already stored is not appended again: so any operation that may have failed can be repeated.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from chatmem.errors import StoreUnavailableError

LEASE_SECONDS = 15.0
"""Seconds after which the lease of a process that no longer renews it expires."""
TRASH_SECONDS = 30 * 86_400
"""Seconds for which the records of a deleted session are kept, for a chat that is in the middle of it."""
PENDING_USER = "*"
"""Owns a session while its first records are still being written. Not a valid user name."""
TRASH_USER = "*trash*"
"""With a user's name after it, owns the markers of the sessions that the user deleted. Not a valid user name."""
ABOUT_USER = "*about*"
"""With a user's name after it, owns what is known of the user apart from the sessions. Not a valid user name."""
TIMEOUT = 4
"""Seconds to wait for a connection, and for an answer."""
SLOW_FAILURE = 0.5
"""Seconds. After a failure that took longer, no question waits for another attempt."""

Line = tuple[str, str]
"""A record's id, and the record as a line of JSON."""


class SessionRow(NamedTuple):
    """A session in a user's list."""

    name: str
    id: str
    owner: str | None
    """The user who shares it with this one. None if it is the user's own."""
    last: int
    """The number of its last record."""
    changed: float
    """When that record was added, in seconds of the server's clock."""


def owner_prefix(holder: str) -> str:
    """The start of all holders with the same owner, empty if the holder has none."""
    return holder[: holder.find("/") + 1]


class Database(ABC):
    """Stores sessions for several users and machines. Raises StoreUnavailableError if the server is unreachable."""

    expires: ClassVar[bool] = False
    """Whether the server itself removes sessions unused for `ttl` seconds."""
    display_url: str
    """The address without its password."""
    identity: str
    """Distinguishes this place from others. Contains no password."""
    unencrypted: bool = False
    """Whether conversations cross a network unencrypted."""

    _failure: StoreUnavailableError | None = None
    _failed_until = 0.0

    @contextmanager
    def circuit_breaker(self) -> Iterator[None]:
        """Around every request: after a slow failure, further requests fail at once for a while."""
        started = time.monotonic()
        if self._failure and started < self._failed_until:
            raise self._failure
        try:
            yield
        except StoreUnavailableError as failure:
            if time.monotonic() - started > SLOW_FAILURE:
                self._failure, self._failed_until = failure, time.monotonic() + TIMEOUT
            raise

    @abstractmethod
    def rows(self, user: str, key: str | None = None, session: str | None = None) -> list[SessionRow]:
        """The sessions of a user: all of them, the one with a key, or the one with an id."""

    @abstractmethod
    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        """Create a session with its first records, all or nothing. False if the user has that key already."""

    @abstractmethod
    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        """Give a user a name for a session. False if the user has that key already, or the session does not exist."""

    @abstractmethod
    def unlink(self, session: str, user: str | None = None) -> None:
        """Remove a user's name for a session, or everyone's. Without a name it is kept for `TRASH_SECONDS`."""

    @abstractmethod
    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        """Change a user's name for a session. False if the user has that key already."""

    @abstractmethod
    def purge(self, session: str) -> None:
        """Remove a session with its records and all names."""

    @abstractmethod
    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        """The records with a number above `after`, in order: number and line."""

    @abstractmethod
    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        """Add records, all or none, and renew the lease. Returns the last number; None if the lease is lost."""

    @abstractmethod
    def lock(self, session: str, holder: str) -> bool | None:
        """Take or renew the lease. False if another process holds it, None if the session does not exist.

        A holder `OWNER/ID` also replaces any other holder of the same owner.
        """

    @abstractmethod
    def unlock(self, session: str, holder: str) -> None:
        """Give the lease back."""

    def close(self) -> None:
        """Close the connection."""
