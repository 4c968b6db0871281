"""Facts about the user, as plain data: replayed from records that are only added to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chatmem.history.records import Record
from chatmem.text import fix_surrogates

MAX_FACT_CHARS = 1_000
"""Longer texts are notes, not facts."""


class Fact(NamedTuple):
    """A short fact about the user. `session` and `message` say where it comes from, if it comes from a conversation."""

    id: str
    text: str
    time: str = ""
    session: str = ""
    """The name of the session."""
    turn: int | None = None

    @property
    def source(self) -> str:
        """Where it comes from, such as `trip, turn 3`. Empty if it was added by hand."""
        return f"{self.session}, turn {self.turn}" if self.session and self.turn else self.session

    def record(self, replaces: str | None = None) -> Record:
        """The record that states this fact, instead of another one if it `replaces` one."""
        record: Record = {"type": "fact", "id": self.id, "text": self.text, "time": self.time}
        record |= {"session": self.session} if self.session else {}
        record |= {"turn": self.turn} if self.turn else {}
        return record | ({"replaces": replaces} if replaces else {})


def replay_facts(records: Iterable[Record]) -> list[Fact]:
    """The facts that hold now, oldest first. One that was replaced keeps its place; an empty text removes it."""
    facts: dict[str, Fact] = {}
    for record in records:
        ident, text = record.get("id"), record.get("text")
        if record.get("type") != "fact" or not isinstance(ident, str) or not isinstance(text, str):
            continue
        turn, replaced = record.get("turn"), record.get("replaces")
        fact = Fact(
            ident,
            " ".join(fix_surrogates(text).split()),
            str(record.get("time") or ""),
            str(record.get("session") or ""),
            turn if isinstance(turn, int) and not isinstance(turn, bool) else None,
        )
        if isinstance(replaced, str) and replaced in facts:
            facts = {k if k != replaced else ident: v if k != replaced else fact for k, v in facts.items()}
        elif not isinstance(replaced, str):
            facts[ident] = fact
        if not fact.text:
            facts.pop(ident, None)
    return list(facts.values())
