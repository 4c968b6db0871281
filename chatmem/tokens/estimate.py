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
    total = 0.0
    for run in _runs().finditer(text):
        total += _COST[run.lastgroup or "other"](run.end() - run.start())
    return math.ceil(total)


@cache
def _runs() -> re.Pattern[str]:
    """Matches runs of one kind of text. Compiled on first use: it takes 2 ms, which the prompt need not wait for."""
    return re.compile(
        r"(?P<word>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)"
        r"|(?P<kana>[\u3040-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)|(?P<blank>[ \t]+)|(?P<line>\s*\n\s*)"
        r"|(?P<mark>[!-/:-@\[-`{-~]+)|(?P<letters>[^\W\d_]+)|(?P<other>.)",
        re.DOTALL,
    )


_COST: dict[str, Callable[[int], float]] = {
    "word": lambda n: 1.0 if n <= 7 else 1.0 + 0.33 * (n - 7),
    "digits": lambda n: 1.27 * math.ceil(n / 3),
    "han": lambda n: 0.68 * n,
    "kana": lambda n: 0.66 * n,
    "hangul": lambda n: 0.77 * n,
    "blank": lambda n: 0.0,
    "line": lambda n: 0.6,
    "mark": lambda n: 0.88 if n == 1 else 0.42 + 0.375 * n,
    "letters": lambda n: 0.28 * n,
    "other": lambda n: 1.45,
}
"""The cost in tokens of a run of n characters.

Fitted by least squares of the relative error against o200k_base, over prose in seven languages, Python, JavaScript,
Markdown and JSON in pieces of 1,500 characters. Estimate divided by count: 0.87 (5th percentile) to 1.11 (95th).
"""
