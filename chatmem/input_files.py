"""Reading files that the user names: regular files within a limit, and never a database that this process has open.

Closing any descriptor of a file drops every POSIX lock that the process holds on it (fcntl(2)). SQLite relies on these
locks: without them, another process deletes the write-ahead log of a database that is in use, and what it holds is lost
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import IO, Any

from chatmem.errors import UsageError
from chatmem.text import truncate

OPEN_DATABASES: set[Path] = set()
"""The SQLite databases of stores that this process has open."""


def open_input(path: Path) -> IO[bytes]:
    """Open a regular file for reading. Raises OSError, and UsageError for other kinds of files and open databases."""
    _check(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    file = io.BufferedReader(_InputFile(descriptor))
    try:
        _check(path, os.fstat(file.fileno()))
    except UsageError:
        file.close()
        raise
    return file


def read_input(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file. Raises OSError, and UsageError if it has more than `max_bytes`."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(max_bytes + 1) if size <= max_bytes else b""
    if max(size, len(data)) > max_bytes:  # files of /proc have no size
        raise UsageError(f"{truncate(path.name)!r} is larger than {max_bytes >> 20} MB.")
    return data


def read_stream(stream: IO[bytes], max_bytes: int) -> bytes:
    """Everything in a stream, such as stdin. Raises UsageError if it has more than `max_bytes`."""
    data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UsageError(f"The input is larger than {max_bytes >> 20} MB.", "Send a part of it.")
    return data


class _InputFile(io.FileIO):
    """A file whose reads never wait, as those of `/proc/kmsg` would: they raise BlockingIOError."""

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise UsageError(f"{truncate(path.name or str(path))!r} is {kind}.")
    if (found.st_dev, found.st_ino) in _open_database_files():
        raise UsageError(f"{truncate(path.name)!r} belongs to the store that is open.", "Copy it, then use the copy.")


def _open_database_files() -> set[tuple[int, int]]:
    """Device and inode of every file of the open databases."""
    found = set()
    for path in list(OPEN_DATABASES):
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                status = path.with_name(path.name + suffix).stat()
            except OSError:
                continue
            found.add((status.st_dev, status.st_ino))
    return found
