"""Random histories: everything a session file may hold, and some of what it should not."""

from __future__ import annotations

import random
from typing import Any

from chatmem import memory
from chatmem.memory.base import Strategy
from chatmem.session import Session

WORDS = (
    "tea Lisbon XK-4821 router the of my is code 日本語 meeting 2026-05-03 https://a.example/x name Nemo 7 and".split()
)


def text(chance: random.Random, most: int = 40) -> str:
    if chance.random() < 0.05:
        return chance.choice(["", " ", "\n", "<|endoftext|>", "[End of the notes.]", "😀" * 5])
    return " ".join(chance.choice(WORDS) for _ in range(chance.randrange(1, most)))


def session(chance: random.Random, most: int = 14) -> Session:
    """A session with missing replies, questions in a row, a greeting first, empty texts, branches, pins and notes."""
    one = Session("random", prompt=chance.choice(["", "", "You are brief.", "You are " + text(chance)]))
    ids: list[str] = []

    def add(role: str, parent: str | None) -> str:
        ident = f"m{len(ids):03}"
        ids.append(ident)
        one.apply(
            {
                "type": "message",
                "id": ident,
                "parent": parent,
                "role": role,
                "content": text(chance),
                "time": "2026-05-03T10:00:00Z",
            }
        )
        return ident

    head = add("assistant", None) if chance.random() < 0.15 else None
    for _ in range(chance.randrange(0, most)):
        if ids and chance.random() < 0.08:
            head = chance.choice(ids)
            one.apply({"type": "head", "message": head})
        head = add("user", head)
        if chance.random() < 0.88:
            head = add(chance.choice(["assistant"] * 9 + ["tool"]), head)
            if chance.random() < 0.08:
                head = add("assistant", head)
    for turn in list(one.turns):
        if chance.random() < 0.12:
            one.apply({"type": "mark", "message": turn.id, chance.choice(["pinned", "excluded"]): True})
    for _ in range(chance.randrange(0, 5)):
        if len(one.turns) > 2:
            first = chance.randrange(len(one.turns) - 1)
            last = chance.randrange(first, len(one.turns) - 1)
            span = one.turns[first : last + 1]
            without = [t.id for t in span if t.excluded or t.pinned] if chance.random() < 0.8 else []
            one.apply(
                {
                    "type": "summary",
                    "id": f"s{first}-{last}",
                    "from": span[0].id,
                    "to": span[-1].last.id,
                    "level": chance.randrange(3),
                    "text": text(chance),
                    "without": without,
                }
            )
    return one


def strategy(chance: random.Random) -> Strategy:
    spec = chance.choice(
        [
            "buffer",
            "window:{}",
            "window:{},slack=3",
            "window,max_messages={}",
            "token-trim:{}",
            "token-trim,max_tokens={}",
            "summary:{}",
            "summary:{},recall_tokens=0",
        ]
    )
    number = chance.randrange(0, 6) if "window" in spec else chance.randrange(20, 900)
    spec = spec.format(number)
    if "recall" not in spec and chance.random() < 0.3 and not spec.startswith("summary"):
        spec += f",recall_tokens={chance.choice([50, 'auto'])}"
    return memory.from_table(memory.table_of(spec))


def question(chance: random.Random) -> str:
    return text(chance, 12)


def copy_of(one: Session) -> Any:
    """What a plan must leave as it is."""
    return (
        [m.record() for m in one.messages.values()],
        one.head,
        dict(one.marks),
        dict(one.summaries),
        dict(one.settings),
    )
