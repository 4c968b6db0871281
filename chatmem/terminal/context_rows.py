"""What the context views show: the parts of the budget as a bar, and the turns, alone or in runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from chatmem.memory.plan import ContextPlan, Decision
from chatmem.terminal.sanitize import sanitize_line
from chatmem.text import truncate

MARKS = {
    "sent": "●",
    "shortened": "◒",
    "pinned": "◆",
    "summarised": "◐",
    "recalled": "↩",
    "dropped": "○",
    "excluded": "✕",
}
MIN_RUN = 4
"""How many turns in a row become one row."""
MAX_RUN_TITLE = 24

PARTS = (
    ("system", "S", "accent"),
    ("facts", "F", "good"),
    ("summary", "M", "good"),
    ("date", "D", "accent"),
    ("pins", "P", "warn"),
    ("tail", "T", "accent"),
    ("recalled", "R", "keyword"),
    ("question", "Q", "bold"),
    ("free", "·", "dim"),
)
"""The parts of the bar: name, letter and style."""


class TurnRow(NamedTuple):
    """What a view says of a turn, or of several turns in a row of which it says the same."""

    first: int
    last: int
    decision: str
    tokens: int
    title: str
    reason: str

    @property
    def numbers(self) -> str:
        return f"{self.first}–{self.last}" if self.first != self.last else str(self.first)


def bar_cells(breakdown: dict[str, int], width: int) -> list[tuple[str, str]]:
    """The bar as texts with their styles. Every part that is not empty has at least one character."""
    sizes = {name: breakdown.get(name, 0) for name, _, _ in PARTS}
    total = max(1, sum(sizes.values()))
    cells = {name: max(1, round(size * width / total)) if size else 0 for name, size in sizes.items()}
    widest = max(cells, key=lambda name: cells[name])
    cells[widest] = max(1, cells[widest] + width - sum(cells.values()))
    return [(letter * cells[name], style) for name, letter, style in PARTS if cells[name]]


def turn_rows(context: ContextPlan) -> Iterator[TurnRow]:
    """A row per turn of the path."""
    by_turn: dict[int, list[Decision]] = {}
    for decision in context.decisions():
        by_turn.setdefault(decision.turn, []).append(decision)
    for number, decisions in by_turn.items():
        turn = context.session.turn(number)
        main = next((d for d in decisions if d.decision == "recalled"), decisions[0])
        title = sanitize_line(turn.question.content[:200]) if turn else "(before the first question)"
        yield TurnRow(number, number, main.decision, sum(d.tokens for d in decisions), title, main.reason)


def runs(rows: Iterator[TurnRow]) -> Iterator[list[TurnRow]]:
    """The rows in groups: at least `MIN_RUN` of which the view says the same, or one."""
    for _, group in itertools.groupby(rows, lambda row: (row.decision, _without_figures(row.reason))):
        run = list(group)
        yield from [run] if len(run) >= MIN_RUN else [[row] for row in run]


def as_one(run: list[TurnRow]) -> TurnRow:
    """One row for a run."""
    if len(run) == 1:
        return run[0]
    title = f"{truncate(run[0].title, MAX_RUN_TITLE).rstrip('…')} … {truncate(run[-1].title, MAX_RUN_TITLE)}"
    reason, tokens = _without_figures(run[0].reason), sum(row.tokens for row in run)
    return run[0]._replace(last=run[-1].last, tokens=tokens, title=title, reason=reason)


def _without_figures(reason: str) -> str:
    """A reason without what differs from turn to turn."""
    return re.sub(r" without [\d,]+ tokens", "", reason)
