"""Forgetting on purpose: what neither the summary nor retrieval shows again. The history keeps it.

A passage is forgotten if it contains all words of the text and was said before. A line of a summary is forgotten if it
contains these words, or stems from such a passage.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from chatmem.history.records import Message, Summary
from chatmem.history.session import Session, Turn
from chatmem.memory import passages
from chatmem.memory.summary_lines import Line, read_lines, write_lines
from chatmem.memory.words import STOP_WORDS
from chatmem.text import UNSPACED, normalize, terms_of

_WORD = re.compile(f"[{UNSPACED}]+|(?:(?![{UNSPACED}])[^\\W_])+")
MIN_INFLECTED_CHARS, MAX_EXACT_CHARS = 3, 5
"""Words up to the first length have to be the same, up to the second one they may have an ending."""


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
    contents = [_remembered_content(session, message) for message in turn.messages]
    if all(content == message.content for content, message in zip(contents, turn.messages, strict=True)):
        return turn
    version = zlib.crc32(repr(session.forgotten).encode())  # token counts are cached by id
    return turn.with_messages(
        message._replace(id=f"{message.id} without {version:08x}", content=content)
        for content, message in zip(contents, turn.messages, strict=True)
    )


def remembered_segment(session: Session, segment: Summary) -> Summary:
    """The segment of a summary without the lines that were forgotten."""
    if not session.forgotten:
        return segment
    kept = [
        line
        for line in read_lines(segment.text, segment.sources)
        if not any(is_forgotten(session, line.text, ident) for ident in line.ids or (segment.start,))
        and not _stems_from_forgotten(session, line)
    ]
    text, sources = write_lines(kept)
    return segment._replace(text=text, sources=sources)


def _stems_from_forgotten(session: Session, line: Line, text: str = "") -> bool:
    """Whether the passage that a line of a summary resembles most was forgotten, or would be with `text`."""
    index, words = session.turn_index, set(terms_of(line.text)) - STOP_WORDS
    candidates = [
        (len(words & set(terms_of(part))), message.id, part)
        for ident in line.ids
        if ident in index
        for message in session.turns[index[ident]].messages
        for part in (message.content[start:end] for start, end in passages.split(message.content))
    ]
    common, ident, part = max(candidates, key=lambda entry: entry[0], default=(0, "", ""))
    return common > 0 and (_contains(part, text) if text else is_forgotten(session, part, ident))


def find_matches(session: Session, text: str, segments: Sequence[Summary]) -> Iterator[Match]:
    """The lines of the summary and the passages on the path that contain all words of a text."""
    index = session.turn_index
    for segment in segments:
        for line in read_lines(segment.text, segment.sources):
            if _contains(line.text, text) or _stems_from_forgotten(session, line, text):
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


def _remembered_content(session: Session, message: Message) -> str:
    parts = [message.content[start:end] for start, end in passages.split(message.content)]
    kept = [part for part in parts if not is_forgotten(session, part, message.id)]
    return message.content if len(kept) == len(parts) else "".join(kept).strip()


def _contains(text: str, wanted: str) -> bool:
    normalized = normalize(text)
    words = _words(wanted)
    return bool(words) and all(pattern.search(normalized) for pattern in words)


@lru_cache(maxsize=256)
def _words(text: str) -> tuple[re.Pattern[str], ...]:
    """A pattern for each word: it and its inflected forms, or any part of a text in scripts without spaces."""
    return tuple(map(_pattern, dict.fromkeys(_WORD.findall(normalize(text)))))


def _pattern(word: str) -> re.Pattern[str]:
    if re.match(f"[{UNSPACED}]", word):
        return re.compile(re.escape(word))
    if len(word) > MAX_EXACT_CHARS and word.isalpha():  # pregnant, pregnancy
        body = re.escape(word[: max(MAX_EXACT_CHARS, len(word) - 2)]) + r"[^\W\d_]*"
    else:
        body = re.escape(word) + ("(?:['’]?s|es|n|en)?" if len(word) > MIN_INFLECTED_CHARS else "")
    return re.compile(rf"(?:(?<![^\W_])|(?<=[{UNSPACED}])){body}(?:(?![^\W_])|(?=[{UNSPACED}]))")
