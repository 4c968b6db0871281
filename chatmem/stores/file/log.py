"""One session file, open for reading and appending: repaired, recovered and followed under its lock."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chatmem.errors import SessionNotFoundError
from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.stores.base import SessionInfo, SessionLog
from chatmem.stores.codec import MALFORMED, decode, decode_all, encode
from chatmem.stores.file.directory import OLD_SECONDS, SUFFIX, SessionDirectory
from chatmem.stores.file.posix_io import (
    DraftFile,
    append_all,
    open_file,
    read_draft,
    read_from,
    storage_errors,
    sync,
    timestamp,
)


class FileLog(SessionLog):
    """One session file, open for reading and appending."""

    def __init__(self, directory: SessionDirectory, name: str, follows: bool = True) -> None:
        """`follows` says what to do if the file is renamed or deleted: follow it, or raise SessionNotFoundError."""
        self._follows = follows
        self.directory, self.system, self.name = directory, directory.system, name
        self.draft = DraftFile(self.system)
        self._descriptor = -1
        self._replaced = False
        self._read_offset = self._valid_offset = 0
        self._ids: set[str] = set()
        self._pending: list[Record] = []
        """Records that were read, or recovered, but not yet returned by `read`."""
        self._info: SessionInfo | None = None
        self._has_appended = False
        """Whether something was appended since the index was updated."""
        self._open()

    def read(self) -> tuple[list[Record], bool]:
        with storage_errors(f"Cannot read session {self.name!r}"):
            if self.system.fstat(self._descriptor).st_size < self._read_offset:
                self._reset()
                self._replaced = True  # truncated by another program: everything read before is invalid
            records = self._read_new()
        replaced, self._replaced = self._replaced, False
        return records, replaced

    def append(self, records: Iterable[Record]) -> None:
        records = list(records)
        data = b"".join(map(encode, records))
        with storage_errors(f"Cannot save session {self.name!r}"):
            append_all(self.system, self._descriptor, data)
        self._has_appended = True
        self._read_offset += len(data)
        self._valid_offset = self._read_offset
        self._ids.update(str(r["id"]) for r in records if "id" in r)

    @contextlib.contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        while True:
            with self.directory.lock(self.name, wait) as is_locked:
                name = self.name
                with self.directory.changing(), storage_errors(f"Cannot access session {self.name!r}"):
                    self._follow()
                if name == self.name:
                    with self.directory.changing():
                        with storage_errors(f"Cannot repair session {self.name!r}"):
                            self._repair()
                        self._recover_draft(is_locked)
                    try:
                        yield
                    finally:
                        self._update_index()
                    return

    def note(self, info: SessionInfo) -> None:
        self._info = info

    def _update_index(self) -> None:
        """Write what lists show of the session to the index, still under the lock."""
        info, has_appended, self._info, self._has_appended = self._info, self._has_appended, None, False
        if has_appended and self.directory.index:
            with contextlib.suppress(OSError):
                stamp = self.directory.stamp(self.name)
                info = (info or self._read_info())._replace(name=self.name)
                self.directory.index.update([(stamp, info)], times=self.directory.own_changes())

    def _read_info(self) -> SessionInfo:
        lines = read_from(self.system, self._descriptor, 0).split(b"\n")
        return SessionInfo.from_session(Session.replay(self.name, decode_all(lines)))

    def open_draft(self, skeleton: Record) -> Callable[[str], None]:
        with self.directory.changing():
            return self.draft.start(self._draft_path, skeleton)

    def close_draft(self, stored: bool = True) -> None:
        with self.directory.changing():
            self.draft.finish(self._draft_path, stored)

    def close(self) -> None:
        self.draft.close()
        if self._descriptor >= 0:
            self.system.close(self._descriptor)
            self._descriptor = -1

    @property
    def _draft_path(self) -> Path:
        return self.directory.path(self.name, ".partial")

    # Reading

    def _open(self) -> None:
        with storage_errors(f"Cannot write session {self.name!r}"):
            self._descriptor = open_file(self.system, self.directory.path(self.name), os.O_RDWR | os.O_APPEND)
        self.directory.make_private(self._descriptor, self.name)
        self._reset()
        self._replaced = False

    def _reset(self) -> None:
        self._read_offset = self._valid_offset = 0
        self._ids = set()
        self._pending = []

    def _read_new(self) -> list[Record]:
        """The records of the complete lines that were not read before."""
        data = read_from(self.system, self._descriptor, self._read_offset)
        pending, self._pending = self._pending, []
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1] if end else []
        records = list(decode_all(lines))
        if records and records[-1] is MALFORMED:
            valid = len(lines)
            while valid and decode(lines[valid - 1]) is None:
                valid -= 1
            if valid:
                self._valid_offset = self._read_offset + sum(len(line) + 1 for line in lines[:valid])
        elif lines:
            self._valid_offset = self._read_offset + end
        self._read_offset += end
        self._ids.update(r["id"] for r in records if r.get("type") == "message" and isinstance(r.get("id"), str))
        return pending + records

    # Under the lock

    def _follow(self) -> None:
        """Notice that the file was renamed, replaced or deleted. Follow it, or create it again."""
        path = self.directory.path(self.name)
        opened = self.system.fstat(self._descriptor)
        try:
            current = self.system.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            current = None
        if current and (current.st_ino, current.st_dev) == (opened.st_ino, opened.st_dev):
            return
        if current:
            self.directory.notify(f"Session {self.name!r} was replaced. Reading it again.")
            self.close()
            self._open()
            self._replaced = True
        elif not self._follows:
            raise SessionNotFoundError(f"Session {self.name!r} was renamed or deleted by another process.")
        elif new_name := self._find_by_inode(opened):
            self.directory.notify(f"Session {self.name!r} was renamed to {new_name!r}.")
            self.name = new_name
        else:
            self._create_again(path)

    def _find_by_inode(self, opened: os.stat_result) -> str | None:
        with self.system.scandir(self.directory.root) as entries:
            same = (e.name for e in entries if e.name.endswith(SUFFIX) and e.inode() == opened.st_ino)
            return next((name.removesuffix(SUFFIX) for name in same), None)

    def _create_again(self, path: Path) -> None:
        """The file was deleted while it was open: write its content to a new one, so that nothing more is lost."""
        data = read_from(self.system, self._descriptor, 0)
        with storage_errors(f"Session {self.name!r} was deleted and cannot be created again"):
            descriptor = open_file(self.system, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            append_all(self.system, descriptor, data)
        self.directory.sync()
        self.system.close(self._descriptor)
        self._descriptor = descriptor
        self.directory.notify(f"Session {self.name!r} was deleted elsewhere; saved again under the same name.")

    def _repair(self) -> None:
        """Set a torn tail aside, so that the next line is not joined to it."""
        self._pending = self._read_new()
        size = self.system.fstat(self._descriptor).st_size
        rest = read_from(self.system, self._descriptor, self._read_offset)
        if rest and not rest.isspace() and decode(rest) is not None:
            append_all(self.system, self._descriptor, b"\n")
            self._pending += self._read_new()
        elif size > self._valid_offset:
            self._set_tail_aside()

    def _set_tail_aside(self) -> None:
        torn = self.directory.path(self.name, f".torn-{timestamp()}")
        data = read_from(self.system, self._descriptor, self._valid_offset)
        descriptor = open_file(self.system, torn, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            append_all(self.system, descriptor, data)
        finally:
            self.system.close(descriptor)
        self.directory.sync()
        self.directory.has_foreign_changes = True  # the next list looks for this file
        self.system.ftruncate(self._descriptor, self._valid_offset)
        sync(self.system, self._descriptor)
        self._read_offset = self._valid_offset
        while self._pending and self._pending[-1] is MALFORMED:
            self._pending.pop()
        self.directory.notify(
            f"Session {self.name!r} ended in an incomplete record. Its {len(data):,} bytes were moved to {torn.name}."
        )

    def _is_draft_old(self) -> bool:
        try:
            return time.time() - float(self.system.stat(self._draft_path).st_mtime) > OLD_SECONDS
        except OSError:
            return False

    def _recover_draft(self, is_locked: bool) -> None:
        """Turn the draft of a process that died into an interrupted message, and remove it once that is durable.

        Without a lock, the process may be alive: then only an old draft is recovered.
        """
        if self.draft.in_use or not (is_locked or self._is_draft_old()):
            return
        try:
            draft = read_draft(self.system, self._draft_path)
        except OSError:
            return
        if draft and draft["id"] not in self._ids:
            self.append([draft])
            self._pending.append(draft)
        self.directory.remove(self._draft_path)
