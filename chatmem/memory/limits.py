"""How much fits: the budget that a context window leaves, and what a server's own words tell of its window."""

from __future__ import annotations

from chatmem.errors import ContextExceeded
from chatmem.memory.view import Plan
from chatmem.session import Session
from chatmem.tokens import cut_off, same_though_longer

UNKNOWN_WINDOW = 8192
"""The context window of a model that nobody knows one of, in tokens."""


def budget_of(window: int | None, reply: object = None) -> int:
    """The tokens a view may take: the model's window less what the reply may need (`max_tokens` if that is set)."""
    window = window or UNKNOWN_WINDOW
    reserve = reply if isinstance(reply, int) and 0 < reply < window else min(4096, window // 4)
    return window - reserve


def fitted(error: ContextExceeded, view: Plan, reply: object, known: int | None) -> int | None:
    """The window in our tokens that a server's refusal of a view means, or None if planning again would not help.

    What `needed` says of the messages alone tells how much longer they are for the server than for us. `reply` is the
    reply's own `max_tokens`, `known` the window as it was taken until now.
    """
    if error.limit is None:
        return None
    ours = min(1.0, view.tokens / error.needed) if error.needed else 1.0
    reserve = error.limit - budget_of(error.limit, reply)
    window = int((error.limit - reserve) * ours) + reserve
    if view.tokens <= budget_of(window, reply):
        window = int(window * 0.8)  # it should have fitted: we count too little, by nobody knows how much
    return window if window < (known or window + 1) else None


def silently_cut(session: Session, counted: int, reported: int) -> bool:
    """Whether the server seems to have cut the last prompt without a word: it reports fewer tokens than we counted."""
    if reported >= counted:
        return False
    replies = [m for m in session.path if m.role == "assistant" and m.sent and m.usage and m.usage.prompt]
    before = replies[-2] if len(replies) > 1 else None
    if before is None or not before.sent or not before.usage:
        return cut_off(counted, reported)
    earlier = (int(before.sent.get("counted") or 0), before.usage.prompt or 0)
    return cut_off(counted, reported) or same_though_longer((counted, reported), earlier)
