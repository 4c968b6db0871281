"""memory: sessions that end with the process (`--ephemeral`, `--store memory:`)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from chatmem.errors import Notify, SessionLockedError, UsageError, ignore_notices
from chatmem.history.names import canonical_key, validate
from chatmem.history.records import Record
from chatmem.stores.base import SessionLog, SessionStore


class MemoryStore(SessionStore):
    """Keeps a list of records per session in memory."""

    persistent: ClassVar[bool] = False
    has_trash: ClassVar[bool] = False
    deleted_note: ClassVar[str] = "deleted"

    def __init__(self, notify: Notify = ignore_notices) -> None:
        super().__init__(notify)
        self.sessions: dict[str, list[Record]] = {}
        self.locks: dict[int, threading.Lock] = {}

    def names(self) -> list[str]:
        return list(self.sessions)

    def records(self, name: str) -> list[Record]:
        return list(self.sessions[self.find(name)])

    def open(self, name: str, first: Iterable[Record] = ()) -> SessionLog:
        if first := list(first):
            self._check_free(validate(name))
            self.sessions[validate(name)] = first
        return MemoryLog(self.sessions, self.locks, self.find(name))

    def rename(self, name: str, new: str) -> None:
        name, new = self.find(name), validate(new)
        self._check_free(new, except_for=name)
        self.sessions[new] = self.sessions.pop(name)

    def delete(self, name: str, purge: bool = False) -> None:
        del self.sessions[self.find(name)]

    def _check_free(self, name: str, except_for: str = "") -> None:
        key = canonical_key(name)
        if any(canonical_key(known) == key for known in self.sessions if known != except_for):
            raise UsageError(f"There is already a session {name!r}.", "Choose another name.")


class MemoryLog(SessionLog):
    """A list of records that behaves like a session file."""

    def __init__(self, sessions: dict[str, list[Record]], locks: dict[int, threading.Lock], name: str) -> None:
        self.name = name
        self._sessions, self._locks = sessions, locks
        self._records = sessions[name]
        self._read_count = 0

    def read(self) -> tuple[list[Record], bool]:
        current = self._sessions.setdefault(self._current_name(), self._records)
        replaced = current is not self._records
        if replaced:
            self._records, self._read_count = current, 0
        new = self._records[self._read_count :]
        self._read_count = len(self._records)
        return new, replaced

    def append(self, records: Iterable[Record]) -> None:
        self._records += list(records)
        self._read_count = len(self._records)

    @contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        lock = self._locks.setdefault(id(self._records), threading.Lock())
        if not lock.acquire(blocking=wait):
            raise SessionLockedError(f"Session {self.name!r} is in the middle of a turn.", "Try again when it is done.")
        try:
            yield
        finally:
            lock.release()

    def _current_name(self) -> str:
        """The name of this list of records. It may have been renamed."""
        for name, records in self._sessions.items():
            if records is self._records:
                self.name = name
        return self.name
