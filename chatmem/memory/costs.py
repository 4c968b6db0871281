"""What turns cost in tokens. Counts are cached by the ids of messages, which never change."""

from __future__ import annotations

from chatmem.history.session import Turn
from chatmem.tokens.counter import Counter


def turn_tokens(counter: Counter, turn: Turn) -> int:
    """The cost of a whole turn: its question and, as one message, its replies."""
    key = turn.messages[-1].id
    tokens = counter.turns.get(key)
    if tokens is None:
        tokens = counter.count_message(turn.question.content, turn.id)
        tokens += counter.count_message(turn.reply, reply_key(turn))
        counter.turns[key] = tokens
    return tokens


def reply_key(turn: Turn) -> str:
    """The key under which the counter caches the replies of a turn."""
    return turn.last.id if len(turn.messages) == 2 else f"{turn.last.id} and before"
