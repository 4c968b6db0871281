"""Random sessions with everything that a session file may contain, valid or not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from chatmem.history.session import Session
from chatmem.memory import strategies
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summaries import SUMMARY_CLOSE

WORDS = (
    "tea Lisbon XK-4821 router the of my is code 日本語 meeting 2026-05-03 https://a.example/x name Nemo 7 and".split()
)


def short_text(rng: random.Random, limit: int = 40) -> str:
    if rng.random() < 0.05:
        return rng.choice(["", " ", "\n", "<|endoftext|>", SUMMARY_CLOSE, "😀" * 5])
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, limit)))


def long_text(rng: random.Random, length: int) -> str:
    """A text of about a number of characters, in words, lines or paragraphs."""
    unit = rng.choice(["word ", "line of words\n", "A paragraph of words.\n\n", "x", "日本語。", "```\ncode\n```\n"])
    return (unit * (length // len(unit) + 1))[:length].strip() or "x"


def session(rng: random.Random, limit: int = 14, text: Callable[[], str] | None = None) -> Session:
    """A session with missing replies, questions in a row, a greeting first, empty texts, branches, pins and summaries."""
    one = Session("random", system_override=rng.choice(["", "", "You are brief.", "You are " + short_text(rng)]))
    ids: list[str] = []
    text = text or (lambda: short_text(rng))
    times = rng.choice(
        [["2026-05-03T10:00:00Z"], [f"2026-05-0{day}T10:00:00Z" for day in range(1, 4)], ["", "2026-04-30T23:59:00Z"]]
    )

    def add(role: str, parent: str | None) -> str:
        ident = f"m{len(ids):03}"
        ids.append(ident)
        one.apply(
            {
                "type": "message",
                "id": ident,
                "parent": parent,
                "role": role,
                "content": text(),
                "time": times[len(ids) * len(times) // 30 % len(times)],
            }
        )
        return ident

    head = add("assistant", None) if rng.random() < 0.15 else None
    for _ in range(rng.randrange(0, limit)):
        if ids and rng.random() < 0.08:
            head = rng.choice(ids)
            one.apply({"type": "head", "message": head})
        head = add("user", head)
        if rng.random() < 0.88:
            head = add(rng.choice(["assistant"] * 9 + ["tool"]), head)
            if rng.random() < 0.08:
                head = add("assistant", head)
    for turn in list(one.turns):
        if rng.random() < 0.12:
            one.apply({"type": "mark", "message": turn.id, rng.choice(["pinned", "excluded"]): True})
    for _ in range(rng.randrange(0, 5)):
        if len(one.turns) > 2:
            first = rng.randrange(len(one.turns) - 1)
            last = rng.randrange(first, len(one.turns) - 1)
            span = one.turns[first : last + 1]
            without = [t.id for t in span if t.excluded or t.pinned] if rng.random() < 0.8 else []
            one.apply(
                {
                    "type": "summary",
                    "id": f"s{first}-{last}",
                    "from": span[0].id,
                    "to": span[-1].last.id,
                    "level": rng.randrange(3),
                    "text": text(),
                    "without": without,
                }
            )
    return one


SPECS = {
    "window": ["window:{turns}", "window:{turns},slack=3", "window,max_messages={turns}"],
    "token-trim": ["token-trim:{tokens}", "token-trim,max_tokens={tokens}"],
    "summary": ["summary:{tokens}", "summary:{tokens},recall_tokens=0"],
}
"""Specs with settings. Strategies of the table that have none are tried with their defaults."""


def strategy(rng: random.Random, tokens: int = 0) -> Strategy:
    """A strategy of the table with random settings."""
    name = rng.choice(list(strategies.STRATEGIES))
    spec = rng.choice(SPECS.get(name, [name])).format(
        turns=rng.randrange(0, 6), tokens=tokens or rng.randrange(20, 900)
    )
    if "recall" not in spec and rng.random() < 0.3 and name != "summary":
        spec += f",recall_tokens={rng.choice([50, 'auto'])}"
    if rng.random() < 0.3:
        spec += f",dates={rng.choice(['on', 'off'])}"
    return strategies.strategy_from_mapping(strategies.parse_spec(spec))


def question(rng: random.Random) -> str:
    return short_text(rng, 12)


def copy_of(one: Session) -> Any:
    """The state that planning must not change."""
    return (
        [m.record() for m in one.messages.values()],
        one.head,
        dict(one.marks),
        dict(one.summaries),
        dict(one.settings),
    )
