"""What waits on this machine for a database that is away: a file per session, with the manners of the file store.

A session that the database knows has a file by its id there, so that no rename and no second session of its name can
lead it astray; one that was begun, or gone on with, without the database has a file by its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from chatmem.errors import ChatmemError, NotSaved
from chatmem.names import key
from chatmem.records import Record, header
from chatmem.stores.base import Say
from chatmem.stores.disk import read_partial
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.jsonl_log import JsonlLog
from chatmem.stores.links import header_of

ID = "_rid"
"""The field by which a record without an id of its own is known, while it waits."""


class Waiting:
    """The files of one database's sessions on this machine."""

    def __init__(self, folder: Path, say: Say) -> None:
        self.files = JsonlStore(folder, say)
        self.folder, self.system = folder, self.files.system

    def names(self) -> dict[str, str]:
        """The sessions that wait, by their names: the file of each."""
        return {str((self._header(file) or {}).get("name") or file): file for file in self.files.names()}

    def of(self, name: str, ident: str | None) -> list[str]:
        """The files of a session: by its id, and what was begun under its name without knowing it."""
        files = self.files.names()
        known = [ident] if ident and ident in files else []
        return known + [f for f in files if key(f) == key(name) and "of" not in (self._header(f) or {})]

    def place(self, name: str, ident: str | None) -> str:
        """The file in which a session waits, or would."""
        return ident or next(iter(self.of(name, None)), name)

    def records(self, file: str) -> list[Record]:
        """What waits in a file, and what a dead process left of a reply; without the header."""
        if file in self.files.names():
            return [r for r in self.files.records(file) if r.get("type") not in ("session", "broken")]
        left = read_partial(self.system, self.files.path(file, ".partial"))
        return [left] if left else []

    def headers(self, file: str) -> list[Record]:
        """The header of a session that was begun here; none for one that the database has."""
        found = self._header(file)
        return [found] if found and "of" not in found else []

    def open(self, name: str, ident: str | None, first: list[Record]) -> JsonlLog:
        """The file of a session, begun if it is not there. Raises NotSaved."""
        file = self.place(name, ident)
        known = file in self.files.names()
        beginning = first or [header(name) | ({"of": ident} if ident else {})]
        log = self.files.open(file, () if known else beginning)
        assert isinstance(log, JsonlLog)
        return log

    def path(self, file: str, ending: str = ".jsonl") -> Path:
        return self.files.path(file, ending)

    def forget(self, path: Path) -> None:
        self.files.forget(path)

    @contextlib.contextmanager
    def turn(self, file: str, wait: bool, called: str) -> Iterator[None]:
        """Be the only process of this machine in a session; where no file can be written, that is not known."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(NotSaved):
                self.files.make_folder(self.folder)
                held.enter_context(self.files.lock(file, wait, ".turn", called))
            yield

    def _header(self, file: str) -> Record | None:
        with contextlib.suppress(ChatmemError):
            return header_of(self.files.path(file))
        return None
