"""The promise of a memory strategy, and the room it has: what it may look at to choose the tail."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from chatmem.session import Turn
from chatmem.settings import setting

LARGE = 16_384
"""From this budget on, 0.8 is low enough for the prompt cache; below, 0.6 costs least (measured)."""


@dataclass(frozen=True)
class Strategy(ABC):
    """Chooses from which turn on the conversation is sent word for word. Its fields are its settings."""

    name: ClassVar[str]
    number: ClassVar[str | None] = None
    """The setting that N means in `NAME:N`."""
    exact: ClassVar[Mapping[str, Any]] = {}
    """What `NAME:N` sets besides, so that it means exactly N."""
    example: ClassVar[str]
    summarises: ClassVar[bool] = False
    """Whether what falls out of the tail may be folded into summary parts."""

    @abstractmethod
    def tail(self, room: Room) -> int:
        """The index of the first turn of the tail; `len(room.turns)` for none."""

    def limit(self, budget: int) -> int:
        """The budget in tokens that this strategy makes of the model's."""
        tokens = getattr(self, "max_tokens", "auto")
        return min(budget, tokens) if isinstance(tokens, int) else budget

    def notice(self, room: Room, start: int) -> str:
        """A line for the reader if the tail is not what the strategy's name says."""
        return ""

    def recall(self, limit: int) -> int:
        """The most tokens that recalled lines may take of a budget of `limit`."""
        tokens = getattr(self, "recall_tokens", 0)
        return min(2400, limit * 3 // 10) if tokens == "auto" else min(tokens, limit)

    def table(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        pairs = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        return {name: value for name, value, default in pairs if value != default}


@dataclass
class Room:
    """The turns before the question, and how many tokens the tail of them may take.

    Costs are worked out from the end, as far as somebody asks. `limit` holds while everything fits; as soon as
    something must be left out, `reserve` of it is kept for what stands in for it. As long as the cut stays where
    it is, `spare` of that reserve is known not to be needed.
    """

    turns: Sequence[Turn]
    cost_of: Callable[[Turn], int | None]
    """What a turn adds to the tail: None if it cannot be sent, 0 if it is shown anyway (a pin)."""
    limit: int
    reserve: int = 0
    spare: int = 0
    cut: int | None = None
    """Where the tail of the last reply under the same settings began."""
    ends: Sequence[int] = ()
    """The indices right after the turns where summary parts end, ascending."""
    _sums: list[int] = field(default_factory=lambda: [0])

    def cost(self, start: int, enough: int | None = None) -> int:
        """The tokens of the turns from `start` on. Stops counting once it is over `enough`."""
        wanted = len(self.turns) - start
        sums = self._sums
        while len(sums) <= wanted and (enough is None or sums[-1] <= enough):
            sums.append(sums[-1] + (self.cost_of(self.turns[-len(sums)]) or 0))
        return sums[min(wanted, len(sums) - 1)]

    def fits(self, start: int) -> bool:
        limit = self.high(start)
        return self.cost(start, limit) <= limit

    def high(self, start: int) -> int:
        """The tokens that a tail from `start` may take before the cut moves."""
        if start == 0:
            return self.limit
        return self.limit - self.reserve + (self.spare if start == self.cut else 0)

    def longest(self, share: float = 1.0) -> int:
        """Where the longest run of whole newest turns begins that takes at most `share` of the limit.

        The newest turn stays even then, if the whole limit holds it.
        """
        tokens = int((self.limit - self.reserve) * share)
        start = len(self.turns)
        while start > 0 and self.cost(start - 1, tokens) <= tokens:
            start -= 1
        newest = next((i for i in range(start - 1, -1, -1) if self.cost_of(self.turns[i]) is not None), None)
        nothing = all(self.cost_of(turn) is None for turn in self.turns[start:])
        if nothing and newest is not None and self.cost(newest) <= self.limit:
            return newest
        return start

    def trimmed(self, low_water: float) -> int:
        """Where the tail begins if the cut moves only when over the limit, then down to `low_water` of it."""
        if self.fits(0) and (low_water == 1.0 or not self.cut):
            return 0
        if low_water < 1.0 and self.cut is not None and self.fits(self.cut):
            return self.cut
        return self.longest(low_water)


LowWater = float | Literal["auto"]


def low_water_setting(auto: str = "0.6, and 0.8 from 16384 up") -> Any:
    return setting("auto", f"When over budget, cut down to this share of it; auto is {auto}.", least=0.1, most=1.0)


def share(low_water: LowWater, limit: int) -> float:
    if isinstance(low_water, float):
        return low_water
    return 0.8 if limit >= LARGE else 0.6


def recall_setting(default: int | Literal["auto"] = 0) -> Any:
    return setting(
        default,
        "Tokens for lines found in what is left out; auto is up to 30 % of the budget, 0 is none.",
        least=0,
    )
