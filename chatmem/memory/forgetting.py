"""Forgetting on purpose: what neither the summary nor retrieval shows again. The history keeps it.

A passage or a line of a summary is forgotten if it contains all words of the text and was said before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from chatmem.history.records import Message, Summary
from chatmem.history.session import Session, Turn
from chatmem.memory import passages
from chatmem.memory.summary_lines import read_lines, write_lines
from chatmem.text import fold


class Match(NamedTuple):
    """Something that would be forgotten: a passage of a turn, or a line of the summary."""

    turn: int
    text: str
    is_summary: bool = False


def has_words(text: str) -> bool:
    """Whether a text has words that can be looked for."""
    return bool(_words(text))


def is_forgotten(session: Session, text: str, ident: str) -> bool:
    """Whether a text that was said in the message with this id was forgotten later."""
    if not session.forgotten:
        return False
    position = session.position(ident)
    return any(position < entry.before and _contains(text, entry.text) for entry in session.forgotten)


def remembered_turn(session: Session, turn: Turn) -> Turn:
    """The turn without the passages that were forgotten."""
    if not session.forgotten:
        return turn
    return turn.with_messages([_remembered_message(session, message) for message in turn.messages])


def remembered_segment(session: Session, segment: Summary) -> Summary:
    """The segment of a summary without the lines that were forgotten."""
    if not session.forgotten:
        return segment
    kept = [
        line
        for line in read_lines(segment.text, segment.sources)
        if not any(is_forgotten(session, line.text, ident) for ident in line.ids or (segment.start,))
    ]
    text, sources = write_lines(kept)
    return segment._replace(text=text, sources=sources)


def find_matches(session: Session, text: str, segments: Sequence[Summary]) -> Iterator[Match]:
    """The lines of the summary and the passages on the path that contain all words of a text."""
    index = session.turn_index
    for segment in segments:
        for line in read_lines(segment.text, segment.sources):
            if _contains(line.text, text):
                numbers = [index[ident] + 1 for ident in (*line.ids, segment.start) if ident in index]
                yield Match(numbers[0], line.text, is_summary=True)
    for turn in session.turns:
        for message in turn.messages:
            for start, end in passages.split(message.content):
                passage = message.content[start:end]
                if _contains(passage, text) and not is_forgotten(session, passage, message.id):
                    yield Match(turn.number, " ".join(passage.split()))


def turns_with(turns: Iterable[Turn], text: str) -> list[int]:
    """The numbers of the turns that have a passage with all words of a text."""
    return sorted({turn.number for turn in turns if any(_has_passage(m, text) for m in turn.messages)})


def _has_passage(message: Message, text: str) -> bool:
    return any(_contains(message.content[start:end], text) for start, end in passages.split(message.content))


def _remembered_message(session: Session, message: Message) -> Message:
    parts = [message.content[start:end] for start, end in passages.split(message.content)]
    kept = [part for part in parts if not is_forgotten(session, part, message.id)]
    if len(kept) == len(parts):
        return message
    ident = f"{message.id} without {len(session.forgotten)}"  # token counts are cached by id
    return message._replace(id=ident, content="".join(kept).strip())


def _contains(text: str, wanted: str) -> bool:
    folded = fold(text)
    words = _words(wanted)
    return bool(words) and all(pattern.search(folded) for pattern in words)


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[re.Pattern[str], ...]:
    """A pattern for each word: whole words, or any part of a text in scripts without spaces."""
    words = dict.fromkeys(re.findall(r"[^\W_]+", fold(text)))
    return tuple(re.compile(rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word)) for word in words)
