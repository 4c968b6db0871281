"""The interface of a memory strategy, and what it may look at."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from chatmem.config.schema import option_field
from chatmem.history.session import Turn

LARGE_BUDGET = 16_384
"""From this budget on, a low water mark of 0.8 serves the prompt cache best; below, 0.6 does (measured)."""
MAX_RETRIEVAL_TOKENS = 2_400


@dataclass(frozen=True)
class Strategy(ABC):
    """Chooses the turn from which the conversation is sent verbatim. Its fields are its settings.

    The first line of a strategy's docstring is its help text.
    """

    name: ClassVar[str]
    example: ClassVar[str]
    spec_number: ClassVar[str | None] = None
    """The setting that N stands for in the spec `NAME:N`."""
    spec_implies: ClassVar[Mapping[str, Any]] = {}
    """Further settings that `NAME:N` implies, so that it means exactly N."""

    @abstractmethod
    def tail_start(self, context: TailContext) -> int:
        """The index of the first turn that is sent verbatim; `len(context.turns)` for none."""

    def budget(self, limit: int) -> int:
        """The budget in tokens that this strategy makes of the model's limit."""
        tokens = getattr(self, "max_tokens", "auto")
        return min(limit, tokens) if isinstance(tokens, int) else limit

    def notice(self, context: TailContext, start: int) -> str:
        """A notice for the user if the tail is not what the name of the strategy promises. Empty for none."""
        return ""

    def retrieval_share(self, budget: int) -> int:
        """The most tokens that retrieved lines may take. 0 if nothing is retrieved."""
        tokens = getattr(self, "recall_tokens", 0)
        return min(MAX_RETRIEVAL_TOKENS, budget * 3 // 10) if tokens == "auto" else min(tokens, budget)

    def summary_share(self, budget: int) -> int:
        """The most tokens that the summary may take. 0 if turns that leave the tail are not summarised."""
        return 0

    def low_water_share(self, budget: int) -> float:
        """The share of the budget down to which the tail is cut once it is over the budget."""
        return 1.0

    def to_mapping(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        pairs = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        return {name: value for name, value, default in pairs if value != default}


@dataclass
class TailContext:
    """The turns before the question, and how many tokens a tail of them may take.

    Costs are computed from the newest turn on, only as far as they are needed. `limit` applies while everything fits.
    As soon as something is left out, `reserve` tokens of it are kept for what replaces it: summary and retrieved lines.
    While the cut stays at `previous_start`, `unused_reserve` tokens of that are known not to be needed.
    """

    turns: Sequence[Turn]
    turn_cost: Callable[[Turn], int | None]
    """What a turn adds to the tail: None if it cannot be sent, 0 if it is sent anyway (pinned)."""
    limit: int
    reserve: int = 0
    unused_reserve: int = 0
    previous_start: int | None = None
    """Where the tail of the last reply under the same settings began."""
    summary_boundaries: Sequence[int] = ()
    """The indices right after the turns where summary segments end, ascending."""
    _cumulative: list[int] = field(default_factory=lambda: [0])

    def tokens_from(self, start: int, enough: int | None = None) -> int:
        """The tokens of the turns from `start` on. Stops counting above `enough`."""
        wanted = len(self.turns) - start
        cumulative = self._cumulative
        while len(cumulative) <= wanted and (enough is None or cumulative[-1] <= enough):
            cumulative.append(cumulative[-1] + (self.turn_cost(self.turns[-len(cumulative)]) or 0))
        return cumulative[min(wanted, len(cumulative) - 1)]

    def fits(self, start: int) -> bool:
        limit = self.limit_from(start)
        return self.tokens_from(start, limit) <= limit

    def limit_from(self, start: int) -> int:
        """The tokens that a tail from `start` may take before the cut moves."""
        if start == 0:
            return self.limit
        return self.limit - self.reserve + (self.unused_reserve if start == self.previous_start else 0)

    def longest_tail(self, share: float = 1.0) -> int:
        """The start of the longest run of whole newest turns that takes at most `share` of the limit.

        The newest turn is kept even above that share, as long as the whole limit holds it.
        """
        tokens = int((self.limit - self.reserve) * share)
        start = len(self.turns)
        while start > 0 and self.tokens_from(start - 1, tokens) <= tokens:
            start -= 1
        newest = next((i for i in range(start - 1, -1, -1) if self.turn_cost(self.turns[i]) is not None), None)
        is_empty = all(self.turn_cost(turn) is None for turn in self.turns[start:])
        if is_empty and newest is not None and self.tokens_from(newest) <= self.limit:
            return newest
        return start

    def start_with_hysteresis(self, low_water: float) -> int:
        """The start of the tail if the cut moves only when over the limit, and then down to `low_water` of it."""
        if self.fits(0) and (low_water == 1.0 or not self.previous_start):
            return 0
        if low_water < 1.0 and self.previous_start is not None and self.fits(self.previous_start):
            return self.previous_start
        return self.longest_tail(low_water)


LowWater = float | Literal["auto"]


def low_water_field(auto: str = "0.6, or 0.8 from 16384 tokens up") -> Any:
    return option_field(
        "auto", f"Once over the budget, cut down to this share of it. auto: {auto}.", minimum=0.1, maximum=1.0
    )


def resolve_low_water(low_water: LowWater, budget: int) -> float:
    """The low water mark as a share of the budget."""
    if isinstance(low_water, float):
        return low_water
    return 0.8 if budget >= LARGE_BUDGET else 0.6


def recall_field(default: int | Literal["auto"] = 0) -> Any:
    return option_field(
        default,
        "Tokens for lines retrieved from what is left out. auto: up to 30 % of the budget. 0: none.",
        minimum=0,
    )
