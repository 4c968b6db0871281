"""The line below the prompt: where one is, who answers, how full the context is. Only what fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatmem.chat import Chat
from chatmem.memory import spec_of
from chatmem.names import shortened
from chatmem.screen.listing import money
from chatmem.screen.safe import show_line
from chatmem.screen.terminal import cell_width

if TYPE_CHECKING:
    from chatmem.assemble import Assembly

BAR = 10
"""Columns of the context bar."""


Part = tuple[str, ...]
"""Something to say, in words that are shorter and shorter."""


def parts(chat: Chat, assembly: Assembly) -> list[Part]:
    """What there is to say, the most important first. Asks the model's name, so the model must have been found."""
    view = chat.plan()
    share = min(1.0, view.tokens / max(1, view.budget))
    bar = "▰" * round(share * BAR) + "▱" * (BAR - round(share * BAR))
    name, model = show_line(chat.name), show_line(chat.choice.model.name)
    figure = f"{view.tokens:,}/{view.budget:,} {view.counter.how}"
    found: list[Part] = [
        (name, shortened(name, 20), shortened(name, 8)),
        (model, shortened(model, 20), shortened(model, 8)),
        (spec_of(view.strategy), view.strategy.name),
        (f"{bar} {figure}", figure, f"{share:.0%}"),
    ]
    replies = [m for m in chat.session.path if m.role == "assistant" and m.usage]
    if replies and (usage := replies[-1].usage) and usage.cached and usage.prompt:
        found.append((f"cache {usage.cached / usage.prompt:.0%}",))
    prices = assembly.config.settings.prices
    if prices and (spent := sum(money(m, prices) for m in replies)):
        found.append((f"spent {spent:.4f}",))
    if chat.fold and chat.fold.running:
        found.append(("folding",))
    elif chat.fold_error:
        found.append((f"no notes made: {show_line(chat.fold_error)[:50]}", "no notes made"))
    return found


def fitting(found: list[Part], width: int) -> str:
    """As many of the parts as fit on one line, in their order, the first ones in as many words as there is room for."""
    longest = max(map(len, found), default=0)
    for shorter in range(longest):
        words = [part[min(shorter, len(part) - 1)] for part in found]
        for count in range(len(words), min(4, len(words)) - 1, -1):
            line = " · ".join(words[:count])
            if cell_width(line) <= width:
                return line
    return shortened(found[0][-1], max(1, width)) if found else ""
