"""What the user is told about a plan: why it cannot be made, and what is not sent."""

from __future__ import annotations

from collections.abc import Sequence

from chatmem.errors import Action, ContextBudgetError, Notice
from chatmem.history.session import Session, Turn
from chatmem.memory.budget import Budget, Limits
from chatmem.memory.strategies import format_spec
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summaries import SummaryBlock
from chatmem.text import pluralize, span_text

MAX_NAMED_TURNS = 10
"""How many turns a notice names."""


def budget_error(prompt: int, question: int, alone: int, budget: Budget, strategy: Strategy) -> ContextBudgetError:
    parts = f"system prompt {prompt:,} tokens and question {question:,}" if prompt else f"question {question:,} tokens"
    shorten = "Shorten them" if prompt else "Shorten it"
    if budget.is_hard:
        return ContextBudgetError(
            f"The budget of {budget.tokens:,} tokens does not hold {parts}: {alone:,} in all. Nothing was sent.",
            f"{shorten}, or raise max_tokens of the memory strategy ({format_spec(strategy)}).",
        )
    return ContextBudgetError(
        f"The model takes {budget.tokens:,} tokens, which do not hold {parts}: {alone:,} in all. Nothing was sent.",
        f"{shorten}, raise context_window if it is configured too low, or use a model with a larger context window.",
    )


def plan_notices(
    limits: Limits,
    is_too_long: bool,
    strategy_notice: str,
    skipped_pins: Sequence[Turn],
    block: SummaryBlock,
    session: Session,
) -> list[Notice]:
    notices = []
    if is_too_long:
        text = f"The question alone exceeds the context window of {limits.window:,} tokens that is assumed. It is sent"
        hint = "with the system prompt only. Set context_window in the config if the model takes more."
        notices.append(Notice(f"{text} {hint}", code="assumed_window"))
    if strategy_notice:
        notices.append(Notice(strategy_notice, code="strategy"))
    if skipped_pins:
        numbers = ", ".join(str(turn.number) for turn in skipped_pins[:MAX_NAMED_TURNS])
        if len(skipped_pins) > MAX_NAMED_TURNS:
            numbers += f" and {len(skipped_pins) - MAX_NAMED_TURNS:,} more"
        notices.append(Notice(f"Pinned turns that do not fit are not sent: {numbers}.", code=f"pins {numbers}"))
    if block.clipped:
        first, last = block.clipped[0], block.clipped[-1]
        span = session.turn_index[first.start] + 1, session.turn_index[last.end] + 1
        text = f"The oldest part of the summary does not fit: {span_text(*span)}."
        notices.append(Notice(text, Action("show_context"), code=f"summary {span[0]} {span[1]}"))
    return notices


def facts_notices(count: int, shown: int) -> list[Notice]:
    if shown == count:
        return []
    text = f"The oldest {pluralize(count - shown, 'fact')} about you do not fit and are not sent."
    return [Notice(text, Action("list_facts"), code=f"facts {count - shown}")]


def newest_turn_notices(
    turns: Sequence[Turn], newest: int | None, start: int, left_out: dict[str, int]
) -> list[Notice]:
    if newest is None:
        return []
    number = turns[newest].number
    if left_out:
        tokens = sum(left_out.values())
        text = f"Turn {number} is too long to be sent whole: {tokens:,} tokens of it are left out."
        return [Notice(text, Action("show_context"), code=f"shortened {number}")]
    if start > newest and not turns[newest].pinned:
        return [Notice(f"Turn {number}, the newest one, does not fit and is not sent.", code=f"newest {number}")]
    return []
