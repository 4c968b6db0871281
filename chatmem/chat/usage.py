"""What replies took: their tokens as servers reported them, and their cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatmem.config.settings import Price
from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.models.prices import cost


@dataclass
class UsageTotals:
    """Replies, their tokens as servers reported them, and their cost where prices are known."""

    replies: int = 0
    prompt: int = 0
    completion: int = 0
    cost: float = 0.0

    def add(self, message: Message, prices: Mapping[str, Price]) -> None:
        self.replies += 1
        if message.usage:
            self.prompt += message.usage.prompt or 0
            self.completion += message.usage.completion or 0
            self.cost += reply_cost(message, prices)

    def __iadd__(self, other: UsageTotals) -> UsageTotals:
        self.replies += other.replies
        self.prompt += other.prompt
        self.completion += other.completion
        self.cost += other.cost
        return self

    def summary(self) -> str:
        replies = "reply" if self.replies == 1 else "replies"
        cost = f", ${self.cost:.4f}" if self.cost else ""
        return f"{self.replies:,} {replies}, {self.prompt:,} tokens in, {self.completion:,} out{cost}"

    def record(self) -> dict[str, Any]:
        """The fields of `sessions stats --json`."""
        return {
            "replies": self.replies,
            "prompt": self.prompt,
            "completion": self.completion,
            "money": self.cost,
        }


@dataclass
class Statistics:
    """The usage of some sessions."""

    sessions: int = 0
    turns: int = 0
    models: dict[str, UsageTotals] = field(default_factory=dict)
    days: dict[str, UsageTotals] = field(default_factory=dict)

    @classmethod
    def collect(cls, sessions: Iterable[Session], prices: Mapping[str, Price]) -> Statistics:
        found = cls()
        for session in sessions:
            found.sessions += 1
            for message in session.messages.values():
                found.turns += message.role == "user"
                if message.role == "assistant":
                    found.models.setdefault(message.model or "?", UsageTotals()).add(message, prices)
                    found.days.setdefault(message.time[:10], UsageTotals()).add(message, prices)
        return found

    def record(self) -> dict[str, Any]:
        """The object that `sessions stats --json` prints."""
        return {
            "sessions": self.sessions,
            "turns": self.turns,
            "models": {model: totals.record() for model, totals in self.models.items()},
            "days": {day: totals.record() for day, totals in self.days.items()},
        }


def reply_cost(message: Message, prices: Mapping[str, Price]) -> float:
    """The cost of a reply in dollars, by the configured price of its model, else as stored. 0 if it is unknown."""
    price, usage = prices.get(message.model or ""), message.usage
    if usage is None:
        return 0.0
    return cost(usage, price) if price else usage.cost or 0.0
