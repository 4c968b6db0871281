"""Copies of a session that were continued separately become one session."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chatmem.history.merge import is_copy, missing_records
from chatmem.history.session import Session

Records = list[dict[str, Any]]


class Writer:
    """Continues a copy of a session in random ways, with a clock of its own."""

    def __init__(self, rng: random.Random, label: str, records: Records, clock: float) -> None:
        self.rng, self.label, self.records, self.clock = rng, label, list(records), clock
        self.number = 0

    def add(self, **record: Any) -> None:
        self.records.append(record)

    def step(self) -> None:
        session = Session.replay("", self.records)
        self.clock += self.rng.choice([0, 0.5, 30])
        time = f"2026-05-01T{int(self.clock) // 3600:02}:{int(self.clock) // 60 % 60:02}:{self.clock % 60:06.3f}Z"
        kind = self.rng.randrange(10)
        messages = list(session.messages)
        if kind < 6 or not messages:
            self.number += 1
            role = "user" if self.number % 2 else "assistant"
            ident = f"{self.label}{self.number}"
            self.add(type="message", id=ident, parent=session.head, role=role, content=f"text {ident}", time=time)
        elif kind == 6:
            self.add(type="settings", **{self.rng.choice(["title", "model"]): self.rng.choice(["a", "b", None])})
        elif kind == 7:
            self.add(
                type="mark",
                message=self.rng.choice(messages),
                **{self.rng.choice(["pinned", "excluded"]): self.rng.random() < 0.6},
            )
        elif kind == 8:
            self.add(type="head", message=self.rng.choice([*messages, None]))
        else:
            self.number += 1
            start, end = sorted(self.rng.sample(range(len(messages)), 2)) if len(messages) > 1 else (0, 0)
            text = self.rng.choice(["", f"summary {self.label}{self.number}"])
            self.add(
                type="summary",
                id=f"s{self.label}{self.number}",
                **{"from": messages[start], "to": messages[end]},
                level=0,
                text=text,
            )


def diverged(rng: random.Random) -> tuple[Records, Records]:
    """Two copies of a random session after random continuations."""
    header = {"type": "session", "chatmem": 1, "id": "one", "name": "work", "created": "2026-05-01T00:00:00.000Z"}
    base = Writer(rng, "base", [header], 100.0)
    for _ in range(rng.randrange(12)):
        base.step()
    copies = [Writer(rng, label, base.records, base.clock + rng.choice([-50, 0, 50])) for label in "ab"]
    for one in copies:
        for _ in range(rng.randrange(12)):
            one.step()
    return copies[0].records, copies[1].records


def state(records: Records) -> tuple[Any, ...]:
    session = Session.replay("", records)
    messages = {m.id: m.record() for m in session.messages.values()}
    marks = {ident: {k for k, v in flags.items() if v} for ident, flags in session.marks.items()}
    return (
        messages, session.head, session.settings, {k: v for k, v in marks.items() if v}, session.summaries,
        [t.id for t in session.turns], session.malformed_count,
    )  # fmt: skip


def check_pair(rng: random.Random) -> None:
    first, second = diverged(rng)
    one, two = first + missing_records(first, second), second + missing_records(second, first)
    assert state(one) == state(two)
    assert missing_records(one, second) == missing_records(one, first) == [], "merging again adds nothing"
    for before in (first, second):
        for message in Session.replay("", before).messages.values():
            merged = [r for r in one if r.get("id") == message.id]
            assert merged == [record for record in before if record.get("id") == message.id], "once, as it was"
    assert state(one)[-1] == 0


def test_1000_pairs_of_copies_become_the_same_session_in_either_order(rng: random.Random) -> None:
    for number in range(1000):
        seed = rng.randrange(1 << 40)
        try:
            check_pair(random.Random(seed))
        except AssertionError:
            print(f"pair {number}: random.Random({seed})")
            raise


def message(ident: str, parent: str | None, time: str, role: str = "user") -> dict[str, Any]:
    return {
        "type": "message",
        "id": ident,
        "parent": parent,
        "role": role,
        "content": ident,
        "time": f"2026-05-01T{time}:00.000Z",
    }


HEADER = {"type": "session", "chatmem": 1, "id": "one", "name": "work", "created": "2026-05-01T00:00:00.000Z"}
BASE = [HEADER, message("q1", None, "08:00"), message("a1", "q1", "08:01", "assistant")]


def test_both_continuations_become_branches_and_the_newer_one_is_the_head() -> None:
    phone = [*BASE, message("q2", "a1", "09:00"), message("a2", "q2", "09:01", "assistant")]
    laptop = [*BASE, message("q3", "a1", "10:00"), message("a3", "q3", "10:01", "assistant")]
    for mine, theirs in ((phone, laptop), (laptop, phone)):
        session = Session.replay("", mine + missing_records(mine, theirs))
        assert session.head == "a3" and {m.id for m in session.leaves()} == {"a2", "a3"}
        assert [t.id for t in session.turns] == ["q1", "q3"]


def test_settings_and_marks_are_those_of_the_later_time() -> None:
    early = [*BASE, message("q2", "a1", "09:00"), {"type": "settings", "model": "early", "title": "kept"},
             {"type": "mark", "message": "q1", "pinned": True}]  # fmt: skip
    late = [*BASE, message("q3", "a1", "10:00"), {"type": "settings", "model": "late"},
            {"type": "mark", "message": "q1", "pinned": False}]  # fmt: skip
    for mine, theirs in ((early, late), (late, early)):
        session = Session.replay("", mine + missing_records(mine, theirs))
        assert session.settings == {"model": "late", "title": "kept"} and not session.turns[0].pinned


def test_a_copy_that_is_behind_adds_nothing_and_gets_everything() -> None:
    ahead = [*BASE, message("q2", "a1", "09:00"), {"type": "settings", "model": "m"}]
    assert missing_records(ahead, BASE) == [] and missing_records(BASE, ahead) == ahead[3:]
    assert missing_records(ahead, ahead) == []


@pytest.mark.parametrize("header", [{"type": "session", "id": "two"}, {"type": "session"}, {"type": "other"}])
def test_sessions_that_are_not_copies_are_told_apart(header: dict[str, Any]) -> None:
    assert is_copy(BASE, BASE[:1]) and not is_copy(BASE, [header, *BASE[1:]]) and not is_copy([], [])
