"""file: one JSON Lines file per session, append-only. The default, and the only truth about a session.

Writing: the whole line in one `write` on an `O_APPEND` descriptor, `fsync` before the promise is given,
`ftruncate` back when either fails. Reading takes no lock and repairs nothing. Opening for writing happens under
a lock file, one turn long: a broken tail is set aside, a dead process's partial reply becomes a message.
Beside `NAME.jsonl`: `NAME.lock`, while a reply arrives `NAME.partial`, after a repair `NAME.torn-TIME`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chatmem.errors import Busy, NotSaved, WrongUse
from chatmem.names import checked, key, valid
from chatmem.paths import private_folder
from chatmem.records import Record
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.check import Verdict, check
from chatmem.stores.disk import append_all, escaped, failed, no_file, open_file, read_from, read_partial, stamp
from chatmem.stores.jsonl_log import ENDING, JsonlLog
from chatmem.stores.lines import BROKEN, line_of, record_of, records_of
from chatmem.stores.outlines import OutlineCache
from chatmem.stores.search import Query


class JsonlStore(Store):
    """Keep each session in a file of its own, in `folder`. `system` is the module of system calls it uses."""

    def __init__(self, folder: Path, say: Say = lambda line: None, system: Any = os) -> None:
        super().__init__(say)
        self.folder, self.system = folder, system

    def names(self) -> list[str]:
        try:
            with self.system.scandir(self.folder) as entries:
                files = [e.name for e in entries if e.name.endswith(ENDING) and e.is_file(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise NotSaved(
                f"The folder {self.folder} cannot be read: {error.strerror}.", "Check its permissions."
            ) from error
        return [name for file in files if valid(name := file.removesuffix(ENDING))]

    def find(self, name: str) -> str:
        try:
            if stat.S_ISREG(self.system.lstat(self.path(name)).st_mode):
                return checked(name)
        except (OSError, ValueError):
            return super().find(name)
        raise no_file(self.path(name))

    def path(self, name: str, ending: str = ENDING) -> Path:
        """The file of a session. Raises WrongUse for what cannot be a name, so that none leaves the folder."""
        return self.folder / (checked(name) + ending)

    def records(self, name: str) -> list[Record]:
        name = self.find(name)
        return self._records(name, self.data(name))

    def data(self, name: str) -> bytes:
        """The bytes of a session's file."""
        try:
            descriptor = open_file(self.system, self.path(name), os.O_RDONLY)
            try:
                return read_from(self.system, descriptor, 0)
            finally:
                self.system.close(descriptor)
        except OSError as error:
            raise NotSaved(f"Session {name!r} cannot be read: {error.strerror}.", "Check its permissions.") from error

    def _records(self, name: str, data: bytes) -> list[Record]:
        *lines, rest = data.split(b"\n")
        records = list(records_of(lines))
        if rest and not rest.isspace():
            records.append(record_of(rest) or BROKEN)
        left = read_partial(self.system, self.path(name, ".partial"))
        if left and not any(r.get("id") == left["id"] for r in records):
            records.append(left)
        return records

    def _searchable(self, name: str, query: Query) -> list[Record] | None:
        data = self.data(name)
        return self._records(name, data) if query.may_match(data) else None

    def place(self, name: str | None = None) -> str:
        return str(self.path(self.find(name)) if name else self.folder)

    def check(self, name: str) -> Verdict:
        name = self.find(name)
        beside = sorted(p.name for p in self.folder.glob(f"{escaped(name)}.torn-*"))
        return check(name, self.data(name), beside, self.path(name, ".partial").exists())

    def rebuild(self) -> None:
        self.forget(self.folder / ".outlines.sqlite")
        self.outlines()

    def outlines(self) -> list[Outline]:
        stamps = {}
        try:
            with self.system.scandir(self.folder) as entries:
                for entry in entries:
                    name = entry.name.removesuffix(ENDING)
                    if name != entry.name and entry.is_file(follow_symlinks=False) and valid(name):
                        found = entry.stat(follow_symlinks=False)
                        stamps[name] = found.st_size, found.st_mtime_ns, found.st_ino
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise NotSaved(
                f"The folder {self.folder} cannot be read: {error.strerror}.", "Check its permissions."
            ) from error
        cache = OutlineCache(self.folder / ".outlines.sqlite")
        return sorted(cache.outlines(stamps, self._outline), key=lambda o: (o.last_active, o.name), reverse=True)

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        if first := list(first):
            self._create(checked(name), first)
        return JsonlLog(self, self.find(name))

    def _create(self, name: str, first: list[Record]) -> None:
        """Make a session's file whole: written and synced beside its place, then put there."""
        path, beside = self.path(name), self.folder / f".{name}.new"
        self.make_folder(self.folder)
        with self.lock(name):
            if any(key(name) == key(known) for known in self.names()):
                raise WrongUse(f"There is already a session {name!r}.", "Choose another name.")
            with contextlib.suppress(FileNotFoundError):
                self.system.lstat(path)
                raise no_file(path)
            try:
                descriptor = open_file(self.system, beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
                try:
                    append_all(self.system, descriptor, b"".join(map(line_of, first)))
                finally:
                    self.system.close(descriptor)
                self.system.rename(beside, path)
            except OSError as error:
                self.forget(beside)
                raise failed(f"Session {name!r} cannot be created", error) from error
            self.sync_folder(self.folder)

    def rename(self, name: str, new: str) -> None:
        name, new = self.find(name), checked(new)
        if any(key(known) == key(new) for known in self.names() if known != name):
            raise WrongUse(f"There is already a session {new!r}.", "Choose another name.")
        log = JsonlLog(self, name)
        try:
            with (
                log.turn(wait=False),
                self.lock(new, wait=False) if key(new) != key(name) else contextlib.nullcontext(),
            ):
                log.append([{"type": "settings", "title": new}])
                self._move(self.path(name), self.path(new))
                self._move_torn(name, self.folder, new)
        finally:
            log.close()

    def delete(self, name: str, purge: bool = False) -> None:
        name = self.find(name)
        log = JsonlLog(self, name)
        try:
            with log.turn(wait=False):
                if purge:
                    self.system.unlink(self.path(name))
                    for torn in self.folder.glob(f"{escaped(name)}.torn-*"):
                        self.forget(torn)
                else:
                    trash = self.make_folder(self.folder.parent / "trash")
                    self._move(self.path(name), trash / f"{name}.{stamp()}{ENDING}")
                    self._move_torn(name, trash, name)
                self.sync_folder(self.folder)
        except OSError as error:
            raise failed(f"Session {name!r} cannot be deleted", error) from error
        finally:
            log.close()

    # What the logs need as well

    @contextlib.contextmanager
    def lock(self, name: str, wait: bool = True) -> Iterator[None]:
        """Hold the lock file of a session. Where the file system knows no locks, say so once and go on."""
        from filelock import FileLock, Timeout

        path = self.path(name, ".lock")
        lock = FileLock(path, mode=0o600, fallback_to_soft=False, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise Busy(
                    f"Session {name!r} is in use by another process.", "Try again when its turn is done."
                ) from None
            self.say(f"Session {name!r} is in use by another process: waiting for its turn to end (Ctrl-C to cancel).")
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in (
                errno.ENOLCK,
                errno.ENOTSUP,
                errno.EBADF,
                errno.ENOSYS,
            ):
                raise failed(f"Session {name!r} cannot be locked", error) from error
            self.say("This file system knows no locks: do not use one session from two places at once.")
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def make_folder(self, folder: Path) -> Path:
        try:
            return private_folder(folder, self.system)
        except OSError as error:
            raise failed(f"The folder {folder} cannot be made", error) from error

    def sync_folder(self, folder: Path) -> None:
        """Make a change of names durable; best effort, since NFS and FUSE refuse it."""
        with contextlib.suppress(OSError):
            descriptor = self.system.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.system.fsync(descriptor)
            finally:
                self.system.close(descriptor)

    def forget(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            self.system.unlink(path)

    def _move_torn(self, name: str, folder: Path, new: str) -> None:
        """What was set aside goes where its session goes."""
        for torn in self.folder.glob(f"{escaped(name)}.torn-*"):
            with contextlib.suppress(OSError):
                self.system.rename(torn, folder / f"{new}{torn.name[len(name) :]}")

    def _move(self, old: Path, new: Path) -> None:
        try:
            self.system.rename(old, new)
        except OSError as error:
            raise failed(f"{old.name} cannot be renamed", error) from error
        self.sync_folder(new.parent)
