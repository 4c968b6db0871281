"""Records as rows of a database: each needs an id, by which it is stored only once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable

from chatmem.history.records import Record, new_id
from chatmem.stores.codec import encode
from chatmem.stores.database.base import Line

RECORD_ID = "_rid"
"""The field that identifies a record without an id of its own while it is in the outbox."""


def encode_line(record: Record) -> Line:
    """A record as a line, and the id that it is stored under."""
    ident = _storable_id(record["id"]) if has_id(record) else str(record.get(RECORD_ID) or new_id())
    return ident, encode(without_record_id(record)).decode().removesuffix("\n")


def encode_lines(records: Iterable[Record], known: Container[str] = ()) -> list[Line]:
    """Records as lines. A record whose id is in `known`, or repeated, gets a new one."""
    lines: dict[str, str] = {}
    for record in records:
        ident, line = encode_line(record)
        lines[new_id() if ident in lines or ident in known else ident] = line
    return list(lines.items())


def message_ids(records: Iterable[Record]) -> set[str]:
    """The ids under which the messages among some records are stored."""
    return {_storable_id(str(record["id"])) for record in records if has_id(record)}


def has_id(record: Record) -> bool:
    return record.get("type") == "message" and isinstance(record.get("id"), str)


def with_record_id(record: Record) -> Record:
    """The record with an id, by which it can be moved to the database exactly once."""
    return record if has_id(record) else {**record, RECORD_ID: new_id()}


def without_record_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != RECORD_ID} if RECORD_ID in record else record


def _storable_id(ident: str) -> str:
    """An id in a form that every database can hold."""
    is_plain = re.fullmatch(r"[\w.:-]{1,100}", ident, re.ASCII)
    return ident if is_plain else hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()
