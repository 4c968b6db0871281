"""summary: the newest turns that fit, and a summary of the turns before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chatmem.config.schema import option_field
from chatmem.memory.strategies.base import (
    LowWater,
    Strategy,
    TailContext,
    budget_field,
    dates_field,
    low_water_field,
    recall_field,
)


@dataclass(frozen=True)
class SummaryStrategy(Strategy):
    """Send the newest turns that fit, and a summary of the older ones that is made in the background."""

    name: ClassVar[str] = "summary"
    example: ClassVar[str] = "summary:4000,recall_tokens=0"
    spec_number: ClassVar[str | None] = "max_tokens"
    is_thrifty: ClassVar[bool] = True

    max_tokens: int | Literal["auto"] = budget_field()
    low_water: LowWater = low_water_field("0.5")
    summary_tokens: int | Literal["auto"] = option_field(
        "auto",
        "The most tokens of the summary. auto: about half of the budget, 4096 from 8192 on, 8192 from 65536 on.",
        minimum=0,
        former_name="notes_tokens",
    )
    recall_tokens: int | Literal["auto"] = recall_field("auto")
    dates: bool = dates_field(True)

    def summary_share(self, budget: int) -> int:
        """More than half of a small budget, for what a long conversation has to keep. The tail uses what stays free."""
        if self.summary_tokens != "auto":
            return min(self.summary_tokens, budget)
        return min(budget * 11 // 20, max(4096, min(8192, budget // 8)))

    def low_water_share(self, budget: int) -> float:
        """Lower than the mark of token-trim, since the summary stands for what falls out."""
        return 0.5 if self.low_water == "auto" else self.low_water

    def tail_start(self, context: TailContext) -> int:
        """As token-trim, but the cut falls where a summary segment ends, if that leaves enough space to grow."""
        previous = max(context.compacted, 0 if context.has_shrunk else context.previous_start or 0)
        if context.fits(previous):
            return previous
        low_water = self.low_water_share(context.budget)
        tokens = context.target - context.reserve
        ahead = [end for end in context.summary_boundaries if previous < end <= context.floor]
        fitting = (end for end in ahead if context.tokens_from(end) <= tokens * low_water)
        best = next(fitting, ahead[-1] if ahead else None)
        if best is not None and context.tokens_from(best) <= tokens * (1 + low_water) / 2:
            return best
        return max(previous, context.longest_tail(low_water))
