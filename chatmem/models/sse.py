"""A tolerant reader of event streams: whatever a server makes of the format, its events come out whole.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines
may end in CRLF, LF or CR, wherever the network cuts them. On top of it, as servers do and the format does not
foresee: an `error:` field counts as data of an event named error, and a last event without a blank line counts.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chatmem.errors import ReplyIncomplete

LONGEST_EVENT = 4 << 20
"""The most characters of one event; more is no reply but an attack, or a fault."""


class Event(NamedTuple):
    """One event: its name (`message` if it has none) and its data. An empty `data` is a sign of life."""

    name: str
    data: str


def events(chunks: Iterable[bytes], longest: int = LONGEST_EVENT) -> Iterator[Event]:
    """The events in a body that arrives in chunks. Bad UTF-8 becomes U+FFFD. Raises ReplyIncomplete if one is too long.

    Comments yield an empty event named `comment`, so that a reader can tell a server that lives from one that talks.
    """
    name, size, named = "", 0, False
    data: list[str] = []
    for line in _lines(chunks, longest):
        if not line:
            if data or named:
                yield Event(name or "message", "\n".join(data))
            name, data, size, named = "", [], 0, False
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            size += len(value)
            if size > longest:
                raise too_long(longest)
            data.append(value)
            named = True
        elif field == "event":
            name, named = value, True
        elif field == "error":
            name, named = "error", True
            data.append(value)
        elif not field:
            yield Event("comment", "")
    if data:
        yield Event(name or "message", "\n".join(data))


def too_long(longest: int) -> ReplyIncomplete:
    return ReplyIncomplete(
        f"The server sent one event of over {longest >> 20} MB.", "That is no reply: try another server."
    )


def _lines(chunks: Iterable[bytes], longest: int) -> Iterator[str]:
    """The lines of a body without their ends, and what stands after the last end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest: list[str] = []
    held, first, skip_newline = 0, True, False
    for chunk in chunks:
        text = decoder.decode(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        if skip_newline and text:
            text, skip_newline = text.removeprefix("\n"), False
        if not text:
            continue
        if "\r" in text:
            skip_newline = text.endswith("\r")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *whole, last = text.split("\n")
        if whole:
            yield "".join(rest) + whole[0]
            yield from whole[1:]
            rest, held = [], 0
        if last:
            rest.append(last)
            held += len(last)
            if held > longest + 16:
                raise too_long(longest)
    rest.append(decoder.decode(b"", final=True))
    if line := "".join(rest):
        yield line
        yield ""
