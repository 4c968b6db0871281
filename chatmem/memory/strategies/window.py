"""window: the last few turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from chatmem.config.schema import option_field
from chatmem.memory.strategies.base import Strategy, TailContext, dates_field, recall_field, resolve_low_water


@dataclass(frozen=True)
class WindowStrategy(Strategy):
    """Send the last turns. With slack, the cut moves in blocks, so that the prompt cache keeps hitting."""

    name: ClassVar[str] = "window"
    example: ClassVar[str] = "window:6"
    spec_number: ClassVar[str | None] = "turns"
    spec_implies: ClassVar[Mapping[str, Any]] = {"slack": 0, "max_messages": None}

    turns: int = option_field(10, "How many turns before the question are sent.", minimum=0)
    slack: int = option_field(5, "How many more turns may accumulate before the cut moves.", minimum=0)
    max_messages: int | None = option_field(None, "Send at most this many messages.", minimum=0, example=20)
    recall_tokens: int | Literal["auto"] = recall_field()
    dates: bool = dates_field()

    @property
    def sends_newest_turn(self) -> bool:
        return self.turns > 0 and self.max_messages not in (0, 1)

    def tail_start(self, context: TailContext) -> int:
        start = self._window_start(context)
        if context.fits(start):
            return start
        return max(start, context.start_with_hysteresis(resolve_low_water("auto", context.budget)))

    def notice(self, context: TailContext, start: int) -> str:
        left_out = context.turns[self._window_start(context) : start]
        if all(context.turn_cost(turn) is None for turn in left_out):
            return ""
        return f"{self.turns} turns do not fit into the token budget. The oldest of them are not sent."

    def _window_start(self, context: TailContext) -> int:
        newest = self._start_of_last(context, self.turns)
        oldest = self._start_of_last(context, self.turns + self.slack)
        previous = context.previous_start
        if previous is not None and oldest <= previous <= newest:
            return previous
        return 0 if oldest == 0 and previous is None else newest

    def _start_of_last(self, context: TailContext, count: int) -> int:
        """The index where the last `count` sendable turns begin."""
        start, messages = len(context.turns), 0
        while start > 0 and count > 0:
            if context.turn_cost(context.turns[start - 1]) is not None:
                count -= 1
                messages += 2
                if self.max_messages is not None and messages > self.max_messages:
                    break
            start -= 1
        return start
