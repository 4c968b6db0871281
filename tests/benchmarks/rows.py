"""What a benchmark says: one claim, its figure, and what stands beside it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table."""

    claim: str
    figure: str
    """Measured in this run; a ratio wherever there is something to compare with."""
    beside: str = ""
    """The peer it is compared with, or the limit it is held to."""
    spread: str = ""
    good: bool | None = None
    """Whether it keeps its limit; None where there is none, or where it could not be measured."""


def judged(claim: str, value: float, limit: float, unit: str = "", peer: str = "", spread: str = "") -> Row:
    """A row whose figure must not be above a limit."""
    beside = f"{peer}, ≤ {limit:g}{unit}" if peer else f"≤ {limit:g}{unit}"
    return Row(claim, f"{value:.2f}{unit}" if value < 10 else f"{value:,.0f}{unit}", beside, spread, value <= limit)


def missing(claim: str, peer: str) -> Row:
    """A row for what a peer was not there for."""
    return Row(claim, "not measured", f"{peer} could not be installed")


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


def spread(values: Sequence[float], unit: str = "", scale: float = 1.0) -> str:
    """The middle half of some values, as `1.2–1.5 ms`."""
    if len(values) < 4:
        return f"{min(values) * scale:.2f}–{max(values) * scale:.2f}{unit}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{low * scale:.2f}–{high * scale:.2f}{unit}"


def table(rows: Iterable[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| claim | figure | beside | middle half | |", "|---|---|---|---|---|"]
    marks = {True: "✓", False: "✗", None: ""}
    lines += [f"| {r.claim} | {r.figure} | {r.beside} | {r.spread} | {marks[r.good]} |" for r in rows]
    return "\n".join(lines)


def printed(rows: Iterable[Row], as_json: bool) -> None:
    """Rows on stdout: for the program that runs all benchmarks, or for a person."""
    if as_json:
        for row in rows:
            print(json.dumps(row), flush=True)
    else:
        print(table(rows))
