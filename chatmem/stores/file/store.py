"""file: one JSON Lines file per session, append-only. The default store; the file is the source of truth.

Writing: the whole line in one `write` on an `O_APPEND` descriptor, `fsync` before success is reported, `ftruncate` back
if either fails. Reading takes no lock and repairs nothing. Writing happens under a lock file that is held for one turn:
a torn tail is set aside, the draft of a process that died becomes a message. Beside `NAME.jsonl` are `NAME.lock`, while
a reply arrives `NAME.partial`, and after a repair `NAME.torn-TIME`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from chatmem.errors import Notify, SessionNotFoundError, StorageError, UsageError, ignore_notices
from chatmem.history.names import canonical_key, conflict_copy_of, is_valid, unique_name, validate
from chatmem.history.records import Record
from chatmem.paths import atomic_write
from chatmem.stores.base import SessionInfo, SessionLog, SessionStore, newest_first
from chatmem.stores.codec import MALFORMED, decode, decode_all, encode
from chatmem.stores.file import shares
from chatmem.stores.file.directory import SUFFIX, UNFINISHED, SessionDirectory
from chatmem.stores.file.log import FileLog
from chatmem.stores.file.posix_io import (
    append_all,
    not_a_file,
    open_file,
    read_draft,
    read_from,
    storage_error,
    storage_errors,
    timestamp,
)
from chatmem.stores.file.shares import SharedLog, ShareLink, iter_links, read_session_id
from chatmem.stores.search import Query
from chatmem.stores.session_index import FILE_NAME, SessionIndex
from chatmem.stores.verify import CheckReport, check_session


class FileStore(SessionStore):
    """Keeps each session in a file of its own. `system` is the module of system calls it uses."""

    def __init__(
        self,
        path: Path,
        notify: Notify = ignore_notices,
        system: Any = os,
        user: str = "",
        data: Path | None = None,
    ) -> None:
        super().__init__(notify)
        self.directory = SessionDirectory(path, notify, system)
        self.system = system
        self.user, self.data = user, data or path.parent
        self._index = SessionIndex(path / FILE_NAME)
        self._is_tidy = False

    @classmethod
    def for_user(cls, data: Path, user: str, notify: Notify = ignore_notices) -> FileStore:
        """The store of a user in a data directory. The default user is ''."""
        home = data / "users" / validate(user, "user") if user else data
        return cls(home / "sessions", notify, user=user, data=data)

    def path(self, name: str, suffix: str = SUFFIX) -> Path:
        """The file of a session. Raises UsageError for an invalid name."""
        return self.directory.path(name, suffix)

    # Finding

    def names(self) -> list[str]:
        files, links = self._scan()
        return [*files, *self._shared(files, links)]

    def lookup(self, name: str) -> str | None:
        try:
            if stat.S_ISREG(self.system.lstat(self.path(name)).st_mode):
                return validate(name)
        except (OSError, ValueError):
            return super().lookup(name)
        raise not_a_file(self.path(name))

    def location(self, name: str | None = None) -> str:
        if not name:
            return str(self.directory.root)
        store, name = self._resolve(name)
        return str(store.path(name))

    def list_sessions(self) -> list[SessionInfo]:
        stamps = {}
        files, links = self._scan()
        for name, entry in files.items():
            with contextlib.suppress(FileNotFoundError):  # deleted in this moment
                found = entry.stat(follow_symlinks=False)
                stamps[name] = found.st_size, found.st_mtime_ns, found.st_ino
        sessions = list(self._index.sessions(stamps, self._read_info, self.progress))
        for name, link in self._shared(files, links).items():
            if info := self._read_info(name):
                sessions.append(info._replace(owner=link.user))
        return newest_first(sessions)

    def rebuild_index(self) -> None:
        self.directory.remove(self._index.path)
        self.list_sessions()

    def conflict_copies(self) -> dict[str, str]:
        try:
            found = [file for file in self.system.listdir(self.directory.root) if "conflict" in file.lower()]
        except OSError:
            return {}
        stems = sorted(file.removesuffix(SUFFIX) for file in found if file.endswith(SUFFIX))
        copies = {stem: name for stem in stems if (name := conflict_copy_of(stem)) and self.path(name).is_file()}
        return {stem: name for stem, name in copies.items() if self._is_plain_file(stem)}

    def _is_plain_file(self, stem: str) -> bool:
        with contextlib.suppress(OSError):
            return stat.S_ISREG(self.system.lstat(self.directory.root / f"{stem}{SUFFIX}").st_mode)
        return False

    def read_conflict_copy(self, copy: str) -> list[Record]:
        try:
            data = (self.directory.root / f"{copy}{SUFFIX}").read_bytes()
        except OSError as error:
            raise storage_error(f"Cannot read {copy!r}", error) from error
        *lines, rest = data.split(b"\n")
        return [*decode_all(lines), *([record] if (record := decode(rest)) else [])]

    def discard_conflict_copy(self, copy: str) -> None:
        trash = self.directory.make_dir(self.directory.root.parent / "trash")
        self.directory.move(self.directory.root / f"{copy}{SUFFIX}", trash / f"{copy}.{timestamp()}{SUFFIX}")

    def _scan(self) -> tuple[dict[str, os.DirEntry[str]], list[str]]:
        """The session files of this user by name, and the names of links. Raises StorageError."""
        files: dict[str, os.DirEntry[str]] = {}
        links: list[str] = []
        try:
            with self.system.scandir(self.directory.root) as entries:
                for entry in entries:
                    name, dot, suffix = entry.name.rpartition(".")
                    if dot + suffix == SUFFIX and entry.is_file(follow_symlinks=False) and is_valid(name):
                        files[name] = entry
                    elif dot + suffix == shares.SUFFIX and is_valid(name):
                        links.append(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise StorageError(
                f"Cannot read the directory {self.directory.root}: {error.strerror}.", "Check its permissions."
            ) from error
        return files, links

    def _shared(self, files: Collection[str], links: Collection[str]) -> dict[str, ShareLink]:
        """The sessions that other users share with this one, by the name they have here."""
        taken = {canonical_key(name) for name in files} if links else set()
        free = (name for name in links if canonical_key(name) not in taken)
        found = {name: ShareLink.read(self.path(name, shares.SUFFIX)) for name in free}
        return {name: link for name, link in found.items() if link and self._owner(link)}

    def _owner(self, link: ShareLink) -> FileStore | None:
        """The store that a link leads to. None if the session no longer exists there."""
        store = FileStore.for_user(self.data, link.user, self.notify)
        return store if read_session_id(store.path(link.name)) == link.id else None

    def _resolve(self, name: str) -> tuple[FileStore, str]:
        """The store that holds a session, this one or its owner's, and its name there. Raises SessionNotFoundError."""
        name = self.find(name)
        link = ShareLink.read(self.path(name, shares.SUFFIX))
        owner = self._owner(link) if link and not self.path(name).exists() else None
        return (owner, link.name) if owner and link else (self, name)

    # Reading

    def records(self, name: str) -> list[Record]:
        store, name = self._resolve(name)
        return store._decode(name, store.read_bytes(name))

    def read_bytes(self, name: str) -> bytes:
        """The content of a session's file. Raises StorageError."""
        try:
            descriptor = open_file(self.system, self.path(name), os.O_RDONLY)
            try:
                return read_from(self.system, descriptor, 0)
            finally:
                self.system.close(descriptor)
        except OSError as error:
            raise StorageError(f"Cannot read session {name!r}: {error.strerror}.", "Check its permissions.") from error

    def check(self, name: str, deep: bool = False) -> CheckReport:
        label = self.find(name)
        store, name = self._resolve(label)
        return store._check(name, label, store.directory.torn_files(), deep)

    def check_all(self, deep: bool = False) -> Iterator[CheckReport]:
        files, links = self._scan()
        torn = self.directory.torn_files() if files else {}  # read once: a directory may have 100,000 sessions
        for name in self.progress(sorted([*files, *self._shared(files, links)]), "Checking"):
            with contextlib.suppress(SessionNotFoundError, FileNotFoundError):  # deleted in the meantime
                yield self._check(name, name, torn, deep) if name in files else self.check(name, deep)

    def _check(self, name: str, label: str, torn: dict[str, list[Path]], deep: bool) -> CheckReport:
        set_aside = [path.name for path in torn.get(name, ())]
        return check_session(label, self.read_bytes(name), set_aside, self.path(name, ".partial").exists(), deep)

    def _decode(self, name: str, data: bytes) -> list[Record]:
        *lines, rest = data.split(b"\n")
        records = list(decode_all(lines))
        if rest and not rest.isspace():
            records.append(decode(rest) or MALFORMED)
        draft = None
        with contextlib.suppress(OSError):
            draft = read_draft(self.system, self.path(name, ".partial"))
        if draft and not any(r.get("id") == draft["id"] for r in records):
            records.append(draft)
        return records

    def _searchable(self, name: str, query: Query) -> list[Record] | None:
        store = self
        try:
            data = self.read_bytes(name)
        except StorageError:  # it may be shared by another user; most sessions are not
            store, name = self._resolve(name)
            data = store.read_bytes(name)
        return store._decode(name, data) if query.may_match(data) else None

    # Writing

    def open(self, name: str, first: Iterable[Record] = ()) -> SessionLog:
        if first := list(first):
            self._create(validate(name), first)
        label = self.find(name)
        store, name = self._resolve(label)
        log = FileLog(store.directory, name)
        return log if store is self else SharedLog(log, label)

    def _create(self, name: str, first: list[Record]) -> None:
        """Create a session's file atomically: written and synced under another name, then renamed."""
        path, temporary = self.path(name), self.directory.root / f".{name}{UNFINISHED}"
        self.directory.make_dir()
        if not self._is_tidy:
            self._is_tidy = True
            self.directory.remove_leftovers()
        with self.directory.lock(name), storage_errors(f"Cannot create session {name!r}"):
            self._check_free(name)
            with contextlib.suppress(FileNotFoundError):
                self.system.lstat(path)
                raise not_a_file(path)
            try:
                descriptor = open_file(self.system, temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
                try:
                    append_all(self.system, descriptor, b"".join(map(encode, first)))
                finally:
                    self.system.close(descriptor)
                self.system.rename(temporary, path)
            except OSError:
                self.directory.remove(temporary)
                raise
            self.directory.sync()

    def rename(self, name: str, new: str) -> None:
        name, new = self.find(name), validate(new)
        self._check_free(new, except_for=name)
        if self._resolve(name)[0] is not self:
            self.directory.move(self.path(name, shares.SUFFIX), self.path(new, shares.SUFFIX))
            return
        is_new_file = canonical_key(new) != canonical_key(name)
        log = FileLog(self.directory, name)
        try:
            with (
                log.exclusive(wait=False),
                self.directory.lock(new, wait=False) if is_new_file else contextlib.nullcontext(),
            ):
                log.append([{"type": "settings", "title": new}])
                self.directory.move(self.path(name), self.path(new))
                self.directory.move_torn_files(name, self.directory.root, new)
                self._update_links(name, new)
        finally:
            log.close()

    def _check_free(self, name: str, except_for: str = "") -> None:
        key = canonical_key(name)
        if any(canonical_key(known) == key for known in self.names() if known != except_for):
            raise UsageError(f"There is already a session {name!r}.", "Choose another name.")

    def _update_links(self, name: str, new: str) -> None:
        """Point the links to a session to its new name."""
        for directory in (self.data / "sessions", *self.data.glob("users/*/sessions")):
            for path, link in iter_links(directory):
                if (link.user, link.name) == (self.user, name):
                    with contextlib.suppress(OSError):
                        atomic_write(path, link._replace(name=new).encode())

    def share(self, name: str, user: str) -> str:
        store, name = self._resolve(name)
        other = FileStore.for_user(self.data, user, self.notify)
        if user in (self.user, store.user):
            problem = "You cannot share a session with yourself." if user == self.user else "That user owns it."
            raise UsageError(problem, "Name another user.")
        link = ShareLink(store.user, name, read_session_id(store.path(name)) or "")
        if link in other._shared(*other._scan()).values():
            raise UsageError(f"Session {name!r} is already shared with {user!r}.")
        shared_name = unique_name(other.names(), name)
        try:
            atomic_write(other.path(shared_name, shares.SUFFIX), link.encode())
        except OSError as error:
            raise storage_error(f"Cannot share session {name!r}", error) from error
        return shared_name

    def delete(self, name: str, purge: bool = False) -> None:
        name = self.find(name)
        if self._resolve(name)[0] is not self:
            self.directory.remove(self.path(name, shares.SUFFIX))  # the session itself belongs to its owner
            return
        log = FileLog(self.directory, name)
        try:
            with log.exclusive(wait=False):
                if purge:
                    self.system.unlink(self.path(name))
                    for torn in self.directory.torn_files().get(name, ()):
                        self.directory.remove(torn)
                else:
                    trash = self.directory.make_dir(self.directory.root.parent / "trash")
                    self.directory.move(self.path(name), trash / f"{name}.{timestamp()}{SUFFIX}")
                    self.directory.move_torn_files(name, trash, name)
                self.directory.sync()
        except OSError as error:
            raise storage_error(f"Cannot delete session {name!r}", error) from error
        finally:
            log.close()
