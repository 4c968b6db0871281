"""token-trim: the newest turns that fit a number of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chatmem.memory.strategies.base import (
    LowWater,
    Strategy,
    TailContext,
    budget_field,
    dates_field,
    low_water_field,
    recall_field,
    resolve_low_water,
)


@dataclass(frozen=True)
class TokenTrimStrategy(Strategy):
    """Send the newest whole turns that fit. The cut moves rarely, so that the prompt cache keeps hitting."""

    name: ClassVar[str] = "token-trim"
    example: ClassVar[str] = "token-trim:4000"
    spec_number: ClassVar[str | None] = "max_tokens"
    is_thrifty: ClassVar[bool] = True

    max_tokens: int | Literal["auto"] = budget_field()
    low_water: LowWater = low_water_field()
    recall_tokens: int | Literal["auto"] = recall_field()
    dates: bool = dates_field()

    def tail_start(self, context: TailContext) -> int:
        return context.start_with_hysteresis(self.low_water_share(context.budget))

    def low_water_share(self, budget: int) -> float:
        return resolve_low_water(self.low_water, budget)
