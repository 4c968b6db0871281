"""Pinned turns: which of them are sent, and whether one more may be pinned."""

from __future__ import annotations

from collections.abc import Sequence

from chatmem.errors import Action, UsageError
from chatmem.history.session import Session, Turn
from chatmem.memory.budget import Limits
from chatmem.memory.costs import turn_tokens
from chatmem.memory.strategies.base import Strategy
from chatmem.tokens.counter import Counter


def check_pin(session: Session, turn: Turn, counter: Counter, strategy: Strategy, limits: Limits) -> None:
    """Raise UsageError if pins would take over half of a hard budget, or of the limit, with this turn pinned too."""
    pins = [*session.pinned_turns(), *[turn] * (not turn.pinned)]
    tokens = sum(turn_tokens(counter, pin) for pin in pins)
    budget = strategy.budget(limits)
    name, most = ("budget", budget.tokens) if budget.is_hard else ("limit", limits.limit)
    if tokens > most // 2:
        raise UsageError(
            f"Pinned turns would take {tokens:,} tokens, more than half of the {name} of {most:,}.",
            "" if len(pins) > 1 else "Long turns cannot be pinned.",
            Action("unpin") if len(pins) > 1 else None,
        )


def select_pins(
    turns: Sequence[Turn], counter: Counter, max_tokens: int, newest: int | None
) -> tuple[tuple[Turn, ...], list[Turn]]:
    """The pinned turns that fit, oldest first, and those that do not. The newest ones are tried first.

    They take nothing that the newest turn needs, up to a quarter of the space.
    """
    if newest is not None and not turns[newest].pinned:
        max_tokens -= min(turn_tokens(counter, turns[newest]), max_tokens // 4)
    chosen: list[Turn] = []
    skipped: list[Turn] = []
    for turn in reversed(turns):
        if turn.pinned and turn.sendable:
            tokens = turn_tokens(counter, turn)
            (chosen if tokens <= max_tokens else skipped).insert(0, turn)
            max_tokens -= tokens if tokens <= max_tokens else 0
    return tuple(chosen), skipped
