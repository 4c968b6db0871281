"""What each benchmark is as a program: its rows as a table, or as JSON for the one that runs them all."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from tests.benchmarks.rows import Row, printed


def measured(rows: Callable[[bool], Iterable[Row]]) -> None:
    """Measure and print: `--quick` takes fewer and shorter samples, `--json` is one row a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples")
    parser.add_argument("--json", action="store_true", help="one row a line, as JSON")
    given = parser.parse_args()
    printed(rows(given.quick), given.json)
