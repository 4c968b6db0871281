"""The directory of session files: paths, locks and durable changes of names."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatmem.errors import ChatmemError, Notify, SessionLockedError, StorageError, ignore_notices
from chatmem.history.names import is_valid, validate
from chatmem.paths import make_private_dir
from chatmem.stores.file.posix_io import storage_error, storage_errors
from chatmem.stores.file.search_index import FORMER_NAME, SearchIndex, Times
from chatmem.stores.session_index import FileStamp

SUFFIX = ".jsonl"
LINK_SUFFIX = ".link"
"""Suffix of a link to a session that another user shares."""
UNFINISHED = ".new"
"""Suffix of a session file that is being created."""
MANY_FILES = 400
OLD_SECONDS = 3600.0
"""The age from which on a file is taken to be abandoned if no lock can tell."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)
"""The errors of file systems without locks."""


@dataclass
class DirectoryContent:
    """What is in a directory of session files."""

    files: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    """The session files by name."""
    links: list[str] = field(default_factory=list)
    """The names of links to sessions of other users."""
    leftovers: list[str] = field(default_factory=list)
    """Files that a killed process may have left."""
    others: int = 0
    """How many links, torn tails and copies of synchronisers there are."""


def stamp_of(status: os.stat_result) -> FileStamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


class SessionDirectory:
    """The directory that holds the session files of one user. `system` is the module of system calls it uses."""

    def __init__(self, path: Path, notify: Notify = ignore_notices, system: Any = os) -> None:
        self.root, self.notify, self.system = path, notify, system
        self.index: SearchIndex | None = None
        self._changing = 0
        self._times: Times | None = None
        self.has_foreign_changes = False

    def path(self, name: str, suffix: str = SUFFIX) -> Path:
        """The file of a session. Raises UsageError for an invalid name, so that no name leaves the directory."""
        return self.root / (validate(name) + suffix)

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True, suffix: str = ".lock", label: str = "") -> Iterator[bool]:
        """Hold the lock file of a session, which messages call `label`. Raises SessionLockedError.

        On file systems without locks a notice is shown, and the block runs without one. Yields whether it is held.
        """
        from filelock import FileLock, Timeout

        label = label or name
        lock = FileLock(self.path(name, suffix), mode=0o600, fallback_to_soft=False, thread_local=False)
        try:
            with self.changing():  # the lock file may be new
                lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise SessionLockedError(
                    f"Session {label!r} is in use by another process.", "Try again when its turn is done."
                ) from None
            self.notify(
                f"Session {label!r} is in use by another process. Waiting for its turn to end (Ctrl-C cancels)."
            )
            with storage_errors(f"Cannot lock session {label!r}"):
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
                raise storage_error(f"Cannot lock session {label!r}", error) from error
            self.notify("This file system has no locks. Do not use a session from two places at the same time.")
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def time(self) -> int:
        """When names in this directory were changed last, in nanoseconds. 0 if it does not exist.

        Where the system tells, that is when the directory itself was changed: programs can set back the other time.
        """
        try:
            status = self.system.stat(self.root)
            return max(int(status.st_mtime_ns), int(status.st_ctime_ns))
        except OSError:
            return 0

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Changes of names by this process happen inside this block, which waits for nothing. See `own_changes`."""
        if not self._changing:
            now = self.time()
            self.has_foreign_changes |= self._times is not None and self._times[1] != now
            self._times = (self._times[0] if self._times else now, now)
        self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1
            if self._times:
                self._times = (self._times[0], self.time())

    def own_changes(self) -> Times | None:
        """The modification times before and after all changes since the last call. None if others changed names."""
        times, is_foreign = self._times, self.has_foreign_changes
        if times and self._changing:
            times = (times[0], self.time())
        self._times, self.has_foreign_changes = None, False
        return None if is_foreign else times

    def make_dir(self, path: Path | None = None) -> Path:
        """Create this directory, or another one, with mode 0700. Raises StorageError."""
        path = path or self.root
        with storage_errors(f"Cannot create the directory {path}"):
            return make_private_dir(path, self.system)

    def make_private(self, descriptor: int, name: str) -> None:
        """Take away what other users may do with an open session file, and with the directory. Never raises."""
        with contextlib.suppress(OSError, AttributeError):  # another user's, or a system without modes
            if self.system.fstat(descriptor).st_mode & 0o077 and os.name == "posix":
                self.system.fchmod(descriptor, 0o600)
                self.notify(f"Other users could read session {name!r}. Its file is private now.")
            if self.system.stat(self.root).st_mode & 0o077 and os.name == "posix":
                self.system.chmod(self.root, 0o700)
                self.notify(f"Other users could use the directory {self.root}. It is private now.")

    def stamp(self, name: str) -> FileStamp:
        """What tells whether a session's file has changed. Raises OSError."""
        return stamp_of(self.system.lstat(self.path(name)))

    def sync(self, path: Path | None = None) -> None:
        """Make changes of names durable. Best effort: NFS and FUSE may refuse it."""
        with contextlib.suppress(OSError):
            descriptor = self.system.open(path or self.root, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.system.fsync(descriptor)
            finally:
                self.system.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file if that is possible."""
        with contextlib.suppress(OSError):
            self.system.unlink(path)

    def move(self, old: Path, new: Path) -> None:
        """Rename a file durably. Raises StorageError."""
        with storage_errors(f"Cannot rename {old.name}"):
            self.system.rename(old, new)
        self.sync(new.parent)

    def is_large(self) -> bool:
        """Whether there are so many files that the index finds one faster than reading their names."""
        with contextlib.suppress(OSError), self.system.scandir(self.root) as entries:
            return next(itertools.islice(entries, MANY_FILES, None), None) is not None
        return False

    def scan(self) -> DirectoryContent:
        """What is in this directory. Raises StorageError."""
        found = DirectoryContent()
        try:
            with self.system.scandir(self.root) as entries:
                for entry in entries:
                    name, dot, suffix = entry.name.rpartition(".")
                    found.others += ".torn-" in entry.name or "conflict" in entry.name.lower()
                    if dot + suffix == SUFFIX and entry.is_file(follow_symlinks=False) and is_valid(name):
                        found.files[name] = entry
                    elif dot + suffix == LINK_SUFFIX and is_valid(name):
                        found.links.append(name)
                        found.others += 1
                    elif entry.name[0] == "." and (dot + suffix in (UNFINISHED, ".tmp") or entry.name == FORMER_NAME):
                        found.leftovers.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise StorageError(
                f"Cannot read the directory {self.root}: {error.strerror}.", "Check its permissions."
            ) from error
        return found

    def knows_all_files(self) -> bool:
        """Whether the index is current, and the directory has no links, torn tails or conflict copies.

        Inside `changing()`, whether that was so before it.
        """
        time = self._times[1] if self._changing and self._times else self.time()
        return self.index is not None and self.index.knows_all_files(time)

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove unfinished files of processes that were killed while they created a session or a link."""
        for file_name in names:
            path, name = self.root / file_name, file_name[1:].removesuffix(UNFINISHED)
            with contextlib.suppress(OSError, ChatmemError):
                if time.time() - self.system.lstat(path).st_mtime > OLD_SECONDS:
                    with self.lock(name, wait=False) if path.suffix == UNFINISHED else contextlib.nullcontext(True):
                        self.system.unlink(path)

    def torn_files(self) -> dict[str, list[Path]]:
        """The files that hold torn tails, by session. Raises StorageError."""
        found: dict[str, list[Path]] = {}
        if self.knows_all_files():
            return found
        problem = f"Cannot read the directory {self.root}"
        with storage_errors(problem), self.system.scandir(self.root) as entries:
            names = sorted(entry.name for entry in entries if ".torn-" in entry.name)
        for file_name in names:
            found.setdefault(file_name.rpartition(".torn-")[0], []).append(self.root / file_name)
        return found

    def move_torn_files(self, name: str, new: str) -> None:
        """Rename the torn tails of a session with it."""
        with contextlib.suppress(OSError, StorageError):
            for torn in self.torn_files().get(name, ()):
                self.system.rename(torn, self.root / f"{new}{torn.name[len(name) :]}")
