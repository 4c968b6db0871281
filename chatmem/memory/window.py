"""window: the last few turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from chatmem.memory.base import Room, Strategy, recall_setting, share
from chatmem.settings import setting


@dataclass(frozen=True)
class Window(Strategy):
    """Send the last turns, whole; with slack the cut moves in blocks, so that the prompt cache keeps hitting."""

    name: ClassVar[str] = "window"
    number: ClassVar[str | None] = "turns"
    exact: ClassVar[Mapping[str, Any]] = {"slack": 0, "max_messages": None}
    example: ClassVar[str] = "window:6"

    turns: int = setting(10, "How many turns before the question are sent.", least=0)
    slack: int = setting(5, "How many turns more may gather before the cut moves.", least=0)
    max_messages: int | None = setting(None, "Send at most this many messages of them.", least=0, example=20)
    recall_tokens: int | Literal["auto"] = recall_setting()

    def tail(self, room: Room) -> int:
        start = self._window(room)
        if room.fits(start):
            return start
        return max(start, room.trimmed(share("auto", room.limit)))

    def notice(self, room: Room, start: int) -> str:
        if start <= self._window(room):
            return ""
        return f"{self.turns} turns do not fit: older ones of them are left out."

    def _window(self, room: Room) -> int:
        newest = self._from(room, self.turns)
        oldest = self._from(room, self.turns + self.slack)
        start = room.cut if room.cut is not None and oldest <= room.cut <= newest else None
        if start is None:
            start = 0 if oldest == 0 and room.cut is None else newest
        return start

    def _from(self, room: Room, count: int) -> int:
        """Where the last `count` turns that can be sent begin."""
        start, messages = len(room.turns), 0
        while start > 0 and count > 0:
            if room.cost_of(room.turns[start - 1]) is not None:
                count -= 1
                messages += 2
                if self.max_messages is not None and messages > self.max_messages:
                    break
            start -= 1
        return start
