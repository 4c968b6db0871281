"""summary: the newest turns that fit, and notes on what came before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chatmem.memory.base import LARGE, LowWater, Room, Strategy, low_water_setting, recall_setting
from chatmem.settings import setting


@dataclass(frozen=True)
class SummaryStrategy(Strategy):
    """Send the newest turns that fit, and fold what falls out into notes, in the background."""

    name: ClassVar[str] = "summary"
    number: ClassVar[str | None] = "max_tokens"
    example: ClassVar[str] = "summary:4000,recall_tokens=0"
    summarises: ClassVar[bool] = True

    max_tokens: int | Literal["auto"] = setting(
        "auto", "The budget in tokens; auto is at most 16384 of what the model takes.", least=1
    )
    low_water: LowWater = low_water_setting("0.5")
    notes_tokens: int | Literal["auto"] = setting(
        "auto", "Tokens for the notes; auto is a quarter of the budget, more of a small one.", least=0
    )
    recall_tokens: int | Literal["auto"] = recall_setting("auto")

    def limit(self, budget: int) -> int:
        return min(budget, LARGE if self.max_tokens == "auto" else self.max_tokens)

    def notes(self, limit: int) -> int:
        """The most tokens that the notes may take of a budget of `limit`."""
        if self.notes_tokens != "auto":
            return min(self.notes_tokens, limit)
        return min(4096, max(limit // 4, min(700, limit // 3)))

    @property
    def low(self) -> float:
        """The share of the limit to cut down to: lower than token-trim's, since what falls out is in the notes."""
        return 0.5 if self.low_water == "auto" else self.low_water

    def tail(self, room: Room) -> int:
        """As token-trim, but the cut falls where a part ends, if that leaves room enough to grow."""
        cut = room.cut or 0
        if room.fits(cut):
            return cut
        low = self.low
        tokens = room.limit - room.reserve
        ahead = [end for end in room.ends if end > cut]
        best = next((end for end in ahead if room.cost(end) <= tokens * low), ahead[-1] if ahead else None)
        if best is not None and room.cost(best) <= tokens * (1 + low) / 2:
            return best
        return max(cut, room.longest(low))
