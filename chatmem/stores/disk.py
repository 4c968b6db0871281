"""What the file store does with files: one write of a whole line, one sync, and back if either fails.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatmem.errors import NotSaved, WrongUse
from chatmem.names import shortened
from chatmem.records import Record, repaired
from chatmem.stores.lines import line_of, record_of

SAFE = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def open_file(system: Any, path: Path, flags: int) -> int:
    """Open a plain file, 0600 when it is new; no symbolic link, no FIFO. Raises WrongUse, or OSError."""
    try:
        descriptor: int = system.open(path, flags | SAFE, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise no_file(path) from error
        raise
    if not stat.S_ISREG(system.fstat(descriptor).st_mode):
        system.close(descriptor)
        raise no_file(path)
    if flags & os.O_CREAT and hasattr(system, "fchmod"):
        system.fchmod(descriptor, 0o600)
    return descriptor


def append_all(system: Any, descriptor: int, data: bytes) -> None:
    """Append and fsync, or leave the file as it was and raise OSError."""
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
                system.write(descriptor, b"\n")  # a broken line can be skipped, a glued one cannot
        raise


def sync(system: Any, descriptor: int) -> None:
    """Bring a file to the disk. On macOS only F_FULLFSYNC does. Raises OSError, and is never tried again."""
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass
    system.fsync(descriptor)


def read_from(system: Any, descriptor: int, offset: int) -> bytes:
    """All bytes from an offset on, without moving the descriptor."""
    pieces = []
    while piece := system.pread(descriptor, 1 << 20, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def read_partial(system: Any, path: Path) -> Record | None:
    """What a `.partial` holds, as an interrupted message; None if there is none, or no text in it."""
    try:
        descriptor = open_file(system, path, os.O_RDONLY)
    except (OSError, WrongUse):
        return None
    try:
        first, *pieces = read_from(system, descriptor, 0).split(b"\n")
    finally:
        system.close(descriptor)
    skeleton = record_of(first)
    if skeleton is None or not isinstance(skeleton.get("id"), str):
        return None
    text = ""
    for piece in pieces:
        try:
            text += json.loads(piece)
        except (ValueError, TypeError):
            break
    return skeleton | {"content": repaired(text), "status": "interrupted"} if text else None


class Partial:
    """The file beside a session in which an arriving reply is kept: its record, then each piece of its text."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self._waits = False
        self._descriptor = -1

    @property
    def ours(self) -> bool:
        """Whether what is in the file is a reply of this process that arrives, or is still to be stored."""
        return self._waits or self._descriptor >= 0

    def begin(self, path: Path, skeleton: Record) -> Callable[[str], None]:
        """Start the file; returns what adds a piece to it. Never raises: the reply itself says what is not saved."""
        with contextlib.suppress(OSError, WrongUse):
            self._descriptor = open_file(self.system, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self.system.write(self._descriptor, line_of(skeleton))
        return self._keep

    def over(self, path: Path, stored: bool) -> None:
        """The reply is over: the file goes, unless the reply could not be stored. Never raises."""
        self.close()
        self._waits = not stored
        if stored:
            with contextlib.suppress(OSError):
                self.system.unlink(path)

    def close(self) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self.system.close(self._descriptor)
            self._descriptor = -1

    def _keep(self, text: str) -> None:
        if self._descriptor >= 0:
            try:
                self.system.write(self._descriptor, json.dumps(text).encode() + b"\n")
            except OSError:
                self.close()


def failed(what: str, error: OSError | NotImplementedError) -> NotSaved:
    """A system call's failure as ours: what failed, and the system's own word for why."""
    reason = getattr(error, "strerror", None) or str(error)
    return NotSaved(f"{what}: {reason}.", "What was typed is kept in memory; /save PATH writes it elsewhere.")


def no_file(path: Path) -> WrongUse:
    return WrongUse(
        f"{shortened(path.name)!r} in {path.parent} is no plain file.",
        "Move it away, or choose another name.",
    )


def escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"
