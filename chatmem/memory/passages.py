"""Passages: the parts of a message that are found and quoted, each at most a few sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from chatmem.history.records import Message

MAX_CHARS = 320
"""A message up to this length is one passage. A longer one is split between sentences or lines."""

_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


class Passage(NamedTuple):
    """A part of a message, from one character to another."""

    message: Message
    start: int
    end: int

    @property
    def is_whole(self) -> bool:
        """Whether the passage is the whole message."""
        return self.end - self.start == len(self.message.content)

    @property
    def text(self) -> str:
        """The text on one line, with an ellipsis where the message goes on."""
        content = self.message.content
        before = "… " if content[: self.start].strip() else ""
        after = " …" if content[self.end :].strip() else ""
        return before + " ".join(content[self.start : self.end].split()) + after


def split(text: str) -> Iterator[tuple[int, int]]:
    """Where the passages of a text begin and end."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if end - start <= MAX_CHARS:
        if start < end:
            yield start, end
        return
    last = start  # the end of the sentences that fit so far
    for stop in (*(match.end() for match in _BREAK.finditer(text, start, end)), end):
        if stop - start > MAX_CHARS and last > start:
            yield start, last
            start = last
        while stop - start > MAX_CHARS:  # one long sentence
            space = text.rfind(" ", start, start + MAX_CHARS)
            cut = space + 1 if space > start else start + MAX_CHARS
            yield start, cut
            start = cut
        last = stop
    if start < end:
        yield start, end


def joined(passages: list[Passage]) -> Iterator[Passage]:
    """Passages in their order, those of one message that adjoin as one."""
    previous: Passage | None = None
    for passage in passages:
        if previous and passage.message is previous.message and passage.start <= previous.end:
            previous = previous._replace(end=max(previous.end, passage.end))
            continue
        if previous:
            yield previous
        previous = passage
    if previous:
        yield previous
