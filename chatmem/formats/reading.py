"""A file of unknown origin, opened with care: what it holds, and which format that is.

Archives are read member by member with a byte counter, nothing is unpacked to disk. JSON that is too deep, holds NaN,
or was cut is one line of an error, never more.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from chatmem.errors import WrongUse
from chatmem.formats import FORMATS, READ
from chatmem.formats.base import LARGEST, Format, Imported, wrong
from chatmem.names import shortened
from chatmem.records import repaired
from chatmem.session import Session

CHUNK = 1 << 20
"""Bytes that are read at a time."""
TOKEN = 16
"""Characters at the end of what was read so far that may be the half of a word or of an exponent."""
RATIO = 100
"""How many times its packed size a large member may have: text packs to a tenth, a bomb to a thousandth."""


def conversations(path: Path, form: str | None = None, piped: bytes | None = None) -> tuple[Format, list[Imported]]:
    """The format of a file (or of what was piped in), and the conversations in it that hold a message."""
    if form is not None and form not in READ:
        raise WrongUse(f"There is no format {shortened(form)!r} to read.", f"There are: {', '.join(READ)}")
    chosen: Format | None = None
    found: list[Imported] = []
    for data in _contents(path, piped):
        if data != []:  # an export may have an empty part
            chosen = FORMATS[form] if form else _recognised(data, path)
            found += (one for one in _read(chosen, data, path) if one.messages)
    if chosen is None or not found:
        raise wrong(f"{path.name} holds no conversation.")
    return chosen, found


def _read(form: Format, data: Any, path: Path) -> list[Imported]:
    assert form.read is not None
    try:
        found = [Imported(**_storable(vars(one))) for one in form.read(data, path)]
        if any(Session.replay("", one.records).damaged for one in found):
            raise ValueError("records that make no sense")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, AssertionError, RecursionError) as error:
        raise wrong(f"{path.name} is not what the {form.name} format looks like.") from error
    return found


def _storable(value: Any) -> Any:
    """The same value with every string in it repaired."""
    match value:
        case str():
            return repaired(value)
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _recognised(data: Any, path: Path) -> Format:
    for form in FORMATS.values():
        with contextlib.suppress(TypeError, AttributeError, KeyError):  # so strange that it is not this format
            if form.read and form.recognises(data, path):
                return form
    raise wrong(f"{path.name} is in no format that is known here ({', '.join(READ)}).")


def _contents(path: Path, piped: bytes | None) -> Iterator[Any]:
    """What is in a file: parsed JSON, the lines of JSON Lines, text, or the first bytes of a database."""
    if piped is not None:
        yield from _read_json(io.BytesIO(piped), path.name)
        return
    try:
        with path.open("rb") as file:
            start = file.read(16)
            file.seek(0)
            if start[:4] == b"PK\x03\x04":
                yield from _members(path)
            elif start == b"SQLite format 3\0":
                yield start
            elif path.stat().st_size > LARGEST:
                raise wrong(f"{path.name} is over {LARGEST >> 30} GB long.")
            else:
                yield from _read_json(file, path.name)
    except OSError as error:
        raise WrongUse(f"{path.name!r} cannot be read: {error.strerror}.") from error


def _members(path: Path) -> Iterator[Any]:
    """The conversations in an export's archive: `conversations.json`, or the parts of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if _is_conversations(m.filename)]
            if not members:  # no export of ChatGPT's or Claude's: one of ours?
                members = [m for m in archive.infolist() if Path(m.filename).suffix in (".json", ".jsonl", ".md")]
            if not members:
                raise wrong(f"{path.name} holds no conversations*.json.")
            for member in sorted(members, key=lambda m: m.filename):
                if member.file_size > 10 << 20 and member.file_size > RATIO * max(1, member.compress_size):
                    raise wrong(
                        f"{member.filename} in {path.name} unpacks to {member.file_size >> 20} MB: that is no export."
                    )
                if member.file_size > LARGEST:  # no more than this is ever unpacked
                    raise wrong(f"{member.filename} in {path.name} is over {LARGEST >> 30} GB long.")
                with archive.open(member) as file:
                    yield from _read_json(file, member.filename)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise wrong(f"{path.name} is a damaged archive: {error}.") from error


def _is_conversations(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return last.startswith("conversations") and last.endswith(".json")


def _read_json(file: IO[bytes], name: str) -> Iterator[Any]:
    """What a file says, in parts that can be read alone: a long export is never held as a whole."""
    start = file.read(4096).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    file.seek(0)
    try:
        if start == b"[":
            yield from _array(file)
        elif start == b"{":
            yield _object(file)
        else:
            yield file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(f"{name} is no UTF-8 text.") from error
    except RecursionError as error:
        raise wrong(f"{name} is nested too deep.") from error
    except ValueError as error:
        raise wrong(f"{name} is no JSON: {error}.") from error


def _array(file: IO[bytes]) -> Iterator[list[Any]]:
    """A JSON array: in lists of one item where a format can read these alone, else all of it."""
    items = _items(file)
    first = list(itertools.islice(items, 1))
    if any(form.many and form.recognises(first, None) for form in FORMATS.values()):
        yield first
        for item in items:
            yield [item]
    else:
        yield [*first, *items]


def _items(file: IO[bytes]) -> Iterator[Any]:
    """The items of a JSON array, each read no further than it takes. Raises ValueError and RecursionError."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, at, passed, ended, before = "", 0, 0, False, ""
    while True:
        at = _blank(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        sign, end, item = text[at : at + 1], at + 1, None
        if before == "]" and sign:
            raise ValueError(f"there is more after its end, at character {passed + at}")
        if before in ("[", ",") and sign and not (before == "[" and sign == "]"):
            try:
                item, end = _decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(text) - TOKEN
                if ended or not cut:
                    raise ValueError(f"{error.msg} at character {passed + error.pos}") from error
                end = len(text)
            sign = "item"
        if sign and (ended or sign != "item" or end < len(text) - TOKEN):  # a number may go on
            if sign == "item":
                yield item
            elif sign not in {"": ("[",), "[": ("]",), "item": (",", "]")}.get(before, ()):
                raise ValueError(f"Expecting ',' at character {passed + at}")
            at, before = end, sign
        elif not ended:
            chunk = file.read(max(CHUNK, 2 * (len(text) - at)))
            ended, passed = not chunk, passed + at
            text, at = text[at:] + decode(chunk, not chunk), 0
        elif before == "]":
            return
        else:
            raise ValueError("it ends too early")


def _object(file: IO[bytes]) -> Any:
    """A JSON object, or a list of those of JSON Lines. Raises ValueError and RecursionError."""
    try:
        first = _loads(file.readline().decode("utf-8-sig"))
    except ValueError:
        file.seek(0)
        return _loads(file.read().decode("utf-8-sig"))
    found = [first]
    found += [_loads(line.decode()) for line in file if line.strip()]
    return first if len(found) == 1 else found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


_decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
_loads = _decoder.decode
_blank = re.compile(r"[ \t\r\n]*").match
