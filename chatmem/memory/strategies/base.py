"""The interface of a memory strategy, and what it may look at."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from chatmem.config.schema import option_field
from chatmem.history.session import Turn
from chatmem.memory.budget import Budget, Limits

LARGE_BUDGET = 16_384
"""From this budget on, a low water mark of 0.8 serves the prompt cache best; below, 0.6 does (measured)."""
MAX_RETRIEVAL_TOKENS = 6_500
MAX_RETRIEVAL_RESERVE = 2_048


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

    is_thrifty: ClassVar[bool] = False
    """Whether an automatic budget stays below the limit of a model with a large context window."""

    @abstractmethod
    def tail_start(self, context: TailContext) -> int:
        """The index of the first turn that is sent verbatim; `len(context.turns)` for none."""

    def budget(self, limits: Limits) -> Budget:
        """The budget that this strategy makes of what the model takes. It is hard if the user gave a number."""
        tokens = getattr(self, "max_tokens", "auto")
        if isinstance(tokens, int):
            return Budget(min(tokens, limits.limit), is_hard=tokens <= limits.limit)
        return Budget(min(limits.limit, limits.soft_budget) if self.is_thrifty else limits.limit)

    @property
    def sends_newest_turn(self) -> bool:
        """Whether the newest turn is sent in any case, shortened if it has to be."""
        return True

    def notice(self, context: TailContext, start: int) -> str:
        """A notice for the user if the tail is not what the name of the strategy promises. Empty for none."""
        return ""

    def retrieval_share(self, budget: int) -> int:
        """The most tokens that retrieved passages may take. 0 if nothing is retrieved."""
        tokens = getattr(self, "recall_tokens", 0)
        return min(MAX_RETRIEVAL_TOKENS if tokens == "auto" else tokens, budget * 2 // 5)

    def retrieval_reserve(self, budget: int) -> int:
        """The tokens that the tail leaves for retrieved passages once a turn is left out."""
        return min(self.retrieval_share(budget), budget // 8, MAX_RETRIEVAL_RESERVE)

    @property
    def tells_date(self) -> bool:
        """Whether the model is told today's date."""
        return bool(getattr(self, "dates", False))

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

    Costs are computed from the newest turn on, only as far as they are needed. As soon as something is left out,
    `reserve` tokens are kept for what replaces it: summary and retrieved passages.
    """

    turns: Sequence[Turn]
    turn_cost: Callable[[Turn], int | None]
    """What a turn adds to the tail: None if it cannot be sent, 0 if it is sent anyway (pinned)."""
    budget: int
    """The budget of the whole context."""
    space: int
    """The tokens that a tail and the reserve may take before the cut moves."""
    target: int
    """The tokens that they may take of the budget. Less than `space` if the budget is soft."""
    reserve: int = 0
    previous_start: int | None = None
    """Where the tail of the last reply under the same settings began."""
    previous_reserve: int = 0
    """The part of the reserve that is needed while the cut stays there."""
    floor: int = 0
    """The newest turns, which stay in the tail when the cut moves: from this index on."""
    compacted: int = 0
    """The index after the turns that the user had summarised, which are not sent verbatim any more."""
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

    @property
    def has_shrunk(self) -> bool:
        """Whether all turns fit into nine tenths of the budget again. Then the previous cut no longer counts."""
        tokens = self.target - self.budget // 10
        return self.tokens_from(0, tokens) <= tokens

    def fits(self, start: int) -> bool:
        """Whether the cut may stay at `start`."""
        space = self.space_from(start)
        return self.tokens_from(start, space) <= space

    def space_from(self, start: int) -> int:
        """The tokens that a tail from `start` may take before the cut moves."""
        if start == 0:
            return self.space
        return self.space - (self.previous_reserve if start == self.previous_start else self.reserve)

    def longest_tail(self, share: float = 1.0) -> int:
        """The start of the longest run of whole newest turns within a share of the budget, at most the floor."""
        tokens = int((self.target - self.reserve) * share)
        start = len(self.turns)
        while start > 0 and self.tokens_from(start - 1, tokens) <= tokens:
            start -= 1
        return min(start, self.floor)

    def start_with_hysteresis(self, low_water: float) -> int:
        """The start of the tail: the previous one while it fits, otherwise one at `low_water` of the budget."""
        if self.fits(0) and (low_water == 1.0 or not self.previous_start or self.has_shrunk):
            return 0
        if low_water < 1.0 and self.previous_start is not None and self.fits(self.previous_start):
            return self.previous_start
        return self.longest_tail(low_water)


LowWater = float | Literal["auto"]


def low_water_field(auto: str = "0.6, or 0.8 from 16384 tokens up") -> Any:
    return option_field(
        "auto", f"Once over the budget, cut down to this share of it. auto: {auto}.", minimum=0.1, maximum=1.0
    )


def budget_field() -> Any:
    return option_field(
        "auto",
        "The budget in tokens. auto: the limit of the model, at most 65536, or 16384 on this machine.",
        minimum=1,
    )


def resolve_low_water(low_water: LowWater, budget: int) -> float:
    """The low water mark as a share of the budget."""
    if isinstance(low_water, float):
        return low_water
    return 0.8 if budget >= LARGE_BUDGET else 0.6


def dates_field(default: bool = False) -> Any:
    return option_field(default, "Whether the model is told today's date.")


def recall_field(default: int | Literal["auto"] = 0) -> Any:
    return option_field(
        default,
        "Tokens for lines retrieved from what is left out. auto: up to 40 % of the budget. 0: none.",
        minimum=0,
    )
