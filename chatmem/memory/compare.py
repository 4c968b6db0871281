"""The strategies side by side on one session: what each sends, what it forgets, what the prompt cache makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chatmem.errors import DoesNotFit
from chatmem.memory import spec_of
from chatmem.memory.base import Strategy
from chatmem.memory.facts import facts_of
from chatmem.memory.plan import Recall, plan
from chatmem.memory.view import Plan, Wire
from chatmem.session import Session
from chatmem.tokens import Counter

LOOK_BACK = 40
"""How many of the last turns are played again to see how much of each prompt repeats the one before."""


class Row(NamedTuple):
    """One strategy on this session."""

    strategy: str
    messages: int
    tokens: int
    verbatim_turns: int
    prefix_reuse: float | None
    """The share of the last prompts' tokens that repeat the beginning of the prompt before; None for too few turns."""
    kept: float | None
    """The share of the conversation's facts that the model would see; None if there are none."""

    def record(self) -> dict[str, Any]:
        return self._asdict()


def compare(
    session: Session,
    question: str | None,
    strategies: Sequence[Strategy],
    counter: Counter,
    budget: int,
    recall: Recall | None,
) -> list[Row]:
    """A row per strategy, for what would be sent next."""
    facts = facts_of(m.content for m in session.path)
    rows = []
    for strategy in strategies:
        try:
            view = plan(session, question, strategy, counter, budget, recall)
        except DoesNotFit:
            continue
        pins = sum(turn.number <= view.start for turn in view.pins)
        rows.append(
            Row(
                spec_of(strategy),
                len(view.messages),
                view.tokens,
                pins + sum(turn.sendable for turn in view.turns[view.start :]),
                prefix_reuse(session, strategy, counter, budget, recall),
                share_kept(facts, view),
            )
        )
    return rows


def share_kept(facts: set[str], view: Plan) -> float | None:
    text = "\n".join(m["content"] for m in view.messages)
    return round(sum(fact in text for fact in facts) / len(facts), 3) if facts else None


def prefix_reuse(
    session: Session, strategy: Strategy, counter: Counter, budget: int, recall: Recall | None
) -> float | None:
    """Play the last turns again under a strategy, and see how much of each prompt repeats the one before it."""
    first = max(0, len(session.turns) - LOOK_BACK)
    again = Session(session.name, prompt=session.system, summaries=session.summaries, marks=session.marks)
    for message in session.path[: len(session.prologue) + sum(len(t.messages) for t in session.turns[:first])]:
        again.apply(message._replace(sent=None).record())
    before: Plan | None = None
    total = same = 0
    for turn in session.turns[first:]:
        again.apply(turn.question._replace(parent=again.head).record())
        try:
            view = plan(again, again.path[-1], strategy, counter, budget, recall)
        except DoesNotFit:
            continue
        if before is not None:
            total += view.tokens
            same += common(before.messages, view.messages, counter)
        before = view
        for number, message in enumerate(turn.messages[1:]):
            sent = view.digest() if number == 0 else None
            again.apply(message._replace(parent=again.head, sent=sent).record())
    return round(same / total, 3) if total else None


def common(before: Sequence[Wire], now: Sequence[Wire], counter: Counter) -> int:
    """The tokens of the longest common beginning of two prompts."""
    tokens = 0
    for one, two in zip(before, now, strict=False):
        if one != two:
            if one["role"] == two["role"]:
                tokens += counter.text(_beginning(one["content"], two["content"]))
            return tokens
        tokens += counter.message(two["content"])
    return tokens + counter.primer


def _beginning(one: str, two: str) -> str:
    length = next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    return one[:length]
