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
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from chatmem.errors import Busy, NotSaved, WrongUse
from chatmem.names import checked, fresh, key, valid
from chatmem.paths import private_folder, write_private
from chatmem.records import Record
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.check import Verdict, check
from chatmem.stores.disk import append_all, escaped, failed, no_file, open_file, read_from, read_partial, stamp
from chatmem.stores.jsonl_log import ENDING, JsonlLog
from chatmem.stores.lines import BROKEN, line_of, record_of, records_of
from chatmem.stores.links import ENDING as LINK
from chatmem.stores.links import Link, LinkedLog, id_of, links_in
from chatmem.stores.outlines import OutlineCache
from chatmem.stores.search import Query


class JsonlStore(Store):
    """Keep each session in a file of its own, in `folder`. `system` is the module of system calls it uses."""

    def __init__(
        self, folder: Path, say: Say = lambda line: None, system: Any = os, user: str = "", data: Path | None = None
    ) -> None:
        super().__init__(say)
        self.folder, self.system = folder, system
        self.user, self.root = user, data or folder.parent

    @classmethod
    def of(cls, data: Path, user: str, say: Say = lambda line: None) -> JsonlStore:
        """The store of a user in a data directory."""
        return cls((data / "users" / checked(user, "user") if user else data) / "sessions", say, user=user, data=data)

    def names(self) -> list[str]:
        files, links = self._listed()
        return [*files, *self._shared(files, links)]

    def _listed(self) -> tuple[dict[str, os.DirEntry[str]], list[str]]:
        """The session files of this user by name, and the names of links. Raises NotSaved if the folder is not read."""
        files: dict[str, os.DirEntry[str]] = {}
        links: list[str] = []
        try:
            with self.system.scandir(self.folder) as entries:
                for entry in entries:
                    name, dot, ending = entry.name.rpartition(".")
                    if dot + ending == ENDING and entry.is_file(follow_symlinks=False) and valid(name):
                        files[name] = entry
                    elif dot + ending == LINK and valid(name):
                        links.append(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise NotSaved(
                f"The folder {self.folder} cannot be read: {error.strerror}.", "Check its permissions."
            ) from error
        return files, links

    def _shared(self, files: Collection[str], links: Collection[str]) -> dict[str, Link]:
        """The sessions that other users share with this one, by the name they have here."""
        taken = {key(name) for name in files} if links else set()
        found = {name: Link.read(self.path(name, LINK)) for name in links if key(name) not in taken}
        return {name: link for name, link in found.items() if link and self._owner(link)}

    def _owner(self, link: Link) -> JsonlStore | None:
        """The store that a link leads into; None if what it led to is gone."""
        store = JsonlStore.of(self.root, link.user, self.say)
        return store if id_of(store.path(link.name)) == link.id else None

    def _where(self, name: str) -> tuple[JsonlStore, str]:
        """Where a session is kept: here, or with the user who shares it. Raises NoSuchSession."""
        name = self.find(name)
        link = Link.read(self.path(name, LINK))
        owner = self._owner(link) if link and not self.path(name).exists() else None
        return (owner, link.name) if owner and link else (self, name)

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
        store, name = self._where(name)
        return store._records(name, store.data(name))

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
        store = self
        try:
            data = self.data(name)
        except NotSaved:  # another user's, perhaps: most are not, and ten thousand may be looked through
            store, name = self._where(name)
            data = store.data(name)
        return store._records(name, data) if query.may_match(data) else None

    def place(self, name: str | None = None) -> str:
        store, name = self._where(name) if name else (self, None)
        return str(store.path(name) if name else self.folder)

    def check(self, name: str) -> Verdict:
        called = self.find(name)
        store, name = self._where(called)
        beside = sorted(p.name for p in store.folder.glob(f"{escaped(name)}.torn-*"))
        return check(called, store.data(name), beside, store.path(name, ".partial").exists())

    def rebuild(self) -> None:
        self.forget(self.folder / ".outlines.sqlite")
        self.outlines()

    def outlines(self) -> list[Outline]:
        stamps = {}
        files, links = self._listed()
        for name, entry in files.items():
            with contextlib.suppress(FileNotFoundError):  # deleted just now
                found = entry.stat(follow_symlinks=False)
                stamps[name] = found.st_size, found.st_mtime_ns, found.st_ino
        outlines = list(OutlineCache(self.folder / ".outlines.sqlite").outlines(stamps, self._outline, self.watched))
        for name, link in self._shared(files, links).items():
            if outline := self._outline(name):
                outlines.append(outline._replace(owner=link.user))
        return sorted(outlines, key=lambda o: (o.last_active, o.name), reverse=True)

    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        if first := list(first):
            self._create(checked(name), first)
        called = self.find(name)
        store, name = self._where(called)
        return JsonlLog(store, name) if store is self else LinkedLog(JsonlLog(store, name), called)

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
        if self._where(name)[0] is not self:
            self._move(self.path(name, LINK), self.path(new, LINK))
            return
        log = JsonlLog(self, name)
        try:
            with (
                log.turn(wait=False),
                self.lock(new, wait=False) if key(new) != key(name) else contextlib.nullcontext(),
            ):
                log.append([{"type": "settings", "title": new}])
                self._move(self.path(name), self.path(new))
                self._move_torn(name, self.folder, new)
                self._lead(name, new)
        finally:
            log.close()

    def _lead(self, name: str, new: str) -> None:
        """Have the links to a session lead to its new name."""
        for folder in (self.root / "sessions", *self.root.glob("users/*/sessions")):
            for path, link in links_in(folder):
                if (link.user, link.name) == (self.user, name):
                    with contextlib.suppress(OSError):
                        write_private(path, link._replace(name=new).bytes())

    def share(self, name: str, user: str) -> str:
        store, name = self._where(name)
        other = JsonlStore.of(self.root, user, self.say)
        if user in (self.user, store.user):
            raise WrongUse("That is you." if user == self.user else "It is that user's own.", "Name another user.")
        link = Link(store.user, name, id_of(store.path(name)) or "")
        if link in other._shared(*other._listed()).values():
            raise WrongUse(f"Session {name!r} is already shared with {user!r}.")
        called = fresh(other.names(), name)
        try:
            write_private(other.path(called, LINK), link.bytes())
        except OSError as error:
            raise failed(f"Session {name!r} cannot be shared", error) from error
        return called

    def delete(self, name: str, purge: bool = False) -> None:
        name = self.find(name)
        if self._where(name)[0] is not self:
            self.forget(self.path(name, LINK))  # the session itself is its owner's
            return
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
    def lock(self, name: str, wait: bool = True, ending: str = ".lock", called: str = "") -> Iterator[None]:
        """Hold the lock file of a session. Where the file system knows no locks, say so once and go on."""
        from filelock import FileLock, Timeout

        called = called or name
        path = self.path(name, ending)
        lock = FileLock(path, mode=0o600, fallback_to_soft=False, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise Busy(
                    f"Session {called!r} is in use by another process.", "Try again when its turn is done."
                ) from None
            self.say(
                f"Session {called!r} is in use by another process: waiting for its turn to end (Ctrl-C to cancel)."
            )
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in (
                errno.ENOLCK,
                errno.ENOTSUP,
                errno.EBADF,
                errno.ENOSYS,
            ):
                raise failed(f"Session {called!r} cannot be locked", error) from error
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
