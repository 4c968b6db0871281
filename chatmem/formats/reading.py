"""A file of unknown origin, opened with care: what it holds, and which format that is.

Archives are read member by member with a byte counter, nothing is unpacked to disk. JSON that is too deep, holds NaN,
or was cut is one line of an error, never more.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from chatmem.errors import WrongUse
from chatmem.formats import FORMATS, READ
from chatmem.formats.base import LARGEST, LARGEST_MEMBER, Format, Imported, wrong
from chatmem.names import shortened

RATIO = 100
"""How many times its packed size a large member may have: text packs to a tenth, a bomb to a thousandth."""


def conversations(path: Path, form: str | None = None, piped: bytes | None = None) -> tuple[Format, list[Imported]]:
    """The format of a file (or of what was piped in), and the conversations in it that hold a message."""
    if form is not None and form not in READ:
        raise WrongUse(f"There is no format {shortened(form)!r} to read.", f"There are: {', '.join(READ)}")
    chosen: Format | None = None
    found: list[Imported] = []
    for data in _contents(path, piped):
        chosen = FORMATS[form] if form else _recognised(data, path)
        found += _read(chosen, data, path)
    assert chosen is not None
    found = [one for one in found if one.messages]
    if not found:
        raise wrong(f"{path.name} holds no conversation.")
    return chosen, found


def _read(form: Format, data: Any, path: Path) -> list[Imported]:
    assert form.read is not None
    try:
        return list(form.read(data, path))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, AssertionError, RecursionError) as error:
        raise wrong(f"{path.name} is not what the {form.name} format looks like.") from error


def _recognised(data: Any, path: Path) -> Format:
    for form in FORMATS.values():
        with contextlib.suppress(TypeError, AttributeError, KeyError):  # so strange that it is not this format
            if form.read and form.recognises(data, path):
                return form
    raise wrong(f"{path.name} is in no format that is known here ({', '.join(READ)}).")


def _contents(path: Path, piped: bytes | None) -> Iterator[Any]:
    """What is in a file: parsed JSON, the lines of JSON Lines, text, or the first bytes of a database."""
    if piped is not None:
        yield parsed(piped, path.name)
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
            if start[:4] == b"PK\x03\x04":
                yield from _members(path)
                return
            if start == b"SQLite format 3\0":
                yield start
                return
            if size > LARGEST:
                raise wrong(f"{path.name} is over {LARGEST >> 30} GB long.")
            yield parsed(start + file.read(), path.name)
    except OSError as error:
        raise WrongUse(f"{path.name!r} cannot be read: {error.strerror}.") from error


def _members(path: Path) -> Iterator[Any]:
    """The conversations in an export's archive: `conversations.json`, or the parts of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if _is_conversations(m.filename)]
            if not members:
                raise wrong(f"{path.name} holds no conversations*.json.")
            for member in sorted(members, key=lambda m: m.filename):
                if member.file_size > 10 << 20 and member.file_size > RATIO * max(1, member.compress_size):
                    raise wrong(
                        f"{member.filename} in {path.name} unpacks to {member.file_size >> 20} MB: that is no export."
                    )
                with archive.open(member) as file:
                    data = file.read(LARGEST_MEMBER + 1)
                if len(data) > LARGEST_MEMBER:
                    raise wrong(f"{member.filename} in {path.name} is over {LARGEST_MEMBER >> 20} MB long.")
                yield parsed(data, member.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise wrong(f"{path.name} is a damaged archive: {error}.") from error


def _is_conversations(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return last.startswith("conversations") and last.endswith(".json")


def parsed(data: bytes, name: str) -> Any:
    """JSON, a list of the lines of JSON Lines, or the text itself. Raises WrongUse for broken JSON."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(f"{name} is no UTF-8 text.") from error
    del data
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise wrong(f"{name} is nested too deep.") from error
    except ValueError as error:
        if "\n" in text.strip() and (lines := _lines(text)) is not None:
            return lines
        raise wrong(f"{name} is no JSON: {error}.") from error


def _lines(text: str) -> list[Any] | None:
    """The objects of JSON Lines; None if not even the first line is one. Broken lines further on are left out."""
    found = []
    for line in text.split("\n"):
        try:
            if line.strip():
                found.append(json.loads(line, parse_constant=_no_constant))
        except (ValueError, RecursionError):
            if not found:
                return None
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
