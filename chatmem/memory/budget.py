"""The sizes that a context has to keep to.

The *limit* is the model's context window less the reserve for the reply. The *budget* is what a strategy aims at. A
number that the user gave is a hard budget: nothing exceeds it. An automatic budget below the limit is soft: the newest
turns may exceed it.
"""

from __future__ import annotations

from typing import NamedTuple

ASSUMED_WINDOW = 32_768
"""The context window in tokens that is assumed of a model if nothing is known about it."""
ASSUMED_LOCAL_WINDOW = 8192
"""The same for a server on this machine."""
SOFT_BUDGET = 65_536
"""The most tokens of an automatic budget of `token-trim` and `summary`."""
SOFT_LOCAL_BUDGET = 16_384
"""The same for a server on this machine, where long prompts are slow."""
MAX_REPLY_RESERVE = 4096
"""The most tokens that are reserved for the reply if its `max_tokens` is not set."""
PROVEN_MARGIN = 1.25
"""The limit of an assumed window that was proven too small is at least this many times what is known to fit."""


class Limits(NamedTuple):
    """What a model takes, in tokens."""

    limit: int
    """The most tokens of all messages of a request."""
    window: int = 0
    """The context window that the limit follows from. 0 if it was given as such."""
    is_assumed: bool = False
    """Whether nothing is known about the window. Then it never refuses a question."""
    soft_budget: int = SOFT_BUDGET
    """The automatic budget of strategies that do not use the whole limit."""


class Budget(NamedTuple):
    """What a strategy aims at, in tokens."""

    tokens: int
    is_hard: bool = False
    """Whether the user gave it. Then the whole context stays within it."""


def limits_for(window: int | None, reply_tokens: object = None, assumed: int = 0, is_local: bool = False) -> Limits:
    """The limits of a model. `window` is None if it is unknown: then `assumed`, or a default, takes its place."""
    soft_budget = SOFT_LOCAL_BUDGET if is_local else SOFT_BUDGET
    if window:
        return Limits(window - reply_reserve(window, reply_tokens), window, soft_budget=soft_budget)
    window = assumed or (ASSUMED_LOCAL_WINDOW if is_local else ASSUMED_WINDOW)
    reserve = min(window // 2, reply_reserve(window, reply_tokens))
    return Limits(window - reserve, window, is_assumed=True, soft_budget=soft_budget)


def reply_reserve(window: int, reply_tokens: object = None) -> int:
    """The tokens of a window that are reserved for the reply.

    These are `reply_tokens` (the option `max_tokens`) if set, else at most a quarter of the window.
    """
    if isinstance(reply_tokens, int) and 0 < reply_tokens < window:
        return reply_tokens
    return min(MAX_REPLY_RESERVE, window // 4)


def proven_window(limits: Limits, reply_tokens: object, proven: int) -> int | None:
    """The window to assume from now on, after a prompt and its reply of `proven` tokens fitted. None for the same."""
    window = limits.window
    while window - min(window // 2, reply_reserve(window, reply_tokens)) < PROVEN_MARGIN * proven:
        window *= 2
    return window if window != limits.window else None
