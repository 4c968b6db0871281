"""Sessions shared by other users of the file store: `NAME.link` holds the owner, the owner's name for it and its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chatmem.errors import UsageError
from chatmem.history.names import is_valid
from chatmem.history.records import Record
from chatmem.input_files import open_input
from chatmem.stores.base import SessionInfo, SessionLog
from chatmem.stores.codec import decode, encode
from chatmem.stores.file.directory import LINK_SUFFIX

MAX_BYTES = 4096
"""The most bytes of a link file, and of a session's header that is read to check one."""


class ShareLink(NamedTuple):
    """The session that a name leads to: its owner, the owner's name for it, and its id."""

    user: str
    name: str
    id: str

    @classmethod
    def read(cls, path: Path) -> ShareLink | None:
        """The link in a file, or None if the file is missing or malformed."""
        record = None if path.is_symlink() else read_header(path)
        parts = [record.get(field) for field in cls._fields] if record else [None]
        user, *rest = parts
        is_string = all(isinstance(part, str) for part in parts)
        if not is_string or (user and not is_valid(str(user))) or not is_valid(str(rest[0])):
            return None
        return cls(*map(str, parts))

    def encode(self) -> bytes:
        return encode({"type": "link", **self._asdict()})


def read_header(path: Path) -> Record | None:
    """The first record of a session or link file, or None if it has none."""
    try:
        with open_input(path) as file:
            return decode(file.readline(MAX_BYTES))
    except (OSError, UsageError):
        return None


def read_session_id(path: Path) -> str | None:
    """The id in a session file's header, or None if it has none."""
    header = read_header(path)
    return str(header.get("id")) if header else None


def iter_links(directory: Path) -> Iterator[tuple[Path, ShareLink]]:
    """The links of a user."""
    for path in sorted(directory.glob(f"*{LINK_SUFFIX}")):
        if is_valid(path.name.removesuffix(LINK_SUFFIX)) and (link := ShareLink.read(path)):
            yield path, link


class SharedLog(SessionLog):
    """Another user's session under the name it has for this user."""

    def __init__(self, log: SessionLog, name: str) -> None:
        self._log, self.name = log, name

    def read(self) -> tuple[list[Record], bool]:
        return self._log.read()

    def append(self, records: Iterable[Record]) -> None:
        self._log.append(records)

    @contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        with self._log.exclusive(wait):
            yield

    def note(self, info: SessionInfo) -> None:
        self._log.note(info)

    def open_draft(self, skeleton: Record) -> Callable[[str], None]:
        return self._log.open_draft(skeleton)

    def close_draft(self, stored: bool = True) -> None:
        self._log.close_draft(stored)

    def close(self) -> None:
        self._log.close()
