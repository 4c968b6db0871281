"""One session file, open for reading and appending: repaired, recovered and followed under its lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chatmem.records import Record
from chatmem.stores.base import Log
from chatmem.stores.disk import Partial, append_all, failed, open_file, read_from, read_partial, stamp, sync
from chatmem.stores.lines import BROKEN, line_of, record_of, records_of

if TYPE_CHECKING:
    from chatmem.stores.jsonl import JsonlStore

ENDING = ".jsonl"


class JsonlLog(Log):
    """One session file, open for reading and appending."""

    def __init__(self, store: JsonlStore, name: str) -> None:
        self.store, self.system, self.name = store, store.system, name
        self._descriptor = -1
        self.partial_file = Partial(store.system)
        self._anew = False
        self._read_to = self._good_to = 0
        self._ids: set[str] = set()
        self._held: list[Record] = []
        self._open()

    def read(self) -> tuple[list[Record], bool]:
        anew, self._anew = self._anew, False
        if self.system.fstat(self._descriptor).st_size < self._read_to:
            anew = True  # cut behind our back: nothing that was read counts
            self._start_over()
        return self._read_on(), anew

    def append(self, records: Iterable[Record]) -> None:
        records = list(records)
        data = b"".join(map(line_of, records))
        try:
            append_all(self.system, self._descriptor, data)
        except OSError as error:
            raise failed(f"Session {self.name!r} could not be saved", error) from error
        self._read_to += len(data)
        self._good_to = self._read_to
        self._ids.update(str(r["id"]) for r in records if "id" in r)

    @contextlib.contextmanager
    def turn(self, wait: bool = True) -> Iterator[None]:
        while True:
            with self.store.lock(self.name, wait):
                name = self.name
                self._look_where_it_is()
                if name == self.name:
                    self._repair()
                    self._recover_partial()
                    yield
                    return

    def partial(self, skeleton: Record) -> Callable[[str], None]:
        return self.partial_file.begin(self.store.path(self.name, ".partial"), skeleton)

    def partial_done(self, stored: bool = True) -> None:
        self.partial_file.over(self.store.path(self.name, ".partial"), stored)

    def close(self) -> None:
        self.partial_file.close()
        if self._descriptor >= 0:
            self.system.close(self._descriptor)
            self._descriptor = -1

    # Opening

    def _open(self) -> None:
        try:
            self._descriptor = open_file(self.system, self.store.path(self.name), os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise failed(f"Session {self.name!r} cannot be written", error) from error
        self._start_over()
        self._anew = False

    def _start_over(self) -> None:
        self._read_to = self._good_to = 0
        self._ids = set()
        self._held = []

    def _read_on(self) -> list[Record]:
        """The records of the whole lines after what was read."""
        held, self._held = self._held, []
        data = read_from(self.system, self._descriptor, self._read_to)
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1] if end else []
        records = list(records_of(lines))
        if records and records[-1] is BROKEN:
            good = len(lines)
            while good and record_of(lines[good - 1]) is None:
                good -= 1
            if good:
                self._good_to = self._read_to + sum(len(line) + 1 for line in lines[:good])
        elif lines:
            self._good_to = self._read_to + end
        self._read_to += end
        self._ids.update(r["id"] for r in records if r.get("type") == "message" and isinstance(r.get("id"), str))
        return held + records

    def _look_where_it_is(self) -> None:
        """Notice, under the lock, that the file was renamed, replaced or deleted; follow it, or make it again."""
        path = self.store.path(self.name)
        ours = self.system.fstat(self._descriptor)
        try:
            there = self.system.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        except OSError as error:
            raise failed(f"Session {self.name!r} cannot be reached", error) from error
        if there and (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
            return
        if there:
            self.store.say(f"Session {self.name!r} was replaced meanwhile: read again.")
            self.close()
            self._open()
            self._anew = True
        elif moved := self._name_of(ours):
            self.store.say(f"Session {self.name!r} is called {moved!r} now.")
            self.name = moved
        else:
            self._make_again(path)

    def _name_of(self, ours: os.stat_result) -> str | None:
        with self.system.scandir(self.store.folder) as entries:
            same = (e.name for e in entries if e.name.endswith(ENDING) and e.inode() == ours.st_ino)
            return next((name.removesuffix(ENDING) for name in same), None)

    def _make_again(self, path: Path) -> None:
        """The file was deleted under us: what was in it is written to a new one, so that nothing more is lost."""
        data = read_from(self.system, self._descriptor, 0)
        try:
            descriptor = open_file(self.system, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            append_all(self.system, descriptor, data)
        except OSError as error:
            raise failed(f"Session {self.name!r} was deleted meanwhile and cannot be made again", error) from error
        self.store.sync_folder(self.store.folder)
        self.system.close(self._descriptor)
        self._descriptor = descriptor
        self.store.say(f"Session {self.name!r} was deleted meanwhile: it is kept on under the same name.")

    def _repair(self) -> None:
        """Set a broken tail aside, so that the next line does not grow together with it."""
        try:
            self._held = self._read_on()
            size = self.system.fstat(self._descriptor).st_size
            rest = read_from(self.system, self._descriptor, self._read_to)
            if rest and not rest.isspace() and record_of(rest) is not None:
                append_all(self.system, self._descriptor, b"\n")
                self._held += self._read_on()
            elif size > self._good_to:
                self._set_aside(size)
        except OSError as error:
            raise failed(f"Session {self.name!r} cannot be repaired", error) from error

    def _set_aside(self, size: int) -> None:
        torn = self.store.path(self.name, f".torn-{stamp()}")
        data = read_from(self.system, self._descriptor, self._good_to)
        descriptor = open_file(self.system, torn, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            append_all(self.system, descriptor, data)
        finally:
            self.system.close(descriptor)
        self.store.sync_folder(self.store.folder)
        self.system.ftruncate(self._descriptor, self._good_to)
        sync(self.system, self._descriptor)
        self._read_to = self._good_to
        while self._held and self._held[-1] is BROKEN:
            self._held.pop()
        self.store.say(
            f"Session {self.name!r} ended in a broken record: its {len(data):,} bytes are now in {torn.name}."
        )

    def _recover_partial(self) -> None:
        """What a dead process left of a reply becomes an interrupted message."""
        path = self.store.path(self.name, ".partial")
        if self.partial_file.ours:
            return  # it is ours: the reply itself is still to be stored
        left = read_partial(self.system, path)
        if left is None:
            self.store.forget(path)
            return
        if left["id"] not in self._ids:
            self.append([left])
            self._held.append(left)
        self.store.forget(path)
