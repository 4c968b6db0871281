"""memory: sessions that end with the process (`--ephemeral`, `--store memory:`)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from chatmem.errors import Busy, WrongUse
from chatmem.names import checked, key
from chatmem.records import Record
from chatmem.stores.base import Log, Say, Store


class MemoryStore(Store):
    """Keep nothing: a list per session, gone with the process."""

    kept: ClassVar[bool] = False
    deleted: ClassVar[str] = "gone"

    def __init__(self, say: Say = lambda line: None) -> None:
        super().__init__(say)
        self._sessions: dict[str, list[Record]] = {}
        self._locks: dict[int, threading.Lock] = {}

    def names(self) -> list[str]:
        return list(self._sessions)

    def records(self, name: str) -> list[Record]:
        return list(self._sessions[self.find(name)])

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        first = list(first)
        if first:
            self._free(checked(name))
            self._sessions[checked(name)] = first
        return MemoryLog(self, self.find(name))

    def rename(self, name: str, new: str) -> None:
        name, new = self.find(name), checked(new)
        self._free(new, but=name)
        self._sessions[new] = self._sessions.pop(name)

    def delete(self, name: str, purge: bool = False) -> None:
        del self._sessions[self.find(name)]

    def _free(self, name: str, but: str = "") -> None:
        if any(key(name) == key(known) for known in self._sessions if known != but):
            raise WrongUse(f"There is already a session {name!r}.", "Choose another name.")


class MemoryLog(Log):
    """A list of records, with the manners of a file."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self.store, self.name = store, name
        self._records = store._sessions[name]
        self._seen = 0

    def read(self) -> tuple[list[Record], bool]:
        current = self.store._sessions.setdefault(self._called(), self._records)
        anew = current is not self._records
        if anew:
            self._records, self._seen = current, 0
        new = self._records[self._seen :]
        self._seen = len(self._records)
        return new, anew

    def append(self, records: Iterable[Record]) -> None:
        self._records.extend(records)
        self._seen = len(self._records)

    @contextmanager
    def turn(self, wait: bool = True) -> Iterator[None]:
        lock = self.store._locks.setdefault(id(self._records), threading.Lock())
        if not lock.acquire(blocking=wait):
            raise Busy(f"Session {self.name!r} is in the middle of a turn.", "Try again when it is done.")
        try:
            yield
        finally:
            lock.release()

    def _called(self) -> str:
        """The name this list has now: it may have been renamed."""
        for name, records in self.store._sessions.items():
            if records is self._records:
                self.name = name
        return self.name
