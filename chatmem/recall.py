"""Recall: where something was said, in all sessions of a store, ranked as retrieval ranks it in one session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from chatmem.errors import ChatmemError, UsageError
from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory.retrieval import PassageIndex
from chatmem.memory.words import IRREGULAR, STOP_WORDS
from chatmem.stores.base import SessionStore
from chatmem.text import terms_of

MAX_SESSIONS = 20
"""How many sessions are read: those that the words of the question are most typical of."""
MIN_PREFIX = 4
"""Longer words also stand for words that differ in their last letter: plan, plans, planned."""


class Recalled(NamedTuple):
    """A passage that answers a question, and where it stands."""

    session: str
    turn: int | None
    """The number of its turn. None on another branch."""
    message: str
    role: str
    time: str
    text: str

    def record(self) -> dict[str, Any]:
        """The fields of `recall --json`."""
        return self._asdict()

    @property
    def source(self) -> str:
        """Where it stands, such as `trip, turn 3, 2026-05-02`."""
        turn = f"turn {self.turn}" if self.turn else "another branch"
        return ", ".join(filter(None, (self.session, turn, self.time[:10])))


def recall(store: SessionStore, question: str, limit: int, today: date | None = None) -> list[Recalled]:
    """The passages of all sessions that are relevant for a question, best first.

    The store names the sessions that its words are typical of. Their messages with these words, and those beside them,
    are ranked together. Raises UsageError for a question without words that mean something.
    """
    words = search_words(question)
    if not words:
        raise UsageError("The question has no words to look for.", "Name what it is about.")
    index, everything = PassageIndex(), Session("recall")
    places: dict[str, Recalled] = {}
    for number, name in enumerate(store.likely_sessions(words, MAX_SESSIONS)):
        with contextlib.suppress(ChatmemError):  # deleted in the meantime
            session = store.session(name)
            for message in _messages_with(session, words):
                key = f"{number} {message.id}"
                turn = session.turn_index.get(message.id)
                found = Recalled(
                    session.name, None if turn is None else turn + 1, message.id, message.role, message.time, ""
                )
                places[key] = found
                everything.messages[key] = message._replace(id=key)
    index.update(everything)
    passages = index.retrieve(question, lambda key: True, today)
    recalled = (
        places[passage.message.id]._replace(text=passage.message.content[passage.start : passage.end].strip())
        for passage in passages
    )
    return [one for one, _ in zip(recalled, range(limit), strict=False)]


def search_words(question: str) -> list[str]:
    """The beginnings of words that a question looks for, irregular forms included."""
    words: dict[str, None] = {}
    for word in (word for word in terms_of(question) if word not in STOP_WORDS):
        base = IRREGULAR.get(word, word)
        forms = [word, base, *(form for form, known in IRREGULAR.items() if known == base)]
        words |= dict.fromkeys(form[:-1] if len(form) > MIN_PREFIX else form for form in forms)
    return list(words)


def _messages_with(session: Session, words: Sequence[str]) -> Iterator[Message]:
    """The messages with one of the words, and those right before and after them."""
    messages = list(session.messages.values())
    has_word = [any(word in message.content.lower() for word in words) for message in messages]
    for position, message in enumerate(messages):
        if any(has_word[max(0, position - 1) : position + 2]):
            yield message
