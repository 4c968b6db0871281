"""Search in messages: all words in one message, quotes for a phrase, ignoring case. A word may be a beginning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from chatmem.errors import UsageError
from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.text import UNSPACED, fix_surrogates

CONTEXT_CHARS = 60
"""Characters shown on each side of a hit."""


class Query(NamedTuple):
    """Words and phrases to search for, in lower case."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Query:
        """`red "sea horse"` is the word red and the phrase sea horse. Raises UsageError for an empty query."""
        words = tuple(
            (phrase or word).lower()
            for phrase, word in re.findall(r'"([^"]+)"|(\S+)', text)
            if (phrase or word).strip('"')
        )
        if not words:
            raise UsageError("The query is empty.", 'Give one or more words, or a "whole phrase".')
        return cls(words)

    def terms(self) -> list[str]:
        """The words of the query as `index_terms` returns those of messages, of which the last may be a beginning."""
        return [term for word in self.words for term in query_terms(word)]

    def matches(self, text: str) -> bool:
        """Whether a text has all words and phrases, each at the beginning of a word."""
        lower = text.lower()
        return all(word in lower and _at_word(word).search(lower) for word in self.words)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the words and phrases stand in a text, for highlighting."""
        return sorted({match.span() for word in self.words for match in _at_word(word).finditer(text)})

    def may_match(self, data: bytes) -> bool:
        """Whether the raw bytes of a session can contain a hit: they must hold each word's longest run of ASCII."""
        lower = data.lower()
        runs = (
            max(re.findall(r"[ -~]+", json.dumps(word, ensure_ascii=False)[1:-1]) or [""], key=len)
            for word in self.words
        )
        return all(run.encode() in lower for run in sorted(runs, key=len, reverse=True))

    def excerpt(self, text: str) -> str:
        """The first hit with the text around it, on one line."""
        found = _at_word(self.words[0]).search(text)
        middle = found.start() if found else max(0, text.lower().find(self.words[0]))
        start, end = max(0, middle - CONTEXT_CHARS), middle + len(self.words[0]) + CONTEXT_CHARS
        return ("…" if start else "") + " ".join(text[start:end].split()) + ("…" if end < len(text) else "")


@lru_cache(maxsize=64)
def _at_word(word: str) -> re.Pattern[str]:
    """What finds a word or phrase at the beginning of a word, or anywhere in scripts without spaces."""
    boundary = r"(?<![^\W_])" if re.match(r"[^\W_]", word) and not re.match(f"[{UNSPACED}]", word) else ""
    return re.compile(boundary + re.escape(word), re.IGNORECASE)


_TERM = re.compile(f"[{UNSPACED}]+|[^\\W_{UNSPACED}]+")


def query_terms(text: str) -> Iterator[str]:
    """The words of a text in lower case; of scripts without spaces pairs of characters."""
    for word in _TERM.findall(fix_surrogates(text).lower()):
        if re.match(f"[{UNSPACED}]", word):
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            yield word


def index_terms(text: str) -> Iterator[str]:
    """The words of a text as they are indexed: as in a query, and single characters of scripts without spaces."""
    for term in query_terms(text):
        yield term
        if len(term) == 2 and re.match(f"[{UNSPACED}]", term):
            yield from term


class Hit(NamedTuple):
    """A message that contains all words of a query."""

    session: str
    message: str
    role: str
    time: str
    excerpt: str
    turn: int | None = None
    """The number of its turn. None on another branch."""

    def record(self) -> Record:
        return self._asdict()


def find_hits(session: Session, query: Query) -> Iterator[Hit]:
    """The hits in one session's messages, of every branch."""
    for message in session.messages.values():
        if query.matches(message.content):
            index = session.turn_index.get(message.id)
            turn = None if index is None else index + 1
            yield Hit(session.name, message.id, message.role, message.time, query.excerpt(message.content), turn)
