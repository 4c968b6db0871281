"""What a benchmark says: claims with their limits, and a row for each with the figure that was measured."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """Something that is said of the program, and what it is held to."""

    name: str
    unit: str = " x"
    beside: str = ""
    """What the figure is a ratio to, or who stands beside it."""
    most: float | None = None
    least: float | None = None

    def row(self, value: float, spread: str = "", how: str = "", beside: str = "") -> Row:
        """The figure as a row, with how it was measured and what a peer had in the same run."""
        good = None
        if self.most is not None or self.least is not None:
            good = value <= (self.most if self.most is not None else value) and value >= (self.least or 0.0)
        words = [beside or self.beside, f"≤ {self.most:g}" if self.most is not None else ""]
        words.append(f"≥ {self.least:g}" if self.least is not None else "")
        return Row(self.name, f"{_number(value)}{self.unit}", ", ".join(filter(None, words)), spread, how, good)

    def missing(self, peer: str) -> Row:
        """The row where a peer could not be installed: nothing is guessed."""
        return Row(self.name, "not measured", f"{peer} could not be installed")


class Row(NamedTuple):
    """One line of the table."""

    claim: str
    figure: str
    beside: str = ""
    spread: str = ""
    how: str = ""
    good: bool | None = None
    """Whether it keeps its limit; None where there is none, or where it could not be measured."""


def seconds(once: Callable[[], object], times: int, skip: int = 1) -> list[float]:
    """The seconds of each of so many calls, sorted, after some that do not count."""
    for _ in range(skip):
        once()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        found.append(time.perf_counter() - start)
    return sorted(found)


def half(values: Sequence[float], unit: str = "", scale: float = 1.0) -> str:
    """The middle half of some values, as `1.2–1.5 ms`; of few, all they span."""
    low, high = (min(values), max(values)) if len(values) < 4 else statistics.quantiles(values, n=4)[::2]
    return f"{_number(low * scale)}–{_number(high * scale)}{unit}"


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown."""
    marks = {True: "✓", False: "✗", None: ""}
    lines = ["| claim | figure | beside | spread | measured | |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.claim} | {r.figure} | {r.beside} | {r.spread} | {r.how} | {marks[r.good]} |" for r in rows]
    return "\n".join(lines)


def measured(rows: Callable[[bool], Iterator[Row]]) -> None:
    """What each benchmark is as a program: its rows as a table, or as JSON for the one that runs them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    parser.add_argument("--json", action="store_true", help="one row a line, as JSON")
    given = parser.parse_args()
    if not given.json:
        print(table(rows(given.quick)))
        return
    for row in rows(given.quick):
        print(json.dumps(row), flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
