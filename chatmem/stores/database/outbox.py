"""The outbox: what could not be written to a database yet, in files of this machine, one per session.

A session that the database knows has a file named by its id there, so that renames and other sessions of the same name
cannot confuse it. A session that was created, or continued, without the database has a file under its own name.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path

from chatmem.errors import ChatmemError, Notify, StorageError
from chatmem.history.names import canonical_key
from chatmem.history.records import Record, header
from chatmem.stores.database.row_codec import with_record_id
from chatmem.stores.file.log import FileLog
from chatmem.stores.file.posix_io import read_draft
from chatmem.stores.file.shares import read_header
from chatmem.stores.file.store import FileStore


class Outbox:
    """The files of one database's sessions on this machine."""

    def __init__(self, path: Path, notify: Notify) -> None:
        self.store = FileStore(path, notify, has_index=False)
        self.directory = self.store.directory

    def names(self) -> dict[str, str]:
        """The sessions in the outbox: the file of each name."""
        return {str((self._header(file) or {}).get("name") or file): file for file in self.store.names()}

    def files_for(self, name: str, ident: str | None) -> list[str]:
        """The files of a session: the one named by its id, and what was written under its name without the id."""
        files = self.store.names()
        known = [ident] if ident and ident in files else []
        key = canonical_key(name)
        return known + [f for f in files if canonical_key(f) == key and "of" not in (self._header(f) or {})]

    def file_for(self, name: str, ident: str | None) -> str:
        """The file of a session, whether it exists or not. One that exists is continued, so that order is kept."""
        return next(iter(self.files_for(name, ident)), ident or name)

    def ident_for(self, name: str) -> str | None:
        """The id in the database of a session that has a file here. None if it has none, or if it is not known."""
        file = self.names().get(name)
        ident = (self._header(file) or {}).get("of") if file else None
        return ident if isinstance(ident, str) else None

    def records(self, file: str) -> list[Record]:
        """The records in a file, and the draft of a process that died, without the header."""
        if file in self.store.names():
            return [r for r in self.store.records(file) if r.get("type") not in ("session", "malformed")]
        with contextlib.suppress(OSError):
            if draft := self.draft(file):
                return [draft]
        return []

    def draft(self, file: str) -> Record | None:
        """The draft of a process that died, as an interrupted message. None if it has no text. Raises OSError."""
        return read_draft(self.directory.system, self.path(file, ".partial"))

    def headers(self, file: str) -> list[Record]:
        """The header of a session that was created here. Empty for one that the database knows."""
        found = self._header(file)
        return [found] if found and "of" not in found else []

    def open(self, name: str, ident: str | None, first: list[Record]) -> FileLog:
        """Open the file of a session, or create it. Raises StorageError."""
        file = self.file_for(name, ident)
        exists = file in self.store.names()
        beginning = first or [header(name) | ({"of": ident} if ident else {})]
        log = self.store.open(file, () if exists else map(with_record_id, beginning))
        assert isinstance(log, FileLog)
        return log

    def open_existing(self, file: str) -> FileLog:
        """Open a file of the outbox. Raises StorageError."""
        log = self.store.open(file)
        assert isinstance(log, FileLog)
        return log

    def path(self, file: str, suffix: str = ".jsonl") -> Path:
        return self.directory.path(file, suffix)

    def remove(self, file: str, suffix: str = ".jsonl") -> None:
        self.directory.remove(self.path(file, suffix))

    @contextlib.contextmanager
    def exclusive(self, file: str, wait: bool, label: str) -> Iterator[str]:
        """Be the only process of this machine in a session. Yields the owner of the leases of such processes.

        The owner is empty where no file can be locked: then other processes of this machine may be in the session.
        """
        with contextlib.ExitStack() as held:
            is_locked = False
            with contextlib.suppress(StorageError):
                self.directory.make_dir()
                is_locked = held.enter_context(self.directory.lock(file, wait, ".turn", label))
            yield self._owner() if is_locked else ""

    def _owner(self) -> str:
        """Identifies this directory on this machine, until it is started again. Empty if it is gone."""
        boot = f"{platform.node()} {uuid.getnode()}"
        with contextlib.suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        try:
            found = self.directory.root.stat()
        except OSError:
            return ""
        return hashlib.sha256(f"{boot} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:16]

    def _header(self, file: str) -> Record | None:
        with contextlib.suppress(ChatmemError):
            return read_header(self.path(file))
        return None
