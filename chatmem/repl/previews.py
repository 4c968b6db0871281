"""What the session picker shows of sessions: the last turn, where a text was found, and the branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.stores.search import CONTEXT_CHARS, Hit, Query
from chatmem.terminal.tables import relative_time

MAX_PREVIEW_LINES = 30
"""Lines of a message that are shown in a preview."""

Lines = list[tuple[str, str]]
"""Lines of a preview with their styles."""


class Branch(NamedTuple):
    """The end of a branch: a question, and its reply if there is one."""

    messages: Sequence[Message]
    is_current: bool


def message_lines(messages: Sequence[Message]) -> Lines:
    """The first lines of messages with their styles."""
    lines: Lines = []
    for message in messages:
        is_question = message.role == "user"
        lines.append(("", ""))
        for number, line in enumerate(message.content.strip().split("\n")[:MAX_PREVIEW_LINES]):
            mark = "> " if is_question and number == 0 else ""
            lines.append(("class:question" if is_question else "", mark + line))
    return lines


def found_lines(message: Message, hit: Hit, query: Query) -> Lines:
    """The lines of a message from the one with the text that was found on, which begins near that text."""
    where = f"turn {hit.turn}" if hit.turn else "another branch"
    lines = message.content.split("\n")
    found = next((number for number, line in enumerate(lines) if query.spans(line)), 0)
    first = next(iter(query.spans(lines[found])), (0, 0))[0]
    if first > CONTEXT_CHARS:
        lines[found] = "…" + lines[found][first - CONTEXT_CHARS :]
    shown = [("class:question" if query.spans(line) else "", line) for line in lines[found : found + MAX_PREVIEW_LINES]]
    return [("class:faint", f"{where} · {hit.role} · {relative_time(hit.time)}"), ("", ""), *shown]


def branches_of(session: Session) -> list[Branch]:
    """The branches of a session, each by its end."""
    found = []
    for leaf in session.leaves():
        question = leaf if leaf.role == "user" else session.messages.get(leaf.parent or "", leaf)
        messages = (question, leaf) if question is not leaf else (leaf,)
        found.append(Branch(messages, leaf.id == session.head))
    return found
