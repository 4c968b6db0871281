"""A view: the messages that are sent, and what became of every stored message, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from chatmem.memory import spec_of
from chatmem.memory.base import Strategy
from chatmem.records import Message, Summary
from chatmem.session import Session, Turn
from chatmem.tokens import PRIMER, Counter

Wire = dict[str, str]
"""A message as it is sent: `{"role": …, "content": …}`."""


class Found(NamedTuple):
    """A line of recall: the message it quotes, and what of it."""

    message: Message
    text: str


class Decision(NamedTuple):
    """What happened to one stored message in a view, and why."""

    id: str
    turn: int
    role: str
    decision: str
    reason: str
    tokens: int


@dataclass(frozen=True)
class Plan:
    """A view: the messages to send, their size, and how it came about."""

    messages: tuple[Wire, ...]
    tokens: int
    budget: int
    strategy: Strategy
    counter: Counter = field(repr=False)
    session: Session = field(repr=False)
    turns: Sequence[Turn] = field(repr=False)
    start: int
    question: Message | str | None
    parts: tuple[Summary, ...] = ()
    pins: tuple[Turn, ...] = ()
    recalled: tuple[Found, ...] = ()
    notices: tuple[str, ...] = ()
    fold_before: int = 0
    """Turns before this index should be in summary parts by the time the cut moves; 0 for none."""
    unnoted: frozenset[int] = frozenset()
    """The indices of turns whose notes were made, but do not fit."""

    @property
    def tail(self) -> str | None:
        """The id of the first turn of the tail."""
        return self.turns[self.start].id if self.start < len(self.turns) else None

    @property
    def left_out(self) -> Iterator[Turn]:
        """The answered turns that are not sent word for word, oldest first."""
        shown = {turn.id for turn in self.pins}
        return (t for t in self.turns[: self.start] if t.sendable and t.id not in shown)

    def digest(self) -> dict[str, Any]:
        """What a reply's record keeps of the plan it answered: enough to explain it, and to find the cut again."""
        digest: dict[str, Any] = {
            "strategy": spec_of(self.strategy),
            "budget": self.budget,
            "tail": self.tail,
        }
        digest |= {"tokens": self.tokens, "counted": self.counted, "counting": self.counter.how}
        if out := sum(1 for _ in self.left_out):
            digest["left_out"] = out
        if self.parts:
            digest["parts"] = [part.id for part in self.parts]
        if self.pins:
            digest["pins"] = [turn.id for turn in self.pins]
        if self.recalled:
            digest["recalled"] = [found.message.id for found in self.recalled]
        return digest

    @cached_property
    def counted(self) -> int:
        """The size before calibration: what later prompts are compared with."""
        if self.counter.how != "calibrated":
            return self.tokens
        plain = self.counter.scaled(1.0)
        return PRIMER + sum(plain.message(m["content"], k) for m, k in zip(self.messages, self._keys(), strict=True))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The tokens of each part of the view, in the order in which they are sent."""
        count = self.counter.message
        system = self.session.system
        first = self.messages[0] if self.messages else {}
        total_system = count(first["content"]) if first.get("role") == "system" else 0
        prompt = count(system) if system else 0
        pins = sum(cost(self.counter, t) for t in self.pins if not self._in_tail(t))
        question = count(text_of(self.question)) if self.question is not None else 0
        last = count(self.messages[-1]["content"]) if self.question is not None else 0
        tail = sum(cost(self.counter, t) for t in self.turns[self.start :] if t.sendable)
        sizes = {
            "system": min(prompt, total_system),
            "notes": max(0, total_system - prompt),
            "pins": pins,
            "tail": tail,
        }
        sizes |= {"recalled": max(0, last - question), "question": min(question, last)}
        return sizes | {"free": max(0, self.budget - self.tokens)}

    def decisions(self) -> Iterator[Decision]:
        """One decision per stored message of the path, in the order of the path."""
        counter = self.counter
        recalled = {found.message.id for found in self.recalled}
        spans = self._spans()
        pinned = {turn.id for turn in self.pins}
        asked = self.question.id if isinstance(self.question, Message) else None
        for message in self.session.prologue:
            yield Decision(
                message.id,
                0,
                message.role,
                "dropped",
                "before the first question",
                counter.message(message.content, message.id),
            )
        for index, turn in enumerate(self.turns):
            decision, reason = self._decide(index, turn, pinned, spans)
            for message in turn.messages:
                tokens = counter.message(message.content, message.id)
                if message.role not in ("user", "assistant"):
                    yield Decision(
                        message.id,
                        turn.number,
                        message.role,
                        "dropped",
                        "neither a question nor a reply",
                        tokens,
                    )
                elif message.id in recalled:
                    yield Decision(message.id, turn.number, message.role, "recalled", "found for this question", tokens)
                else:
                    yield Decision(message.id, turn.number, message.role, decision, reason, tokens)
        if asked and self.session.turns and self.session.turns[-1].id == asked:
            turn = self.session.turns[-1]
            for message in turn.messages:
                what = (
                    ("sent", "the newest question")
                    if message.id == asked
                    else ("dropped", "its reply is asked for again")
                )
                yield Decision(
                    message.id, turn.number, message.role, *what, counter.message(message.content, message.id)
                )

    def _decide(self, index: int, turn: Turn, pinned: set[str], spans: set[int]) -> tuple[str, str]:
        if turn.excluded:
            return "excluded", f"you excluded turn {turn.number}"
        if not turn.reply:
            return "dropped", "never answered"
        if turn.id in pinned:
            return "pinned", "you pinned it" + (", in place" if index >= self.start else "")
        if index >= self.start:
            return "sent", f"word for word: the tail begins with turn {self.turns[self.start].number}"
        if index in spans:
            return "summarised", "folded into the notes"
        if turn.pinned:
            return "dropped", "pinned, but the pins do not fit"
        reason = f"{self.strategy.name}: older than the tail"
        if index in self.unnoted:
            reason += ", and its notes do not fit"
        elif self.strategy.summarises:
            reason += ", not folded yet"
        return "dropped", reason

    def _spans(self) -> set[int]:
        places = self.session.places
        return {i for part in self.parts for i in range(places[part.start], places[part.end] + 1)}

    def _in_tail(self, turn: Turn) -> bool:
        return turn.number > self.start

    def _keys(self) -> Iterator[str]:
        """The name under which each message's count is kept, in the order of `messages`."""
        if self.messages and self.messages[0]["role"] == "system":
            yield ""
        shown = [t for t in self.pins if not self._in_tail(t)] + [t for t in self.turns[self.start :] if t.sendable]
        for turn in shown:
            yield turn.id
            yield reply_key(turn)
        if self.question is not None:
            yield ""


def cost(counter: Counter, turn: Turn) -> int:
    """What a whole turn costs: its question and, as one message, its replies."""
    key = turn.messages[-1].id
    known = counter.turns.get(key)
    if known is None:
        known = counter.message(turn.question.content, turn.id) + counter.message(turn.reply, reply_key(turn))
        counter.turns[key] = known
    return known


def reply_key(turn: Turn) -> str:
    """The name under which the count of a turn's replies is kept: of one, or of all of them joined."""
    return turn.last.id if len(turn.messages) == 2 else f"{turn.last.id} and before"


def text_of(question: Message | str | None) -> str:
    return question.content if isinstance(question, Message) else question or ""
