"""The strategies side by side on one session: what each sends, what it forgets, how well prompts are cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from chatmem.errors import ContextBudgetError
from chatmem.history.facts import Fact
from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory.budget import Limits
from chatmem.memory.excerpts import Retriever
from chatmem.memory.facts import extract_facts
from chatmem.memory.plan import ApiMessage, ContextPlan
from chatmem.memory.planner import plan
from chatmem.memory.strategies import format_spec
from chatmem.memory.strategies.base import Strategy
from chatmem.tokens.counter import Counter

REPLAYED_TURNS = 40
"""How many of the last turns are replayed to measure how much of each prompt repeats the previous one."""


class ComparisonRow(NamedTuple):
    """One strategy on one session."""

    strategy: str
    messages: int
    tokens: int
    verbatim_turns: int
    newest_turn: str
    """Whether the newest turn is sent: whole, shortened or missing. Empty if there is none."""
    prefix_reuse: float | None
    """The share of the last prompts that repeats the start of the previous prompt. None for too few turns."""
    kept: float | None
    """The share of the conversation's facts that are in the context. None if there are none."""

    def record(self) -> dict[str, Any]:
        return self._asdict()


def compare(
    session: Session,
    question: str | None,
    strategies: Sequence[Strategy],
    counter: Counter,
    limits: Limits,
    retriever: Retriever | None,
    now: datetime | None = None,
    user_facts: Sequence[Fact] = (),
    facts_tokens: int = 0,
) -> list[ComparisonRow]:
    """A row per strategy, for the context that would be sent next. Strategies that cannot send it are left out."""

    def context_of(replayed: Session, asked: Message | str | None, strategy: Strategy) -> ContextPlan:
        return plan(
            replayed,
            asked,
            strategy,
            counter,
            limits,
            now=now,
            facts=user_facts,
            facts_tokens=facts_tokens,
            retriever=retriever,
        )

    facts = extract_facts(m.content for m in session.path)
    rows = []
    for strategy in strategies:
        try:
            context = context_of(session, question, strategy)
        except ContextBudgetError:
            continue
        pins = sum(turn.number <= context.start for turn in context.pins)
        rows.append(
            ComparisonRow(
                format_spec(strategy),
                len(context.messages),
                context.tokens,
                pins + sum(turn.sendable for turn in context.turns[context.start :]) - bool(context.shortened),
                context.newest_turn,
                prefix_reuse(session, counter, partial(context_of, strategy=strategy)),
                fact_recall(facts, context),
            )
        )
    return rows


def fact_recall(facts: set[str], context: ContextPlan) -> float | None:
    """The share of the facts that are in the context. None if there are none."""
    if not facts:
        return None
    found = facts & extract_facts(message["content"] for message in context.messages)
    # A fact may stand where it is not recognised, such as at the start of a line, but only in what chatmem wrote.
    notes = "\n".join(message["content"] for message in (context.messages[0], context.messages[-1]))
    found |= {fact for fact in facts - found if fact in notes}
    return round(len(found) / len(facts), 3)


def prefix_reuse(
    session: Session, counter: Counter, context_of: Callable[[Session, Message], ContextPlan]
) -> float | None:
    """Replay the last turns: the share of each prompt that repeats the start of the previous one."""
    first = max(0, len(session.turns) - REPLAYED_TURNS)
    skipped = len(session.preamble) + sum(len(t.messages) for t in session.turns[:first])
    path = [m._replace(plan_digest=None) if m.plan_digest else m for m in session.path[:skipped]]
    replayed = Session.from_path(session, path)
    previous: ContextPlan | None = None
    total = repeated = 0
    for turn in session.turns[first:]:
        replayed.apply(turn.question._replace(parent=replayed.head).record())
        try:
            context = context_of(replayed, replayed.path[-1])
        except ContextBudgetError:
            continue
        if previous is not None:
            total += context.tokens
            repeated += common_prefix_tokens(previous.messages, context.messages, counter)
        previous = context
        for number, message in enumerate(turn.messages[1:]):
            digest = context.digest() if number == 0 else None
            replayed.apply(message._replace(parent=replayed.head, plan_digest=digest).record())
    return round(repeated / total, 3) if total else None


def common_prefix_tokens(previous: Sequence[ApiMessage], current: Sequence[ApiMessage], counter: Counter) -> int:
    """The tokens of the longest common start of two prompts."""
    tokens = 0
    for before, now in zip(previous, current, strict=False):
        if before != now:
            if before["role"] == now["role"]:
                tokens += counter.count_text(_common_prefix(before["content"], now["content"]))
            return tokens
        tokens += counter.count_message(now["content"])
    return tokens + counter.request_overhead


def _common_prefix(first: str, second: str) -> str:
    length = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    return first[:length]
