"""Tables on a terminal, tab-separated lines into a pipe."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence

from chatmem.history.facts import Fact
from chatmem.history.records import parse_time
from chatmem.stores import DeletedSession, SessionInfo
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.terminal import Terminal, cell_width

MIN_FLEXIBLE_WIDTH = 12

_UNITS = (
    ("min", 60, 90),
    ("h", 3600, 36),
    ("days", 86400, 14),
    ("weeks", 604800, 9),
    ("months", 2629800, 18),
)
"""Units of relative times: name, seconds, and up to how many of them are shown."""


def print_sessions(terminal: Terminal, sessions: Sequence[SessionInfo], numbered: bool = False) -> None:
    """Print sessions in columns: on a terminal with how long ago they were used, into a pipe with the time."""
    headings: tuple[str, ...] = ("name", "title", "last used", "turns", "model", "memory")
    used = relative_time if terminal.interactive else str
    rows: list[tuple[str, ...]]
    rows = [(s.name, _title(s), used(s.last_active), str(s.turns), s.model or "", s.memory or "") for s in sessions]
    if numbered:
        headings, rows = ("n", *headings), [(str(number), *row) for number, row in enumerate(rows, 1)]
        print_columns(terminal, headings, rows, numbers={0, 4}, flexible=2)
    else:
        print_columns(terminal, headings, rows, numbers={3}, flexible=1)


def print_trash(terminal: Terminal, deleted: Sequence[DeletedSession]) -> None:
    """Print deleted sessions in columns, like `print_sessions`."""
    time = relative_time if terminal.interactive else str
    rows = [(entry.name, entry.title, time(entry.deleted), str(entry.turns)) for entry in deleted]
    print_columns(terminal, ("name", "title", "deleted", "turns"), rows, numbers={3}, flexible=1)


def print_facts(terminal: Terminal, facts: Sequence[Fact], hidden: Collection[str] = ()) -> None:
    """Print facts with their numbers and sources. Those in `hidden` are marked: a session is not told them."""
    rows = [
        (str(number), fact.text + (" (not told here)" if fact.id in hidden else ""), fact.source)
        for number, fact in enumerate(facts, 1)
    ]
    print_columns(terminal, ("n", "fact", "from"), rows, numbers={0}, flexible=1)


def print_columns(
    terminal: Terminal,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[int] = (),
    flexible: int = 0,
    always_headings: bool = False,
) -> None:
    """Print rows in columns. Columns in `numbers` are right-aligned.

    If the terminal is too narrow, the last columns are dropped and the `flexible` one shrinks. So are last columns
    that are empty. Into a pipe, cells are separated by tabs, and the headings are printed only with `always_headings`.
    """
    rows = [[sanitize_line(cell) for cell in row] for row in rows]
    if not terminal.interactive:
        if lines := [*([headings] if always_headings else ()), *rows]:
            terminal.write("\n".join(map("\t".join, lines)))
        return
    columns = max((number for row in rows for number, cell in enumerate(row, 1) if cell), default=len(headings))
    table = [row[:columns] for row in [list(headings), *rows]]
    widths = _column_widths(table, terminal.width, flexible)
    lines = []
    for number, row in enumerate(table):
        cells = [pad(cell, width, i in numbers) for i, (cell, width) in enumerate(zip(row, widths, strict=False))]
        line = "  ".join(cells).rstrip()
        lines.append((terminal.styled(line, "dim", terminal.out) if number == 0 else line) + "\n")
    terminal.raw("".join(lines))


def _column_widths(table: Sequence[Sequence[str]], total: int, flexible: int) -> list[int]:
    """The widths of the columns that fit into `total`, which are the first ones."""
    widths = [max(cell_width(row[i]) for row in table) for i in range(len(table[0]))]
    if flexible and sum(widths) + 2 * len(widths) > total:
        widths[0] = min(widths[0], max(MIN_FLEXIBLE_WIDTH, total // 3))  # one long name must not hide all columns
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) - widths[flexible] + MIN_FLEXIBLE_WIDTH > total:
        if len(widths) - 1 == flexible:
            break
        widths.pop()
    excess = sum(widths) + 2 * (len(widths) - 1) - total
    if excess > 0:
        widths[flexible] = max(1, widths[flexible] - excess)
    return widths


def pad(text: str, width: int, right: bool = False) -> str:
    """The text in exactly `width` columns, truncated with an ellipsis if necessary."""
    text = text[: 8 * width]  # of zero-width characters, a few are enough
    if cell_width(text) > width:
        whole = text
        while text and cell_width(text) > width - 1:
            text = text[:-1]
        if not whole[len(text) : len(text) + 1].isspace() and (space := text.rfind(" ")) > len(text) // 2:
            text = text[:space]  # no word is cut
        text = text.rstrip() + "…"
    spaces = " " * (width - cell_width(text))
    return spaces + text if right else text + spaces


def fit_around(text: str, position: int, width: int) -> str:
    """The text in exactly `width` columns, from such a place on that what stands at a position is seen."""
    if position > width // 2 and cell_width(text) > width:
        text = "…" + text[position - width // 2 :]
    return pad(text, width)


def relative_time(time: str) -> str:
    """How long ago a record's time is, in words."""
    then = parse_time(time)
    if then is None:
        return ""
    seconds = (datetime.datetime.now(datetime.UTC) - then).total_seconds()
    if seconds < 90:
        return "just now"
    for unit, size, limit in _UNITS:
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 31557600:.0f} years ago"


def _title(session: SessionInfo) -> str:
    """The title, and the owner if another user shares the session."""
    if session.owner is None:
        return session.title
    return f"shared by {session.owner or 'the default user'}: {session.title}"
