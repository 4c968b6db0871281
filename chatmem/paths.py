"""Directories of this program, and files that only their owner can read."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple


class Paths(NamedTuple):
    """Where files are kept. Nothing is created before something is written."""

    data: Path
    config: Path
    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> Paths:
        """`CHATMEM_DATA_DIR` and `CHATMEM_CONFIG`, else the platform's directories (platformdirs)."""
        from platformdirs import PlatformDirs

        dirs = PlatformDirs("chatmem", appauthor=False)
        data = os.environ.get("CHATMEM_DATA_DIR") or dirs.user_data_dir
        config = os.environ.get("CHATMEM_CONFIG") or f"{dirs.user_config_dir}/config.toml"
        cache, state = dirs.user_cache_dir, dirs.user_state_dir
        if os.environ.get("CHATMEM_DATA_DIR"):
            # One directory for everything, so that a test or a second identity leaves no trace elsewhere.
            cache, state = f"{data}/cache", f"{data}/state"
        return cls(*map(_absolute, (data, config, cache, state)))


def _absolute(path: str) -> Path:
    """The path with `~` expanded. Without a home directory, a path that cannot be written."""
    expanded = os.path.expanduser(path)
    return Path(os.path.abspath(f"/nonexistent{expanded[1:]}" if expanded.startswith("~") else expanded))


def make_private_dir(directory: Path, system: Any = os) -> Path:
    """Create a directory and its parents with mode 0700, whatever the umask. Raises OSError."""
    missing = []
    for path in (directory, *directory.parents):
        try:
            system.stat(path)
            break
        except FileNotFoundError:
            missing.append(path)
    for path in reversed(missing):
        try:
            system.mkdir(path, 0o700)
        except FileExistsError:
            continue
        system.chmod(path, 0o700)
    return directory


def open_private(path: Path, flags: int) -> int:
    """Open a file with mode 0600, never through a symbolic link, and return its descriptor. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if flags & os.O_CREAT and hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)
    return descriptor


def create_private(path: Path) -> None:
    """Create an empty file (mode 0600) if there is none. An existing file is not opened. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file (mode 0600) so that readers see either the old or the new content. Raises OSError."""
    make_private_dir(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusive(path: Path, data: bytes) -> None:
    """Create a file (mode 0600). Raises FileExistsError, or another OSError and then leaves no file behind."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def overwrite(path: Path, data: bytes) -> None:
    """Write to an existing or new file. A file keeps its mode; a link is followed; a device is written to."""
    path = path.resolve()
    if not path.exists():
        create_exclusive(path, data)
    elif path.is_file():
        mode = path.stat().st_mode & 0o777
        atomic_write(path, data)
        path.chmod(mode)
    else:
        _write(os.open(path, os.O_WRONLY | os.O_CLOEXEC), data)


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
