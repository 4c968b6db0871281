"""Which folders are ours: data, config, cache and state, from the environment or the platform's habit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple


class Paths(NamedTuple):
    """Where things are kept. Nothing here is created before something is written into it."""

    data: Path
    config: Path
    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> Paths:
        """`CHATMEM_DATA_DIR` and `CHATMEM_CONFIG` first, else what the platform says (platformdirs)."""
        from platformdirs import PlatformDirs

        folders = PlatformDirs("chatmem", appauthor=False)
        data = os.environ.get("CHATMEM_DATA_DIR") or folders.user_data_dir
        config = os.environ.get("CHATMEM_CONFIG") or f"{folders.user_config_dir}/config.toml"
        cache, state = folders.user_cache_dir, folders.user_state_dir
        if os.environ.get("CHATMEM_DATA_DIR"):
            # One folder for everything, so that a test or a second identity leaves no trace elsewhere.
            cache, state = f"{data}/cache", f"{data}/state"
        return cls(*map(_absolute, (data, config, cache, state)))


def _absolute(path: str) -> Path:
    """The path with `~` resolved; where there is no home at all, one that cannot be written."""
    home = os.path.expanduser(path)
    return Path(os.path.abspath(f"/nonexistent{home[1:]}" if home.startswith("~") else home))


def private_folder(folder: Path, system: Any = os) -> Path:
    """Make `folder` and what is above it, readable by nobody else (0700), whatever the umask. Raises OSError."""
    missing = []
    for path in (folder, *folder.parents):
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
    return folder


def private_file(path: Path, flags: int) -> int:
    """Open a file of ours (0600, never through a symbolic link) and return its descriptor. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if flags & os.O_CREAT and hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o600)
    return descriptor


def write_private(path: Path, data: bytes) -> None:
    """Write a file of ours whole (0600): a reader sees the old or the new one. Raises OSError."""
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(private_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, data: bytes) -> None:
    """Write a new file (0600). Raises FileExistsError, or another OSError, and then leaves nothing behind."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_over(path: Path, data: bytes) -> None:
    """Write into what a path means, whatever that is: a file keeps its place and mode, a device is written to."""
    path = path.resolve()
    if not path.exists():
        write_new(path, data)
    elif path.is_file():
        mode = path.stat().st_mode & 0o777
        write_private(path, data)
        path.chmod(mode)
    else:
        _write(os.open(path, os.O_WRONLY | os.O_CLOEXEC), data)


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
