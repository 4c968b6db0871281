"""Usage statistics: turns, tokens and cost, by model and by day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatmem.config.settings import Price
from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.models.prices import cost
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.tables import pad
from chatmem.terminal.terminal import Terminal, cell_width
from chatmem.text import pluralize

BAR_WIDTH = 20
MIN_BAR_SCREEN = 72
"""Columns of a terminal from which on bars are drawn."""
SHOWN_DAYS = 30


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


def print_stats(terminal: Terminal, statistics: Statistics) -> None:
    total = UsageTotals()
    for totals in statistics.models.values():
        total += totals
    sessions, turns = pluralize(statistics.sessions, "session"), pluralize(statistics.turns, "turn")
    terminal.write(f"{sessions}, {turns}, {total.summary()}")
    last_days = dict(sorted(statistics.days.items())[-SHOWN_DAYS:])
    for title, table in (("by model", statistics.models), ("by day", last_days)):
        if table:
            terminal.write(f"\n{title}")
            widest, most = max(map(cell_width, map(sanitize_line, table))), max(t.replies for t in table.values())
            for key, totals in table.items():
                bar = "▇" * max(1, round(totals.replies * BAR_WIDTH / most))
                bar = f"  {bar:<{BAR_WIDTH}}" if terminal.width >= MIN_BAR_SCREEN and not terminal.plain else ""
                terminal.write_wrapped(f"  {pad(sanitize_line(key), widest)}{bar}  {totals.summary()}")


def print_usage(terminal: Terminal, session: Session, prices: Mapping[str, Price]) -> None:
    """Print what the last reply and the whole session took, as the server reported it, and what that cost."""
    replies = [message for message in session.path if message.role == "assistant"]
    if not replies:
        terminal.info("This session has no replies yet.")
        return
    last = replies[-1]
    terminal.info(f"Last reply ({last.model or 'unknown model'}): {usage_text(last, prices)}")
    total = UsageTotals()
    for message in session.messages.values():
        if message.role == "assistant":
            total.add(message, prices)
    terminal.info(f"Session, all branches: {total.summary()}")
    without = {m.model or "unknown model" for m in replies if m.usage and not reply_cost(m, prices)}
    if without:
        terminal.info(f"No price is known for {', '.join(sorted(without))}.")


def usage_text(message: Message, prices: Mapping[str, Price]) -> str:
    """The tokens of a reply and its cost, as far as they are known."""
    usage = message.usage
    if usage is None:
        return "the server reported no usage"
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    money = reply_cost(message, prices)
    return f"{usage.prompt or 0:,} tokens in{cached}, {usage.completion or 0:,} out" + (
        f", ${money:.4f}" if money else ""
    )


def reply_cost(message: Message, prices: Mapping[str, Price]) -> float:
    """The cost of a reply in dollars, by the configured price of its model, else as stored. 0 if it is unknown."""
    price, usage = prices.get(message.model or ""), message.usage
    if usage is None:
        return 0.0
    return cost(usage, price) if price else usage.cost or 0.0
