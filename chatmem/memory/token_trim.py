"""token-trim: the newest turns that fit a number of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from chatmem.memory.base import LowWater, Room, Strategy, low_water_setting, recall_setting, share
from chatmem.settings import setting


@dataclass(frozen=True)
class TokenTrim(Strategy):
    """Send the longest run of whole newest turns that fits; the cut moves seldom, for the prompt cache."""

    name: ClassVar[str] = "token-trim"
    number: ClassVar[str | None] = "max_tokens"
    exact: ClassVar[Mapping[str, Any]] = {"low_water": 1.0}
    example: ClassVar[str] = "token-trim:4000"

    max_tokens: int | Literal["auto"] = setting("auto", "The budget in tokens; auto is what the model takes.", least=1)
    low_water: LowWater = low_water_setting()
    recall_tokens: int | Literal["auto"] = recall_setting()

    def tail(self, room: Room) -> int:
        return room.trimmed(share(self.low_water, room.limit))
