"""Importing files of unknown origin: detecting the format, and reading within limits.

Archives are read member by member with a limit, nothing is unpacked to disk. JSON that is nested too deeply, contains
NaN or is truncated leads to a one-line error.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from chatmem.errors import UsageError
from chatmem.formats import FORMATS, READABLE
from chatmem.formats.base import MAX_BYTES, Format, ImportedConversation, import_error
from chatmem.history.session import Session
from chatmem.input_files import open_input
from chatmem.text import fix_surrogates, truncate

CHUNK_BYTES = 1 << 20
"""Bytes that are read at a time."""
MAX_TOKEN_CHARS = 16
"""Characters at the end of the buffer that may be part of an incomplete literal or number."""
MAX_COMPRESSION_RATIO = 100
"""The largest compression ratio of a large member. Text reaches about 10, zip bombs 1000."""


def read_conversations(
    path: Path, form: str | None = None, piped: bytes | None = None
) -> tuple[Format, list[ImportedConversation]]:
    """The format of a file, or of piped input, and the conversations in it that have messages."""
    if form is not None and form not in READABLE:
        raise UsageError(f"Unknown import format {truncate(form)!r}.", f"Formats: {', '.join(READABLE)}")
    chosen: Format | None = None
    found: list[ImportedConversation] = []
    for data in _contents(path, piped):
        if data != []:  # exports may have empty parts
            chosen = FORMATS[form] if form else _detect(data, path)
            found += (one for one in _read(chosen, data, path) if one.message_count)
    if chosen is None or not found:
        raise import_error(f"{path.name} contains no conversation.")
    return chosen, found


def _read(form: Format, data: Any, path: Path) -> list[ImportedConversation]:
    assert form.read is not None
    try:
        found = [ImportedConversation(**_storable(vars(one))) for one in form.read(data, path)]
        if any(Session.replay("", one.records).malformed_count for one in found):
            raise ValueError("malformed records")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, AssertionError, RecursionError) as error:
        raise import_error(f"{path.name} is not in the {form.name} format.") from error
    return found


def _storable(value: Any) -> Any:
    """The same value with surrogates fixed in every string."""
    match value:
        case str():
            return fix_surrogates(value)
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _detect(data: Any, path: Path) -> Format:
    for form in FORMATS.values():
        with contextlib.suppress(TypeError, AttributeError, KeyError):  # not this format
            if form.read and form.detect(data, path):
                return form
    raise import_error(f"The format of {path.name} was not recognised. Formats: {', '.join(READABLE)}.")


def _contents(path: Path, piped: bytes | None) -> Iterator[Any]:
    """The content of a file: parsed JSON, the lines of JSON Lines, text, or the first bytes of a database."""
    if piped is not None:
        yield from _read_json(io.BytesIO(piped), path.name)
        return
    try:
        with open_input(path) as file:
            start, size = file.read(16), os.fstat(file.fileno()).st_size
            file.seek(0)
            if start[:4] == b"PK\x03\x04":
                yield from _members(file, path)
            elif start == b"SQLite format 3\0":
                yield start
            elif size > MAX_BYTES:
                raise import_error(f"{path.name} is larger than {MAX_BYTES >> 30} GB.")
            elif start and not size:
                raise import_error(f"{path.name} is not a regular file.")  # of /proc, perhaps endless
            else:
                yield from _read_json(file, path.name)
    except OSError as error:
        raise UsageError(f"Cannot read {path.name!r}: {error.strerror}.") from error


def _members(file: IO[bytes], path: Path) -> Iterator[Any]:
    """The conversations in the archive of an export: `conversations.json`, or its parts."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if _is_conversations(m.filename)]
            if not members:  # not an export of ChatGPT or Claude: perhaps one of chatmem
                members = [m for m in archive.infolist() if Path(m.filename).suffix in (".json", ".jsonl", ".md")]
            if not members:
                raise import_error(f"{path.name} contains no conversations*.json.")
            for member in sorted(members, key=lambda m: m.filename):
                if member.file_size > 10 << 20 and member.file_size > MAX_COMPRESSION_RATIO * max(
                    1, member.compress_size
                ):
                    raise import_error(
                        f"{member.filename} in {path.name} unpacks to an implausible {member.file_size >> 20} MB."
                    )
                if member.file_size > MAX_BYTES:  # never unpack more than this
                    raise import_error(f"{member.filename} in {path.name} is larger than {MAX_BYTES >> 30} GB.")
                with archive.open(member) as content:
                    yield from _read_json(content, member.filename)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise import_error(f"{path.name} is a damaged archive: {error}.") from error


def _is_conversations(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    return last.startswith("conversations") and last.endswith(".json")


def _read_json(file: IO[bytes], name: str) -> Iterator[Any]:
    """The content of a file in parts that can be read alone, so that a long export is never in memory as a whole."""
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
        raise import_error(f"{name} is not UTF-8 text.") from error
    except RecursionError as error:
        raise import_error(f"{name} is nested too deeply.") from error
    except ValueError as error:
        raise import_error(f"{name} is not valid JSON: {error}.") from error


def _array(file: IO[bytes]) -> Iterator[list[Any]]:
    """A JSON array: in lists of one item if a format can read these alone, else as a whole."""
    items = _items(file)
    first = list(itertools.islice(items, 1))
    if any(form.splittable and form.detect(first, None) for form in FORMATS.values()):
        yield first
        for item in items:
            yield [item]
    else:
        yield [*first, *items]


def _items(file: IO[bytes]) -> Iterator[Any]:
    """The items of a JSON array, read one at a time. Raises ValueError and RecursionError."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    text, at, consumed, ended, before = "", 0, 0, False, ""
    while True:
        at = _blank(text, at).end()  # type: ignore[union-attr]  # it always matches
        token, end, item = text[at : at + 1], at + 1, None
        if before == "]" and token:
            raise ValueError(f"Extra data at character {consumed + at}")
        if before in ("[", ",") and token and not (before == "[" and token == "]"):
            try:
                item, end = _decoder.raw_decode(text, at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(text) - MAX_TOKEN_CHARS
                if ended or not cut:
                    raise ValueError(f"{error.msg} at character {consumed + error.pos}") from error
                end = len(text)
            token = "item"
        if token and (ended or token != "item" or end < len(text) - MAX_TOKEN_CHARS):  # a number may continue
            if token == "item":
                yield item
            elif token not in {"": ("[",), "[": ("]",), "item": (",", "]")}.get(before, ()):
                raise ValueError(f"Expecting ',' at character {consumed + at}")
            at, before = end, token
        elif not ended:
            chunk = file.read(max(CHUNK_BYTES, 2 * (len(text) - at)))
            ended, consumed = not chunk, consumed + at
            text, at = text[at:] + decode(chunk, not chunk), 0
        elif before == "]":
            return
        else:
            raise ValueError("Unexpected end")


def _object(file: IO[bytes]) -> Any:
    """A JSON object, or the list of objects of JSON Lines. Raises ValueError and RecursionError."""
    try:
        first = _loads(file.readline().decode("utf-8-sig"))
    except ValueError:
        file.seek(0)
        return _loads(file.read().decode("utf-8-sig"))
    found = [first]
    found += [_loads(line.decode()) for line in file if line.strip()]
    return first if len(found) == 1 else found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("Duplicate key in an object")
    return found


_decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
_loads = _decoder.decode
_blank = re.compile(r"[ \t\r\n]*").match
