"""Sessions of other users in the file store: a link record each, `NAME.link`, with the owner, the name and the id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chatmem.names import valid
from chatmem.records import Record
from chatmem.stores.base import Log
from chatmem.stores.lines import line_of, record_of

ENDING = ".link"
LARGEST = 4096
"""The most bytes of a link, and of a session's header that is read to check one."""


class Link(NamedTuple):
    """Whose session a name leads to, under which name it is kept there, and its id."""

    user: str
    name: str
    id: str

    @classmethod
    def read(cls, path: Path) -> Link | None:
        """The link in a file, or None if there is none that makes sense."""
        try:
            record = record_of(path.read_bytes()[:LARGEST].strip()) if not path.is_symlink() else None
        except OSError:
            return None
        parts = [record.get(field) for field in cls._fields] if record else [None]
        user, *rest = parts
        good = all(isinstance(part, str) for part in parts) and (not user or valid(str(user))) and valid(str(rest[0]))
        return cls(*map(str, parts)) if good else None

    def bytes(self) -> bytes:
        return line_of({"type": "link", **self._asdict()})


def header_of(path: Path) -> Record | None:
    """The first record of a session file, or None if it has none."""
    try:
        with path.open("rb") as file:
            return record_of(file.readline(LARGEST))
    except OSError:
        return None


def id_of(path: Path) -> str | None:
    """The id in a session file's header, or None if it has none."""
    header = header_of(path)
    return str(header.get("id")) if header else None


def links_in(folder: Path) -> Iterator[tuple[Path, Link]]:
    """The links of a user."""
    for path in sorted(folder.glob(f"*{ENDING}")):
        if valid(path.name.removesuffix(ENDING)) and (link := Link.read(path)):
            yield path, link


class LinkedLog(Log):
    """Another user's session under the name that it has here."""

    def __init__(self, log: Log, name: str) -> None:
        self._log, self.name = log, name

    def read(self) -> tuple[list[Record], bool]:
        return self._log.read()

    def append(self, records: Iterable[Record]) -> None:
        self._log.append(records)

    @contextmanager
    def turn(self, wait: bool = True) -> Iterator[None]:
        with self._log.turn(wait):
            yield

    def partial(self, skeleton: Record) -> Callable[[str], None]:
        return self._log.partial(skeleton)

    def partial_done(self, stored: bool = True) -> None:
        self._log.partial_done(stored)

    def close(self) -> None:
        self._log.close()
