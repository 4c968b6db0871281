"""buffer: the whole conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chatmem.errors import DoesNotFit
from chatmem.memory.base import Room, Strategy, recall_setting, share
from chatmem.settings import setting


@dataclass(frozen=True)
class Buffer(Strategy):
    """Send everything; when it no longer fits, the newest turns that do, and say so."""

    name: ClassVar[str] = "buffer"
    example: ClassVar[str] = "buffer,on_overflow=error"

    on_overflow: Literal["trim", "error"] = setting("trim", "What to do when it does not fit: trim, or error.")
    recall_tokens: int | Literal["auto"] = recall_setting()

    def tail(self, room: Room) -> int:
        if room.fits(0):
            return 0
        if self.on_overflow == "error":
            raise DoesNotFit(
                f"The conversation takes {room.cost(0):,} tokens, {room.limit:,} are left for it.",
                "Choose another memory (/memory token-trim), a model with a larger window, or start a /new session.",
            )
        return room.trimmed(share("auto", room.limit))

    def notice(self, room: Room, start: int) -> str:
        return "" if start == 0 else "The whole conversation no longer fits: older turns are left out."
