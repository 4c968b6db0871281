"""Records as lines of JSON, and back. Lines that are not records are counted, never dropped.

Bytes are split on `\\n` only: `str.splitlines` would also split inside a record, at U+2028 and others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from chatmem.history.records import Record

MALFORMED: Record = {"type": "malformed"}
"""Stands for a line that is not a record."""

_BATCH = 256
"""How many lines are parsed in one call."""


def encode(record: Record) -> bytes:
    """One record as one line of UTF-8."""
    try:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate can be stored as an escape
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record | None:
    """The record on a line, or None if the line is not a record."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


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
    return parsed if len(parsed) == len(lines) and all(type(p) is dict for p in parsed) else None
