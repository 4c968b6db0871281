"""A tolerant parser of server-sent events.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines may end in
CRLF, LF or CR, wherever the network splits them. Two extensions, because servers use them: an `error:` field counts as
data of an event named error, and a last event without a blank line counts.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chatmem.errors import IncompleteReplyError

MAX_EVENT_CHARS = 4 << 20
"""The most characters of one event. A larger one is an attack or a fault."""


class Event(NamedTuple):
    """One event: its name, `message` by default, and its data."""

    name: str
    data: str


def parse_events(chunks: Iterable[bytes], limit: int = MAX_EVENT_CHARS) -> Iterator[Event]:
    """The events in a body that arrives in chunks. Invalid UTF-8 becomes U+FFFD.

    A comment yields an empty event named `comment`, which shows that the server is alive. Raises IncompleteReplyError
    for an event of more than `limit` characters.
    """
    name, size, has_fields = "", 0, False
    data: list[str] = []
    for line in _lines(chunks, limit):
        if not line:
            if data or has_fields:
                yield Event(name or "message", "\n".join(data))
            name, data, size, has_fields = "", [], 0, False
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field in ("data", "error"):
            size += len(value)
            if size > limit:
                raise event_too_long(limit)
            data.append(value)
            name, has_fields = "error" if field == "error" else name, True
        elif field == "event":
            name, has_fields = value, True
        elif not field:
            yield Event("comment", "")
    if data:
        yield Event(name or "message", "\n".join(data))


def event_too_long(limit: int) -> IncompleteReplyError:
    return IncompleteReplyError(
        f"The server sent an event of more than {limit >> 20} MB.", "Use another server or model."
    )


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[str]:
    """The lines of a body without their line ends, the last one even if it is incomplete."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    pending: list[str] = []
    pending_chars, is_first, skip_newline = 0, True, False
    for chunk in chunks:
        text = decoder.decode(chunk)
        if is_first and text:
            text, is_first = text.removeprefix("\ufeff"), False
        if skip_newline and text:
            text, skip_newline = text.removeprefix("\n"), False
        if not text:
            continue
        if "\r" in text:
            skip_newline = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *complete, last = text.split("\n")
        if complete:
            yield "".join(pending) + complete[0]
            yield from complete[1:]
            pending, pending_chars = [], 0
        if last:
            pending.append(last)
            pending_chars += len(last)
            if pending_chars > limit + 16:
                raise event_too_long(limit)
    pending.append(decoder.decode(b"", final=True))
    if line := "".join(pending):
        yield line
        yield ""
