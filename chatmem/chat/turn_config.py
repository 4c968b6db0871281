"""What a turn uses: the model, the memory strategy and the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatmem.history.records import Usage
from chatmem.memory.budget import Limits, limits_for
from chatmem.memory.strategies.base import Strategy
from chatmem.models.base import Model, Options, is_on_this_machine
from chatmem.tokens.counter import Counter


@dataclass(frozen=True)
class TurnConfig:
    """Everything that is configured for a turn."""

    model: Model
    strategy: Strategy
    counter_for: Callable[[str], Counter]
    """The counter for a model's name."""
    options: Options = field(default_factory=dict)
    system: str = ""
    learned_window: int | None = None
    """The context window that a refused request revealed. It replaces the model's own."""
    assumed_window: Callable[[], int] = lambda: 0
    """The window to assume while none is known. 0: the default."""
    facts_tokens: int = 0
    """The most tokens of the facts about the user. 0: none are sent."""
    makes_titles: bool = False
    """Whether a session without a title gets one after its first reply."""
    provider: str = ""
    """Whose models a server on this machine passes on. Empty: its own."""
    summary_model: Model | None = None
    """The model that writes summaries. None: the model of the chat."""
    record_model_fact: Callable[..., None] = lambda **facts: None
    """Remembers what a server revealed: `ratio=` and `extra=` of its token counts, `window=`, `proven_window=`."""
    cost_of: Callable[[Usage], float | None] = lambda usage: None
    """The cost of a reply in dollars. None if no price is known."""

    @property
    def window(self) -> int | None:
        return self.learned_window or self.model.window

    @property
    def limits(self) -> Limits:
        """What the model takes."""
        is_local = is_on_this_machine(self.model.server) and not self.provider
        return limits_for(self.window, self.options.get("max_tokens"), self.assumed_window(), is_local)


ResolveTurn = Callable[[Mapping[str, Any]], TurnConfig]
"""From the settings of a session to what its turns use."""
