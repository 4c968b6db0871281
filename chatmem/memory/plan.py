"""The plan of a context: the messages to send, and what happens to every stored message, with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from chatmem.errors import Action, Notice
from chatmem.history.facts import Fact
from chatmem.history.records import Message, Summary
from chatmem.history.session import Session, Turn
from chatmem.memory.budget import Limits
from chatmem.memory.costs import reply_key, turn_tokens
from chatmem.memory.passages import Passage
from chatmem.memory.strategies import format_spec
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summaries import SummaryBlock
from chatmem.memory.summary_lines import Line
from chatmem.text import truncate
from chatmem.tokens.counter import REQUEST_OVERHEAD, Counter

ApiMessage = dict[str, str]
"""A message as it is sent: `{"role": …, "content": …}`."""


class Decision(NamedTuple):
    """What happens to one stored message, and why.

    `decision` is one of sent, shortened, pinned, summarised, recalled, dropped, excluded. `turn` is 0 before the first
    question. `tokens` is the size of the whole message.
    """

    id: str
    turn: int
    role: str
    decision: str
    reason: str
    tokens: int


@dataclass(frozen=True)
class ContextPlan:
    """The messages to send with a question, their size in tokens, and how they were chosen."""

    messages: tuple[ApiMessage, ...]
    tokens: int
    budget: int
    limits: Limits
    strategy: Strategy
    counter: Counter = field(repr=False)
    session: Session = field(repr=False)
    turns: Sequence[Turn] = field(repr=False)
    start: int
    """The index of the first turn of the tail, which is sent verbatim."""
    question: Message | str | None
    summary: SummaryBlock = SummaryBlock()
    pins: tuple[Turn, ...] = ()
    retrieved: tuple[Passage, ...] = ()
    notices: tuple[Notice, ...] = ()
    summarize_before: int = 0
    """Turns before this index should be summarised before the cut moves next. 0: nothing to do."""
    shortened: Mapping[str, int] = field(default_factory=dict)
    """The ids of the messages of the newest turn that lose text: how many tokens are left out of each."""
    now: datetime | None = None
    """The local time of sending, if the model is told the date."""
    date: str = ""
    """What it is told in the system message."""
    days: str = ""
    """The block before the question that says when the messages of the tail were written."""
    further: tuple[Line, ...] = ()
    """Lines that found no place in the summary, for a question that no passage was found for."""
    facts: tuple[Fact, ...] = ()
    """The facts about the user that are sent, oldest first."""
    facts_text: str = ""
    """The block of the system message with these facts."""

    @property
    def tail_id(self) -> str | None:
        """The id of the first turn of the tail."""
        return self.turns[self.start].id if self.start < len(self.turns) else None

    @property
    def evicted(self) -> Iterator[Turn]:
        """The answered turns that are not sent, oldest first."""
        left_out = (turn for turn in itertools.islice(self.turns, self.start) if turn.sendable)
        if not self.pins:
            return left_out
        pinned = {turn.number for turn in self.pins}
        return (turn for turn in left_out if turn.number not in pinned)

    @property
    def newest_turn(self) -> str:
        """Whether the newest turn that may be sent is `whole`, `shortened` or `missing`. Empty if there is none."""
        newest = next((turn for turn in reversed(self.turns) if turn.sendable), None)
        if newest is None:
            return ""
        if self.shortened:
            return "shortened"
        return "whole" if newest.number > self.start or newest in self.pins else "missing"

    def digest(self) -> dict[str, Any]:
        """What the record of the reply keeps of the plan: enough to explain it and to find the cut again."""
        digest: dict[str, Any] = {
            "strategy": format_spec(self.strategy),
            "budget": self.budget,
            "tail": self.tail_id,
        }
        digest |= {"tokens": self.tokens, "counted": self.counted, "counting": self.counter.method}
        if evicted := sum(1 for _ in self.evicted):
            digest["left_out"] = evicted
        if self.summary.segments:
            digest["parts"] = [segment.id for segment in self.summary.segments]
        if self.pins:
            digest["pins"] = [turn.id for turn in self.pins]
        if self.retrieved:
            digest["recalled"] = list(dict.fromkeys(passage.message.id for passage in self.retrieved))
            digest["passages"] = [[passage.message.id, passage.start, passage.end] for passage in self.retrieved]
        if self.facts:
            digest["facts"] = [fact.id for fact in self.facts]
        if self.further:
            digest["further"] = list(dict.fromkeys(ident for line in self.further for ident in line.ids))
        if self.shortened:
            digest["shortened"] = dict(self.shortened)
        if self.now:
            digest["now"] = self.now.isoformat(timespec="seconds")
        if codes := [notice.code for notice in self.notices if notice.code]:
            digest["notices"] = codes
        return digest

    @cached_property
    def counted(self) -> int:
        """The size before calibration, which later reports of servers are compared with."""
        if self.counter.method != "calibrated":
            return self.tokens
        plain = self.counter.with_calibration(1.0)
        pairs = zip(self.messages, self._count_keys(), strict=True)
        return REQUEST_OVERHEAD + sum(plain.count_message(m["content"], key) for m, key in pairs)

    @cached_property
    def token_breakdown(self) -> dict[str, int]:
        """The tokens of each part of the context, in the order in which the parts are sent."""
        count = self.counter.count_message
        system = self.session.system
        first = self.messages[0] if self.messages else {}
        system_message = count(first["content"]) if first.get("role") == "system" else 0
        prompt = count(system) if system else 0
        known = f"{system}\n\n{self.facts_text}" if system and self.facts_text else system or self.facts_text
        facts = count(known) - prompt if self.facts_text else 0
        date = count(f"{known}\n\n{self.date}" if known else self.date) - prompt - facts if self.date else 0
        question = count(question_text(self.question)) if self.question is not None else 0
        last = count(self.messages[-1]["content"]) if self.question is not None else 0
        days = count(self.days + question_text(self.question)) - question if self.days else 0
        return {
            "system": min(prompt, system_message),
            "facts": facts,
            "summary": max(0, system_message - prompt - facts - date),
            "date": date + days,
            "pins": sum(turn_tokens(self.counter, t) for t in self.pins if not self._is_in_tail(t)),
            "tail": self._tail_tokens(),
            "recalled": max(0, last - question - days),
            "question": min(question, last),
            "free": max(0, self.budget - self.tokens),
        }

    def _tail_tokens(self) -> int:
        if self.shortened:  # the newest turn is the whole tail, right before the question
            tail = self.messages[-3:-1] if self.question is not None else self.messages[-2:]
            return sum(self.counter.count_message(message["content"]) for message in tail)
        return sum(turn_tokens(self.counter, turn) for turn in self.turns[self.start :] if turn.sendable)

    def new_notices(self) -> Iterator[Notice]:
        """The notices that the last reply's plan did not have, and one for the first turn that is left out."""
        last = next((m.plan_digest for m in reversed(self.session.path) if m.plan_digest), {})
        known = last.get("notices")
        for notice in self.notices:
            if not (isinstance(known, list) and notice.code in known):
                yield notice
        represented = self.summarised_turns() | set(self.summary.copies)
        evicted = [turn for turn in self.evicted if turn.number - 1 not in represented]
        if evicted and not last.get("left_out"):
            first = evicted[0]
            title = truncate(" ".join(first.question.content.split()), 40)
            text = f"Turn {first.number} (“{title}”) is now left out of the context."
            if len(evicted) > 1:
                text = (
                    f"{len(evicted):,} turns are now left out of the context, from turn {first.number} (“{title}”) on."
                )
            yield Notice(text, Action("pin", str(first.number)))

    def summarised_turns(self) -> set[int]:
        """The indices of the turns that a segment of the summary stands for."""
        return self._turns_of(self.summary.segments)

    def decisions(self) -> Iterator[Decision]:
        """One decision per stored message of the path, in the order of the path."""
        recalled = {passage.message.id for passage in self.retrieved}
        summarised = self.summarised_turns()
        pinned = {turn.id for turn in self.pins}
        for message in self.session.preamble:
            yield self._decision(message, 0, "dropped", "before the first question")
        for index, turn in enumerate(self.turns):
            decision, reason = self._decide(index, turn, pinned, summarised)
            for message in turn.messages:
                if message.role not in ("user", "assistant"):
                    yield self._decision(message, turn.number, "dropped", "neither a question nor a reply")
                elif message.id in recalled:
                    yield self._decision(message, turn.number, "recalled", "found for this question")
                elif message.id in self.shortened:
                    reason = f"too long; {self.shortened[message.id]:,} tokens left out"
                    yield self._decision(message, turn.number, "shortened", reason)
                else:
                    yield self._decision(message, turn.number, decision, reason)
        question_id = self.question.id if isinstance(self.question, Message) else None
        if question_id and self.session.turns and self.session.turns[-1].id == question_id:
            turn = self.session.turns[-1]
            for message in turn.messages:
                if message.id == question_id:
                    yield self._decision(message, turn.number, "sent", "the newest question")
                else:
                    yield self._decision(message, turn.number, "dropped", "the question is asked again")

    def _decision(self, message: Message, turn: int, decision: str, reason: str) -> Decision:
        tokens = self.counter.count_message(message.content, message.id)
        return Decision(message.id, turn, message.role, decision, reason, tokens)

    def _decide(self, index: int, turn: Turn, pinned: set[str], summarised: set[int]) -> tuple[str, str]:
        """The decision on a turn, and its reason."""
        if turn.excluded:
            return "excluded", "excluded by you"
        if not turn.reply:
            return "dropped", "never answered"
        if turn.id in pinned:
            return "pinned", "pinned by you" + (", in the tail" if index >= self.start else "")
        if index >= self.start:
            return "sent", "sent verbatim"
        if index in summarised:
            if index in self._clipped_turns:
                return "summarised", "in the summary, whose oldest lines do not fit"
            has_line = turn.id in self._turns_with_lines
            return "summarised", "in the summary" if has_line else "summarised, without a line of its own"
        if turn.pinned:
            return "dropped", "pinned, but it does not fit"
        if index in self.summary.copies:
            left_out = self.summary.copies[index]
            if left_out:
                return "shortened", f"summary pending; a copy without {left_out:,} tokens is sent"
            return "summarised", "summary pending; a copy is sent"
        if index in self._clipped_turns:
            return "dropped", "not sent; its summary does not fit"
        if self.strategy.summary_share(self.budget):
            return "dropped", "not sent; summary pending"
        return "dropped", f"not sent; {self.strategy.name} keeps newer turns"

    @cached_property
    def _clipped_turns(self) -> set[int]:
        return self._turns_of(self.summary.clipped)

    @cached_property
    def _turns_with_lines(self) -> set[str]:
        """The ids of the turns that a line of the summary stems from, and of those of segments that do not tell."""
        found = {ident for line in self.further for ident in line.ids}
        for segment in self.summary.segments:
            known = {ident for ids in segment.sources for ident in ids}
            index = self.session.turn_index
            span = self.turns[index[segment.start] : index[segment.end] + 1]
            found |= known or {turn.id for turn in span}
        return found

    def _turns_of(self, segments: Iterable[Summary]) -> set[int]:
        """The indices of the turns that segments stand for."""
        index = self.session.turn_index
        return {i for segment in segments for i in range(index[segment.start], index[segment.end] + 1)}

    def _is_in_tail(self, turn: Turn) -> bool:
        return turn.number > self.start

    def _count_keys(self) -> Iterator[str]:
        """The key under which the counter caches each of `messages`, in their order."""
        if self.messages and self.messages[0]["role"] == "system":
            yield ""
        pins = [turn for turn in self.pins if not self._is_in_tail(turn)]
        for turn in pins + [turn for turn in self.turns[self.start :] if turn.sendable]:
            yield "" if self.shortened and turn not in pins else turn.id
            yield "" if self.shortened and turn not in pins else reply_key(turn)
        if self.question is not None:
            yield ""


def question_text(question: Message | str | None) -> str:
    return question.content if isinstance(question, Message) else question or ""
