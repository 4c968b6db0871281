"""file: one JSON Lines file per session, append-only. The default, and the only truth about a session.

Writing: the whole line in one `write` on an `O_APPEND` descriptor, `fsync` before the promise is given,
`ftruncate` back when either fails. Reading takes no lock and repairs nothing. Opening for writing happens under
a lock file, one turn long: a broken tail is set aside, a dead process's partial reply becomes a message.
Beside `NAME.jsonl`: `NAME.lock`, while a reply arrives `NAME.partial`, after a repair `NAME.torn-TIME`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from chatmem.errors import Busy, ChatmemError, NotSaved, WrongUse
from chatmem.names import checked, key, shortened, valid
from chatmem.paths import private_folder
from chatmem.session import Record, repaired
from chatmem.stores.base import Log, Say, Store
from chatmem.stores.lines import BROKEN, line_of, record_of, records_of

ENDING = ".jsonl"
_SAFE = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


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
        raise _no_file(self.path(name))

    def path(self, name: str, ending: str = ENDING) -> Path:
        """The file of a session. Raises WrongUse for what cannot be a name, so that none leaves the folder."""
        return self.folder / (checked(name) + ending)

    def records(self, name: str) -> list[Record]:
        name = self.find(name)
        try:
            descriptor = open_file(self.system, self.path(name), os.O_RDONLY)
            try:
                data = read_from(self.system, descriptor, 0)
            finally:
                self.system.close(descriptor)
        except OSError as error:
            raise NotSaved(f"Session {name!r} cannot be read: {error.strerror}.", "Check its permissions.") from error
        *lines, rest = data.split(b"\n")
        records = list(records_of(lines))
        if rest and not rest.isspace():
            records.append(record_of(rest) or BROKEN)
        left = read_partial(self.system, self.path(name, ".partial"))
        if left and not any(r.get("id") == left["id"] for r in records):
            records.append(left)
        return records

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        if first := list(first):
            self._create(checked(name), first)
        return JsonlLog(self, self.find(name))

    def _create(self, name: str, first: list[Record]) -> None:
        path = self.path(name)
        self.make_folder(self.folder)
        with self.lock(name):
            if any(key(name) == key(known) for known in self.names()):
                raise WrongUse(f"There is already a session {name!r}.", "Choose another name.")
            try:
                descriptor = open_file(self.system, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            except FileExistsError as error:
                raise _no_file(path) from error
            except OSError as error:
                raise failed(f"Session {name!r} cannot be created", error) from error
            try:
                append_all(self.system, descriptor, b"".join(map(line_of, first)))
            except OSError as error:
                self.forget(path)
                raise failed(f"Session {name!r} cannot be created", error) from error
            finally:
                self.system.close(descriptor)
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
        finally:
            log.close()

    def delete(self, name: str, purge: bool = False) -> None:
        name = self.find(name)
        log = JsonlLog(self, name)
        try:
            with log.turn(wait=False):
                if purge:
                    self.system.unlink(self.path(name))
                    for torn in self.folder.glob(f"{_escaped(name)}.torn-*"):
                        self.forget(torn)
                else:
                    trash = self.make_folder(self.folder.parent / "trash")
                    self._move(self.path(name), trash / f"{name}.{_stamp()}{ENDING}")
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

    def _move(self, old: Path, new: Path) -> None:
        try:
            self.system.rename(old, new)
        except OSError as error:
            raise failed(f"{old.name} cannot be renamed", error) from error
        self.sync_folder(new.parent)


class JsonlLog(Log):
    """One session file, open for reading and appending."""

    def __init__(self, store: JsonlStore, name: str) -> None:
        self.store, self.system, self.name = store, store.system, name
        self._descriptor = -1
        self._partial = -1
        self._partial_waits = False
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
        path = self.store.path(self.name, ".partial")
        with contextlib.suppress(OSError, ChatmemError):
            self._partial = open_file(self.system, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self.system.write(self._partial, line_of(skeleton))

        def keep(text: str) -> None:
            if self._partial >= 0:
                try:
                    self.system.write(self._partial, json.dumps(text).encode() + b"\n")
                except OSError:  # the reply itself will say that it could not be saved
                    self._close_partial()

        return keep

    def partial_done(self, stored: bool = True) -> None:
        self._close_partial()
        self._partial_waits = not stored
        if stored:
            self.store.forget(self.store.path(self.name, ".partial"))

    def close(self) -> None:
        self._close_partial()
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
        torn = self.store.path(self.name, f".torn-{_stamp()}")
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
        if self._partial_waits:
            return  # it is ours: the reply itself is still to be stored
        left = read_partial(self.system, path)
        if left is None:
            self.store.forget(path)
            return
        if left["id"] not in self._ids:
            self.append([left])
            self._held.append(left)
        self.store.forget(path)

    def _close_partial(self) -> None:
        if self._partial >= 0:
            with contextlib.suppress(OSError):
                self.system.close(self._partial)
            self._partial = -1


# What both do with files


def open_file(system: Any, path: Path, flags: int) -> int:
    """Open a plain file, 0600 when it is new; no symbolic link, no FIFO. Raises WrongUse, or OSError."""
    try:
        descriptor: int = system.open(path, flags | _SAFE, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _no_file(path) from error
        raise
    if not stat.S_ISREG(system.fstat(descriptor).st_mode):
        system.close(descriptor)
        raise _no_file(path)
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


def failed(what: str, error: OSError | NotImplementedError) -> NotSaved:
    """A system call's failure as ours: what failed, and the system's own word for why."""
    reason = getattr(error, "strerror", None) or str(error)
    return NotSaved(f"{what}: {reason}.", "What was typed is kept in memory; /save PATH writes it elsewhere.")


def _no_file(path: Path) -> WrongUse:
    return WrongUse(
        f"{shortened(path.name)!r} in {path.parent} is no plain file.",
        "Move it away, or choose another name.",
    )


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"
