"""Server-sent events, as the standard describes them and as servers send them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatmem.errors import IncompleteReplyError
from chatmem.models.openai.sse import MAX_EVENT_CHARS, Event, parse_events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: one\n\ndata: two\n\n", [("message", "one"), ("message", "two")]),
        (b"data:no space\n\n", [("message", "no space")]),
        (b"data:  two spaces\n\n", [("message", " two spaces")]),
        (b"data: one\ndata: two\n\n", [("message", "one\ntwo")]),
        (b"event: ping\ndata: {}\n\ndata: x\n\n", [("ping", "{}"), ("message", "x")]),
        (b"event: end\n\n", [("end", "")]),
        (b"data\n\n", [("message", "")]),
        (b"id: 7\nretry: 10\n\ndata: x\n\n", [("message", "x")]),
        (b": hello\n\ndata: x\n\n", [("comment", ""), ("message", "x")]),
        (b"error: failed\n\ndata: x\n\n", [("error", "failed"), ("message", "x")]),
        (b"data: one\r\n\r\ndata: two\r\rdata: three\n\n", [("message", t) for t in ("one", "two", "three")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("message", "x")]),
        (b"data: \xef\xbb\xbfx\n\n", [("message", "\ufeffx")]),
        (b"data: without an end", [("message", "without an end")]),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
        ("data: a\u2028b\x0bc\x85d\n\n".encode(), [("message", "a\u2028b\x0bc\x85d")]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_events_are_the_same_wherever_the_body_is_cut(body: bytes, events: list[tuple[str, str]]) -> None:
    expected = [Event(*event) for event in events]
    assert list(parse_events([body])) == expected
    assert list(parse_events([bytes([byte]) for byte in body])) == expected
    for cut in range(len(body)):
        assert list(parse_events([body[:cut], b"", body[cut:]])) == expected


@pytest.mark.parametrize("field", ["data", "error"])
def test_an_event_is_limited_over_all_its_lines(field: str) -> None:
    line = f"{field}: {'x' * 10}\n".encode()
    assert list(parse_events([line * 10, b"\n", line * 10, b"\n"], limit=100)) != []
    with pytest.raises(IncompleteReplyError, match="more than 4 MB"):
        list(parse_events([line * (MAX_EVENT_CHARS // 10 + 1)]))
    with pytest.raises(IncompleteReplyError):
        list(parse_events([line * 11], limit=100))


def test_a_line_without_an_end_is_limited() -> None:
    assert len(list(parse_events([b"data: ", *[b"x" * 10] * 10], limit=100))) == 1
    consumed = 0

    def endless() -> Iterator[bytes]:
        nonlocal consumed
        while True:
            consumed += 1
            yield b"x" * 10

    with pytest.raises(IncompleteReplyError):
        list(parse_events(endless(), limit=100))
    assert consumed == 12
