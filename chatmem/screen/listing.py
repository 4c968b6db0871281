"""Lists and conversations: a table or a page on a terminal, plain lines into a pipe."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatmem.names import counted
from chatmem.records import Message, moment
from chatmem.screen.safe import show, show_line
from chatmem.screen.terminal import Terminal, cell_width
from chatmem.session import Session
from chatmem.stores import Outline


def table(terminal: Terminal, outlines: Sequence[Outline]) -> None:
    """The sessions as a table; tabs between the columns where nobody reads but a program."""
    heads = ("name", "title", "last used", "turns", "model", "memory")
    rows = [(o.name, _titled(o), ago(o.last_active), str(o.turns), o.model or "", o.memory or "") for o in outlines]
    columns(terminal, heads, rows, numbers={3}, flexible=1)


def _titled(outline: Outline) -> str:
    """The title, and whose the session is if another user shares it."""
    if outline.owner is None:
        return outline.title
    return f"shared by {outline.owner or 'the user without a name'}: {outline.title}"


def columns(
    terminal: Terminal,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[int] = (),
    flexible: int = 0,
) -> None:
    """Rows of text in columns; `numbers` are set right, the `flexible` one gives way, then the last ones go."""
    rows = [[show_line(cell) for cell in row] for row in rows]
    if not terminal.interactive:
        for row in rows:
            terminal.answer("\t".join(row))
        return
    table = [list(heads), *rows]
    widths = [max(cell_width(row[i]) for row in table) for i in range(len(heads))]
    if flexible and sum(widths) + 2 * len(widths) > terminal.width:
        widths[0] = min(widths[0], max(12, terminal.width // 3))  # one long name must not take all columns away
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) - widths[flexible] + 12 > terminal.width:
        if len(widths) - 1 == flexible:
            break
        widths.pop()
    over = sum(widths) + 2 * (len(widths) - 1) - terminal.width
    if over > 0:
        widths[flexible] = max(1, widths[flexible] - over)
    for number, row in enumerate(table):
        cells = [padded(cell, width, i in numbers) for i, (cell, width) in enumerate(zip(row, widths, strict=False))]
        line = "  ".join(cells).rstrip()
        terminal.raw((terminal.styled(line, "dim", terminal.out) if number == 0 else line) + "\n")


def padded(text: str, width: int, right: bool = False) -> str:
    """The text in exactly so many columns, cut with an ellipsis if it must be."""
    if cell_width(text) > width:
        while text and cell_width(text) > width - 1:
            text = text[:-1]
        text += "…"
    room = " " * (width - cell_width(text))
    return room + text if right else text + room


def conversation(terminal: Terminal, session: Session) -> None:
    """A whole conversation, a line per speaker above each message."""
    for message in session.path:
        terminal.caption(_speaker(session, message))
        terminal.answer(show(message.content.rstrip("\n")) + "\n")


def tree(terminal: Terminal, session: Session) -> None:
    """All branches of a session: a line per message, indented where the conversation parts."""
    path = {message.id for message in session.path}
    following: dict[str | None, list[Message]] = {}
    for message in session.messages.values():
        following.setdefault(message.parent, []).append(message)
    waiting = [(message, 0) for message in reversed(following.get(None, []))]
    while waiting:
        message, depth = waiting.pop()
        mark = "●" if message.id in path else "○"
        who = ">" if message.role == "user" else " "
        text = " ".join(message.content[:200].split())
        status = f" ({message.status})" if message.status != "complete" else ""
        room = max(20, (terminal.width if terminal.interactive else 120) - 2 * depth - len(status) - 4)
        shown = show_line(text)
        shown = padded(shown, room).rstrip() if cell_width(shown) > room else shown
        terminal.answer(f"{mark} {'  ' * depth}{who} {shown}{status}")
        children = following.get(message.id, [])
        waiting += [(child, depth + (len(children) > 1)) for child in reversed(children)]


def statistics(terminal: Terminal, sessions: Iterable[Session], prices: Mapping[str, Any]) -> None:
    """Turns, tokens and money, by model and by day, as bars."""
    count, turns = 0, 0
    models: dict[str, Tally] = {}
    days: dict[str, Tally] = {}
    for session in sessions:
        count += 1
        for message in session.messages.values():
            turns += message.role == "user"
            if message.role == "assistant":
                for table, key in ((models, message.model or "?"), (days, message.time[:10])):
                    table.setdefault(key, Tally()).add(message, prices)
    total = Tally()
    for tally in models.values():
        total += tally
    terminal.answer(f"{counted(count, 'session')}, {counted(turns, 'turn')}, {total.words()}")
    for title, table in (("by model", models), ("by day", dict(sorted(days.items())[-30:]))):
        if table:
            terminal.answer(f"\n{title}")
            widest, most = max(map(cell_width, map(show_line, table))), max(t.replies for t in table.values())
            for key, tally in table.items():
                bar = "▇" * max(1, round(tally.replies * 20 / most))
                terminal.answer(f"  {padded(show_line(key), widest)}  {bar:<20}  {tally.words()}")


@dataclass
class Tally:
    """Replies, their tokens as servers reported them, and what they cost where prices are set."""

    replies: int = 0
    prompt: int = 0
    completion: int = 0
    money: float = 0.0

    def add(self, message: Message, prices: Mapping[str, Any]) -> None:
        self.replies += 1
        if message.usage:
            self.prompt += message.usage.prompt or 0
            self.completion += message.usage.completion or 0
            self.money += money(message, prices)

    def __iadd__(self, other: Tally) -> Tally:
        self.replies += other.replies
        self.prompt += other.prompt
        self.completion += other.completion
        self.money += other.money
        return self

    def words(self) -> str:
        spent = f", {self.money:.4f}" if self.money else ""
        plural = "reply" if self.replies == 1 else "replies"
        return f"{self.replies:,} {plural}, {self.prompt:,} tokens in, {self.completion:,} out{spent}"

    def record(self) -> dict[str, Any]:
        return dict(vars(self))


def money(message: Message, prices: Mapping[str, Any]) -> float:
    """What one reply cost, by the configured price of its model per million tokens; 0 without one."""
    price, usage = prices.get(message.model or ""), message.usage
    if price is None or usage is None:
        return 0.0
    cached = usage.cached or 0
    fresh = (usage.prompt or 0) - cached
    cached_price = price.prompt if price.cached is None else price.cached
    return float(fresh * price.prompt + cached * cached_price + (usage.completion or 0) * price.completion) / 1e6


def last_turns(terminal: Terminal, session: Session, most: int = 12) -> None:
    """The last turn of a session, dimmed, at most so many lines of it."""
    for message in session.turns[-1].messages if session.turns else ():
        mark = ">" if message.role == "user" else " "
        lines = message.content.strip().split("\n")
        lines = lines if len(lines) <= most // 2 else [*lines[: most // 2 - 1], "…"]
        for line in lines:
            terminal.note(f"{mark} {line[: terminal.width * 2]}")
        if message.role == "assistant" and message.status != "complete":
            terminal.note(f"  ({message.status})")
    if session.unanswered:
        terminal.note("This question has no reply yet: /retry sends it.")


def _speaker(session: Session, message: Message) -> str:
    place = session.places.get(message.id)
    parts = [str(place + 1)] if place is not None and message.role == "user" else []
    parts += [message.role, *([message.model] if message.model else [])]
    parts += [message.status] if message.status != "complete" else []
    return show_line(" · ".join(parts))


def ago(time: str) -> str:
    """How long ago a record's time is, in words."""
    then = moment(time)
    if then is None:
        return ""
    seconds = (datetime.datetime.now(datetime.UTC) - then).total_seconds()
    if seconds < 90:
        return "just now"
    for unit, size, most in (
        ("min", 60, 90),
        ("h", 3600, 36),
        ("days", 86400, 14),
        ("weeks", 604800, 9),
        ("months", 2629800, 18),
    ):
        if seconds < size * most:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 31557600:.0f} years ago"
