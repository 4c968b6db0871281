"""A token estimate by script and kind of text, for models whose encoding is not on this machine.

Each run of characters costs what such runs cost on average in o200k_base.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return math.ceil(sum(map(_run_costs().__getitem__, _runs().findall(text))))


class _RunCosts(dict[str, float]):
    """The cost of each run of characters. Those of short runs, such as words, are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()), re.DOTALL)

    def __missing__(self, run: str) -> float:
        match = self._kinds.match(run)
        cost = _COST[match.lastgroup](len(run)) if match and match.lastgroup else 0.0
        if len(run) <= MAX_KEPT_CHARS:
            if len(self) >= MAX_KEPT_RUNS:
                self.clear()
            self[run] = cost
        return cost


@cache
def _run_costs() -> _RunCosts:
    return _RunCosts()


@cache
def _runs() -> re.Pattern[str]:
    """Matches runs of one kind of text. Compiled on first use: it takes 2 ms, which the prompt need not wait for."""
    return re.compile("|".join(_PATTERNS.values()), re.DOTALL)


MAX_KEPT_CHARS, MAX_KEPT_RUNS = 24, 20_000

_PATTERNS = {
    "word": "[A-Za-z]+",
    "digits": "[0-9]+",
    "han": r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+",
    "kana": r"[\u3040-\u30ff]+",
    "hangul": r"[\uac00-\ud7af]+",
    "blank": r"[ \t\r]+",
    "line": r"\n\s*",
    "space": r"[^\S \t\r\n]+",
    "mark": r"[!-/:-@\[-`{-~]+",
    "letters": r"[^\W\d_]+",
    "other": ".",
}
_COST: dict[str, Callable[[int], float]] = {
    "word": lambda n: 1.0 if n <= 7 else 1.0 + 0.33 * (n - 7),
    "digits": lambda n: 1.27 * math.ceil(n / 3),
    "han": lambda n: 0.68 * n,
    "kana": lambda n: 0.66 * n,
    "hangul": lambda n: 0.77 * n,
    "blank": lambda n: 0.0,
    "line": lambda n: 0.6,
    "space": lambda n: 0.9 * n,
    "mark": lambda n: 0.88 if n == 1 else 0.42 + 0.375 * n,
    "letters": lambda n: 0.28 * n,
    "other": lambda n: 1.45,
}
"""The cost in tokens of a run of n characters.

Fitted by least squares of the relative error against o200k_base, over prose in seven languages, Python, JavaScript,
Markdown and JSON in pieces of 1,500 characters. Estimate divided by count: 0.87 (5th percentile) to 1.11 (95th).
"""
