"""Usage statistics: turns, tokens and cost, by model and by day."""

from __future__ import annotations

from collections.abc import Mapping

from chatmem.chat.usage import Statistics, UsageTotals, reply_cost
from chatmem.config.settings import Price
from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.tables import pad
from chatmem.terminal.terminal import Terminal, cell_width
from chatmem.text import pluralize

BAR_WIDTH = 20
MIN_BAR_SCREEN = 72
"""Columns of a terminal from which on bars are drawn."""
SHOWN_DAYS = 30


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
