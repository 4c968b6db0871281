"""What the responses of a server reveal about the context window of its model."""

from __future__ import annotations

from chatmem.errors import ContextLengthError
from chatmem.history.records import MAX_TOKENS
from chatmem.history.session import Session
from chatmem.memory.budget import MAX_REPLY_RESERVE, reply_reserve
from chatmem.memory.plan import ContextPlan
from chatmem.tokens.calibration import looks_truncated, plateaued


def window_after_overflow(
    error: ContextLengthError, plan: ContextPlan, reply_tokens: object, known: int | None
) -> int | None:
    """The window, in our tokens, that a refused request reveals. None if planning again would not help.

    `error.needed` tells how our count of the messages compares with the server's. `known` is the window that was
    assumed so far.
    """
    if error.limit is None:  # the server did not say by how much: halve the context
        budget = plan.tokens // 2
        return budget + (reply_tokens if isinstance(reply_tokens, int) else min(MAX_REPLY_RESERVE, budget // 3))
    ratio = min(1.0, plan.tokens / error.needed) if error.needed else 1.0
    reserve = reply_reserve(error.limit, reply_tokens)
    window = int((error.limit - reserve) * ratio) + reserve
    if plan.tokens <= window - reply_reserve(window, reply_tokens):
        window = int(window * 0.8)  # our estimate was low; shrink by 20 %
    return window if window < (known or window + 1) else None


def server_truncated(session: Session, counted: int, reported: int) -> bool:
    """Whether the server seems to have truncated the last prompt silently: it reports fewer tokens than we counted."""
    if reported >= counted:
        return False
    replies = [m for m in session.path if m.role == "assistant" and m.plan_digest and m.usage and m.usage.prompt]
    previous = replies[-2] if len(replies) > 1 else None
    if previous is None or not previous.plan_digest or not previous.usage:
        return looks_truncated(counted, reported)
    known = previous.plan_digest.get("counted")  # of a file, so of any type
    earlier = (known if type(known) is int and 0 < known < MAX_TOKENS else 0, previous.usage.prompt or 0)
    return looks_truncated(counted, reported) or plateaued((counted, reported), earlier)
