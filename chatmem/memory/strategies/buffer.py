"""buffer: the whole conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chatmem.config.schema import option_field
from chatmem.errors import Action, ContextBudgetError
from chatmem.memory.strategies.base import Strategy, TailContext, dates_field, recall_field, resolve_low_water


@dataclass(frozen=True)
class BufferStrategy(Strategy):
    """Send the whole conversation. Once it no longer fits, send the newest turns and say so."""

    name: ClassVar[str] = "buffer"
    example: ClassVar[str] = "buffer,on_overflow=error"

    on_overflow: Literal["trim", "error"] = option_field("trim", "What to do once it does not fit: trim or error.")
    recall_tokens: int | Literal["auto"] = recall_field()
    dates: bool = dates_field()

    def tail_start(self, context: TailContext) -> int:
        if context.fits(0):
            return 0
        if self.on_overflow == "error":
            raise ContextBudgetError(
                f"The conversation takes {context.tokens_from(0):,} tokens, but only {context.space:,} are available.",
                "Use a model with a larger context window, or another memory strategy.",
                Action("change_memory", "token-trim"),
            )
        return context.start_with_hysteresis(resolve_low_water("auto", context.budget))

    def notice(self, context: TailContext, start: int) -> str:
        return "" if start == 0 else "The conversation no longer fits. The oldest turns are not sent."
