"""Durable writes: one write of a whole line, one fsync, and the file restored if either fails.

Every call goes through the module of system calls that the store was given, so that tests can make any of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chatmem.errors import Action, StorageError, UsageError
from chatmem.history.records import Record
from chatmem.stores.codec import decode, encode
from chatmem.text import fix_surrogates, truncate

SAFE_FLAGS = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_file(system: Any, path: Path, flags: int) -> int:
    """Open a regular file, with mode 0600 if it is new. Raises UsageError for anything else, and OSError."""
    try:
        descriptor: int = system.open(path, flags | SAFE_FLAGS, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise not_a_file(path) from error
        raise
    if not stat.S_ISREG(system.fstat(descriptor).st_mode):
        system.close(descriptor)
        raise not_a_file(path)
    if flags & os.O_CREAT and hasattr(system, "fchmod"):
        system.fchmod(descriptor, 0o600)
    return descriptor


def append_all(system: Any, descriptor: int, data: bytes) -> None:
    """Append and fsync. On failure the file is restored and OSError is raised."""
    before = system.fstat(descriptor).st_size
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[system.write(descriptor, rest) :]
        sync(system, descriptor)
    except OSError:
        try:
            system.ftruncate(descriptor, before)
        except OSError:
            with contextlib.suppress(OSError):
                system.write(descriptor, b"\n")  # a malformed line can be skipped, two joined records cannot
        raise


def sync(system: Any, descriptor: int) -> None:
    """Flush a file to the disk. Raises OSError. It is never retried: a second fsync may succeed without the data."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone does not flush the drive's cache on macOS
            return
        except OSError:
            pass
    system.fsync(descriptor)


def read_from(system: Any, descriptor: int, offset: int) -> bytes:
    """All bytes from an offset on. The position of the descriptor does not change."""
    blocks = []
    while block := system.pread(descriptor, 1 << 20, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def read_draft(system: Any, path: Path) -> Record | None:
    """The draft in a file as an interrupted message. None if there is none, or if it has no text. Raises OSError."""
    try:
        descriptor = open_file(system, path, os.O_RDONLY)
    except (FileNotFoundError, UsageError):
        return None
    try:
        first, *lines = read_from(system, descriptor, 0).split(b"\n")
    finally:
        system.close(descriptor)
    skeleton = decode(first)
    if skeleton is None or not isinstance(skeleton.get("id"), str):
        return None
    text = ""
    for line in lines:
        try:
            text += json.loads(line)
        except (ValueError, TypeError):
            break
    return skeleton | {"content": fix_surrogates(text), "status": "interrupted"} if text else None


class DraftFile:
    """The file beside a session that holds a reply while it arrives: its record, then each piece of its text.

    It is best effort: nothing raises. A piece that cannot be written is written with the next one.
    """

    def __init__(self, system: Any) -> None:
        self.system = system
        self._is_unsaved = False
        self._descriptor = -1
        self._size = 0
        """The bytes that were written completely."""
        self._unwritten = ""
        """Text that could not be written yet."""

    @property
    def in_use(self) -> bool:
        """Whether the file holds a reply of this process that is arriving, or still has to be stored."""
        return self._is_unsaved or self._descriptor >= 0

    def start(self, path: Path, skeleton: Record) -> Callable[[str], None]:
        """Create the file, and return a function that adds text. An existing file is kept: it was not recovered yet."""
        self._size, self._unwritten = 0, ""
        try:
            self._descriptor = open_file(self.system, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        except (OSError, UsageError):
            return self._add
        if not self._write(encode(skeleton)):
            self.finish(path, stored=True)
        return self._add

    def finish(self, path: Path, stored: bool) -> None:
        """The reply ended: remove the file, unless the reply could not be stored."""
        is_own = self.in_use
        self.close()
        self._is_unsaved = is_own and not stored
        if is_own and stored:
            with contextlib.suppress(OSError):
                self.system.unlink(path)

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.system.close(self._descriptor)
            self._descriptor = -1

    def _add(self, text: str) -> None:
        if self._descriptor >= 0:
            self._unwritten += text
            if self._write(json.dumps(self._unwritten).encode() + b"\n"):
                self._unwritten = ""

    def _write(self, data: bytes) -> bool:
        """Append data completely or not at all. Returns whether it was written."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self.system.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self.system.ftruncate(self._descriptor, self._size)
            return False
        self._size += len(data)
        return True


def storage_error(what: str, error: OSError | NotImplementedError) -> StorageError:
    """Wrap an OSError as StorageError: what failed, and the system's reason."""
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(f"{what}: {reason}.", action=Action("save_elsewhere"))


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that says what failed."""
    try:
        yield
    except OSError as error:
        raise storage_error(what, error) from error


def not_a_file(path: Path) -> UsageError:
    return UsageError(
        f"{truncate(path.name)!r} in {path.parent} is not a regular file.", "Move it away, or choose another name."
    )


def timestamp() -> str:
    """The time and the process id, for names of files that are set aside."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"
