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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chatmem.errors import Notify, SessionNotFoundError, StorageError, UsageError, ignore_notices
from chatmem.history.names import canonical_key, unique_name, validate
from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.paths import atomic_write
from chatmem.stores.base import DeletedSession, SessionInfo, SessionLog, SessionStore, newest_first
from chatmem.stores.codec import MALFORMED, decode, decode_all, encode
from chatmem.stores.file.conflict_copies import find_conflict_copies, read_conflict_copy
from chatmem.stores.file.directory import LINK_SUFFIX, SUFFIX, UNFINISHED, SessionDirectory, stamp_of
from chatmem.stores.file.log import FileLog
from chatmem.stores.file.posix_io import (
    append_all,
    not_a_file,
    open_file,
    read_draft,
    read_from,
    storage_error,
    storage_errors,
)
from chatmem.stores.file.search_index import SearchIndex
from chatmem.stores.file.shares import SharedLog, ShareLink, iter_links, read_session_id
from chatmem.stores.file.trash import Trash
from chatmem.stores.search import Hit, Query
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
        has_index: bool = True,
    ) -> None:
        super().__init__(notify)
        self.directory = SessionDirectory(path, notify, system)
        self.system = system
        self.user, self.data = user, data or path.parent
        self._trash = Trash(self.directory)
        self._index = SearchIndex(path.with_name(f"{path.name}.index.sqlite"), self.read_bytes)
        self.directory.index = self._index if has_index else None

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
        found = self.directory.scan()
        return [*found.files, *self._shared(found.files, found.links)]

    def lookup(self, name: str) -> str | None:
        try:
            if stat.S_ISREG(self.system.lstat(self.path(name)).st_mode):
                return validate(name)
        except (OSError, ValueError):
            key = canonical_key(name)
            if self.directory.is_large() and self.directory.knows_all_files():
                names = self._index.names_of(key)
                return next(iter(names), None) if names is not None else self._lookup_key(key)
            return self._lookup_key(key)
        raise not_a_file(self.path(name))

    def _lookup_key(self, key: str) -> str | None:
        """The session whose name has this canonical key, from the names of all files."""
        suffixes = (SUFFIX, LINK_SUFFIX)
        with contextlib.suppress(OSError), self.system.scandir(self.directory.root) as entries:
            for entry in entries:
                if entry.name.endswith(suffixes) and canonical_key(entry.name.rpartition(".")[0]) == key:
                    return super().lookup(key)
            return None
        return super().lookup(key)

    def is_empty(self) -> bool:
        try:
            with self.system.scandir(self.directory.root) as entries:
                return not any(entry.name.endswith((SUFFIX, LINK_SUFFIX)) for entry in entries)
        except FileNotFoundError:
            return True
        except OSError:
            return super().is_empty()

    def unused_name(self, like: str = "") -> str:
        if like:
            return super().unused_name(like)
        while True:  # two words in lower case: looking for names that differ in case would mean reading them all
            name = unique_name(())
            if not any(self.path(name, suffix).exists() for suffix in (SUFFIX, LINK_SUFFIX)):
                return name

    def location(self, name: str | None = None) -> str:
        if not name:
            return str(self.directory.root)
        store, name = self._resolve(name)
        return str(store.path(name))

    def list_sessions(self) -> list[SessionInfo]:
        if self.directory.is_large() and self.directory.knows_all_files() and (known := self._index.latest(-1)):
            return [info for _, info in known]
        if self._index.has_too_many_stale_parts():
            self._index.delete()
        time = self.directory.time()
        found = self.directory.scan()
        stamps = {}
        for name, entry in found.files.items():
            with contextlib.suppress(FileNotFoundError):  # deleted in this moment
                stamps[name] = stamp_of(entry.stat(follow_symlinks=False))
        sessions = list(self._index.sessions(stamps, self._read_info, self.progress))
        if found.leftovers:
            self.directory.remove_leftovers(found.leftovers)
        if len(sessions) == len(found.files):
            self._index.complete(time, found.others)
        for name, link in self._shared(found.files, found.links).items():
            if info := self._read_info(name):
                sessions.append(info._replace(owner=link.user))
        return newest_first(sessions)

    def recent_sessions(self, limit: int) -> list[SessionInfo]:
        if self.directory.is_large() and self.directory.knows_all_files():
            recent = self._index.latest(limit)
            with contextlib.suppress(OSError):
                if recent and all(self.directory.stamp(info.name) == stamp for stamp, info in recent):
                    return [info for _, info in recent]
        return super().recent_sessions(limit)

    def matching_sessions(self, pattern: str, limit: int) -> list[SessionInfo]:
        if self.directory.knows_all_files() and (found := self._index.matching(pattern, limit)) is not None:
            return found
        return super().matching_sessions(pattern, limit)

    def search(self, query: Query, only: str | None = None) -> Iterator[Hit]:
        terms = list(query.terms())
        if only or not terms:
            yield from super().search(query, only)
            return
        self.refresh_index()
        names = self._index.find(terms) if self._index.has_all_words(self.directory.time()) else None
        if names is None:
            yield from super().search(query)
            return
        if not self.directory.knows_all_files():
            found = self.directory.scan()
            names += self._shared(found.files, found.links)
        for name in names:
            with contextlib.suppress(SessionNotFoundError):  # deleted in the meantime
                yield from super().search(query, name)

    def likely_sessions(self, words: Sequence[str], limit: int) -> list[str]:
        self.refresh_index()
        ranked = self._index.ranked(words, limit) if self._index.has_all_words(self.directory.time()) else None
        return super().likely_sessions(words, limit) if ranked is None else ranked

    def refresh_index(self) -> None:
        if not (self.directory.is_large() and self.directory.knows_all_files()):
            self.list_sessions()
        self._index.index_words(self.progress)

    def rebuild_index(self) -> None:
        self._index.delete()
        self.list_sessions()

    def conflict_copies(self) -> dict[str, str]:
        return find_conflict_copies(self.directory)

    def read_conflict_copy(self, copy: str) -> list[Record]:
        return read_conflict_copy(self.directory, copy)

    def discard_conflict_copy(self, copy: str) -> None:
        self._trash.add(self.directory.root / f"{copy}{SUFFIX}", copy)

    def _shared(self, files: Collection[str], links: Collection[str]) -> dict[str, ShareLink]:
        """The sessions that other users share with this one, by the name they have here."""
        taken = {canonical_key(name) for name in files} if links else set()
        free = (name for name in links if canonical_key(name) not in taken)
        found = {name: ShareLink.read(self.path(name, LINK_SUFFIX)) for name in free}
        return {name: link for name, link in found.items() if link and self._owner(link)}

    def _owner(self, link: ShareLink) -> FileStore | None:
        """The store that a link leads to. None if the session no longer exists there."""
        store = FileStore.for_user(self.data, link.user, self.notify)
        return store if read_session_id(store.path(link.name)) == link.id else None

    def _resolve(self, name: str) -> tuple[FileStore, str]:
        """The store that holds a session, this one or its owner's, and its name there. Raises SessionNotFoundError."""
        name = self.find(name)
        link = ShareLink.read(self.path(name, LINK_SUFFIX))
        owner = self._owner(link) if link and not self.path(name).exists() else None
        return (owner, link.name) if owner and link else (self, name)

    # Reading

    def records(self, name: str) -> list[Record]:
        store, name = self._resolve(name)
        return store._decode(name, store.read_bytes(name))

    def read_bytes(self, name: str, start: int = 0) -> bytes:
        """The content of a session's file, from a position on. Raises StorageError."""
        try:
            descriptor = open_file(self.system, self.path(name), os.O_RDONLY)
            try:
                return read_from(self.system, descriptor, start)
            finally:
                self.system.close(descriptor)
        except OSError as error:
            raise StorageError(f"Cannot read session {name!r}: {error.strerror}.", "Check its permissions.") from error

    def check(self, name: str, deep: bool = False) -> CheckReport:
        label = self.find(name)
        store, name = self._resolve(label)
        return store._check(name, label, store.directory.torn_files(), deep)

    def check_all(self, deep: bool = False) -> Iterator[CheckReport]:
        found = self.directory.scan()
        torn = self.directory.torn_files() if found.files else {}  # read once: there may be 100,000 sessions
        for name in self.progress(sorted([*found.files, *self._shared(found.files, found.links)]), "Checking"):
            with contextlib.suppress(SessionNotFoundError, FileNotFoundError):  # deleted in the meantime
                yield self._check(name, name, torn, deep) if name in found.files else self.check(name, deep)

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
        is_first = self.directory.time() == 0
        self.directory.make_dir()
        if is_first and self.directory.index:
            self._index.delete()  # of a directory that was removed
            self._index.complete(self.directory.time(), others=0)
        self._check_free(name)
        with self.directory.lock(name), self.directory.changing(), storage_errors(f"Cannot create session {name!r}"):
            self._check_free(name, ignoring_case=False)
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
            info = SessionInfo.from_session(Session.replay(name, first))
            self._update_index([info])

    def _update_index(
        self,
        added: Iterable[SessionInfo] = (),
        removed: Mapping[str, bytes] = MappingProxyType({}),
        renamed: tuple[str, str] | None = None,
    ) -> None:
        """Write changes to the index. Best effort."""
        if self.directory.index:
            with contextlib.suppress(OSError):
                stamped = [(self.directory.stamp(info.name), info) for info in added]
                self._index.update(stamped, removed, renamed, self.directory.own_changes())

    def rename(self, name: str, new: str) -> None:
        name, new = self.find(name), validate(new)
        self._check_free(new, except_for=name)
        if self._resolve(name)[0] is not self:
            self.directory.move(self.path(name, LINK_SUFFIX), self.path(new, LINK_SUFFIX))
            return
        is_new_file = canonical_key(new) != canonical_key(name)
        log = FileLog(self.directory, name, follows=False)
        try:
            with (
                self.directory.changing(),
                log.exclusive(wait=False),
                self.directory.lock(new, wait=False) if is_new_file else contextlib.nullcontext(),
            ):
                records = log.read()[0]
                self.directory.move(self.path(name), self.path(new))
                self.directory.move_torn_files(name, new)
                self._update_links(name, new)
                info = SessionInfo.from_session(Session.replay(new, records))
                self._update_index([info], renamed=(name, new))
        finally:
            log.close()

    def _check_free(self, name: str, except_for: str = "", ignoring_case: bool = True) -> None:
        if not ignoring_case and not any(os.path.lexists(self.path(name, s)) for s in (SUFFIX, LINK_SUFFIX)):
            return
        if self.lookup(name) not in (None, except_for):
            raise UsageError(f"There is already a session {name!r}.", "Choose another name.")

    def _update_links(self, name: str, new: str) -> None:
        """Point the links to a session to its new name."""
        for directory in (self.data / "sessions", *self.data.glob("users/*/sessions")):
            own = directory == self.directory.root
            if (self if own else FileStore(directory)).directory.knows_all_files():
                continue  # there are no links
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
        found = other.directory.scan()
        if link in other._shared(found.files, found.links).values():
            raise UsageError(f"Session {name!r} is already shared with {user!r}.")
        shared_name = unique_name(other.names(), name)
        try:
            atomic_write(other.path(shared_name, LINK_SUFFIX), link.encode())
        except OSError as error:
            raise storage_error(f"Cannot share session {name!r}", error) from error
        return shared_name

    def delete(self, name: str, purge: bool = False) -> None:
        name = self.find(name)
        if self._resolve(name)[0] is not self:
            self.directory.remove(self.path(name, LINK_SUFFIX))  # the session itself belongs to its owner
            return
        log = FileLog(self.directory, name, follows=False)
        try:
            with self.directory.changing(), log.exclusive(wait=False):
                data = self.read_bytes(name)
                if purge:
                    self.system.unlink(self.path(name))
                    for torn in self.directory.torn_files().get(name, ()):
                        self.directory.remove(torn)
                else:
                    self._trash.add(self.path(name), name)
                self.directory.sync()
                self._update_index(removed={name: data})
                if purge and self.directory.index:
                    self._index.erase()
        except OSError as error:
            raise storage_error(f"Cannot delete session {name!r}", error) from error
        finally:
            log.close()

    def user_store(self) -> FileStore:
        home = self.directory.root.parent
        return FileStore(home, self.notify, self.system, self.user, self.data, has_index=False)

    def trash(self) -> list[DeletedSession]:
        return self._trash.entries()

    def _restore(self, deleted: DeletedSession, name: str) -> None:
        self.directory.make_dir()
        with self.directory.lock(name, wait=False), self.directory.changing():
            self._check_free(name, ignoring_case=False)
            self._trash.restore(deleted, name)
            self.directory.sync()
            if info := self._read_info(name):
                self._update_index([info])
