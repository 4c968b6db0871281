"""Records as lines of JSON, and back. Lines that are not records are counted, never dropped.

Bytes are split on `\\n` only: `str.splitlines` would also split inside a record, at U+2028 and others.

The last field of a line is `sum`, a checksum of the rest of the line. Records in memory do not have it.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from chatmem.history.records import Record

MALFORMED: Record = {"type": "malformed"}
"""Stands for a line that is not a record."""

_SUM = re.compile(rb',?"sum":"([0-9a-f]{8})"\}$')

_BATCH = 256
"""How many lines are parsed in one call."""


def encode(record: Record) -> bytes:
    """One record as one line of UTF-8, with its checksum."""
    try:
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate can be stored as an escape
        line = json.dumps(record, separators=(",", ":")).encode()
    return b'%b%b"sum":"%08x"}\n' % (line[:-1], b"," if record else b"", zlib.crc32(line))


def decode(line: bytes) -> Record | None:
    """The record on a line, without its checksum, or None if the line is not a record."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record.pop("sum", None)
    return record


def is_changed(line: bytes) -> bool:
    """Whether a record has a checksum that does not match it: then another program changed the line.

    The checksum is the CRC-32 of the line's UTF-8 bytes without the field `sum` and without the newline.
    """
    if found := _SUM.search(line):
        return int(found[1], 16) != zlib.crc32(line[: found.start()] + b"}")
    with contextlib.suppress(ValueError, RecursionError):
        return "sum" in json.loads(line)
    return False


def decode_all(lines: Sequence[bytes]) -> Iterator[Record]:
    """The record on each line: `MALFORMED` for a malformed line, nothing for a blank one."""
    lines = [line for line in lines if line and not line.isspace()]
    for start in range(0, len(lines), _BATCH):
        batch = lines[start : start + _BATCH]
        records = _decode_batch(batch)
        if records is None:
            records = [decode(line) or MALFORMED for line in batch]
        yield from records


def _decode_batch(lines: Sequence[bytes]) -> list[Record] | None:
    """All lines in one call, twice as fast as one by one. None if any of them may be malformed."""
    if not all(line.lstrip()[:1] == b"{" and line.rstrip()[-1:] == b"}" for line in lines):
        return None
    try:
        parsed: list[Any] = json.loads((b"[" + b",".join(lines) + b"]").decode())
    except (ValueError, RecursionError):
        return None
    if len(parsed) != len(lines) or not all(type(p) is dict for p in parsed):
        return None
    for record in parsed:
        record.pop("sum", None)
    return parsed
