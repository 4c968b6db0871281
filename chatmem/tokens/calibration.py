"""How our token counts compare with what servers report."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from chatmem.history.records import MAX_TOKENS, Message

MIN_RATIO, MAX_RATIO = 0.4, 2.5
MAX_EXTRA = 4000
MIN_REPORTED = 256
"""The fewest reported tokens that can be the size of a truncated prompt. Some servers always report fewer."""
MIN_COUNTED = 64
"""A shorter prompt does not show that we count too much: long ones would exceed the budget."""
MAX_SCANNED = 1_000
"""How many messages are searched for reports."""
MAX_REPORTS = 6
"""How many of the newest reports are compared."""


class Calibration(NamedTuple):
    """A correction of our counts: every message is scaled by `ratio`, every request costs `extra` tokens more."""

    ratio: float
    extra: int = 0

    @classmethod
    def from_untrusted(cls, ratio: object, extra: object) -> Calibration | None:
        """The calibration that a server or a file claims, within bounds. None if it is not one."""
        if not isinstance(ratio, int | float) or not isinstance(extra, int) or not MIN_RATIO <= ratio <= MAX_RATIO:
            return None
        return cls(round(float(ratio), 2), max(0, min(extra, MAX_EXTRA)))


def calibrate(path: Iterable[Message], model: str) -> Calibration | None:
    """Compare the prompt sizes that servers reported for the last replies of `model` with our counts.

    The first messages of `path` are read, so pass the newest message first. None without a report. Two prompts of
    different length separate the ratio from what the server adds to each request. The newest report sets the level,
    since the next prompt shares most with it.
    """
    reports: list[tuple[int, int]] = []
    for message in itertools.islice(path, MAX_SCANNED):
        if message.role != "assistant" or message.model != model or not message.plan_digest or not message.usage:
            continue
        counted, prompt = message.plan_digest.get("counted"), message.usage.prompt
        if type(counted) is int and 0 < counted < MAX_TOKENS and prompt and prompt >= min(counted, MIN_COUNTED):
            reports.append((counted, prompt))
            if len(reports) == MAX_REPORTS:
                break
    reports = [(counted, prompt) for counted, prompt in reports if not looks_truncated(counted, prompt)]
    while len(reports) > 1 and plateaued(reports[0], reports[1]):
        reports.pop(0)
    if not reports:
        return None
    counted, prompt = reports[0]
    for other, other_prompt in reversed(reports[1:]):
        if abs(counted - other) * 4 >= counted:
            slope = (prompt - other_prompt) / (counted - other)
            extra = prompt - slope * counted
            if MIN_RATIO <= slope <= MAX_RATIO and 0 < extra < min(MAX_EXTRA, prompt / 2):
                return Calibration(round(slope, 2), round(prompt - round(slope, 2) * counted))
            break
    return Calibration(min(MAX_RATIO, max(MIN_RATIO, round(prompt / counted, 2))))


def looks_truncated(counted: int, reported: int) -> bool:
    """Whether a server reports so few tokens that it must have truncated the prompt silently."""
    return reported >= MIN_REPORTED and reported * 5 < counted * 2


def plateaued(current: tuple[int, int], previous: tuple[int, int]) -> bool:
    """Whether a longer prompt is reported to be exactly as long as the previous one: truncated to the window.

    Both arguments are (counted, reported).
    """
    return MIN_REPORTED <= current[1] == previous[1] and current[0] > previous[0] * 1.05
