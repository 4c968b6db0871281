"""Claims with limits, and the rows of the table with the figures that were measured."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """A statement about the program, and the limits of its figure."""

    name: str
    unit: str = " x"
    compared_to: str = ""
    """What the figure is a ratio to, or which peers were measured."""
    at_most: float | None = None
    at_least: float | None = None

    def row(self, value: float, spread: str = "", how: str = "", compared_to: str = "") -> Row:
        """The figure as a row, with how it was measured and the figures of peers in the same run."""
        good = None
        if self.at_most is not None or self.at_least is not None:
            is_low_enough = self.at_most is None or value <= self.at_most
            good = is_low_enough and (self.at_least is None or value >= self.at_least)
        parts = [compared_to or self.compared_to, f"≤ {self.at_most:g}" if self.at_most is not None else ""]
        parts.append(f"≥ {self.at_least:g}" if self.at_least is not None else "")
        return Row(self.name, f"{_number(value)}{self.unit}", ", ".join(filter(None, parts)), spread, how, good)

    def missing(self, peer: str) -> Row:
        """The row if a peer cannot be installed."""
        return Row(self.name, "not measured", f"{peer} cannot be installed")


class Row(NamedTuple):
    """One line of the table."""

    claim: str
    figure: str
    compared_to: str = ""
    spread: str = ""
    how: str = ""
    good: bool | None = None
    """Whether it is within its limits. None if there are none, or if it was not measured."""


def seconds(once: Callable[[], object], times: int, skip: int = 1) -> list[float]:
    """The seconds of each of `times` calls, sorted. `skip` calls before them are not counted."""
    for _ in range(skip):
        once()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        found.append(time.perf_counter() - start)
    return sorted(found)


def half(values: Sequence[float], unit: str = "", scale: float = 1.0) -> str:
    """The interquartile range of some values as `1.2–1.5 ms`, or their range if they are fewer than 4."""
    low, high = (min(values), max(values)) if len(values) < 4 else statistics.quantiles(values, n=4)[::2]
    return f"{_number(low * scale)}–{_number(high * scale)}{unit}"


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown."""
    marks = {True: "✓", False: "✗", None: ""}
    lines = ["| claim | figure | compared to | spread | measured | |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.claim} | {r.figure} | {r.compared_to} | {r.spread} | {r.how} | {marks[r.good]} |" for r in rows]
    return "\n".join(lines)


def measured(rows: Callable[[bool], Iterator[Row]]) -> None:
    """The main function of a benchmark: prints its rows as a table, or as JSON for `python -m tests.benchmarks`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    parser.add_argument("--json", action="store_true", help="one row per line, as JSON")
    given = parser.parse_args()
    if not given.json:
        print(table(rows(given.quick)))
        return
    for row in rows(given.quick):
        print(json.dumps(row), flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
