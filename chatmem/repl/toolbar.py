"""The line below the prompt: where one is, who answers, how full the context is. Only what fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatmem.chat import Chat
from chatmem.memory import spec_of
from chatmem.screen.listing import cell_width, money
from chatmem.screen.safe import show_line

if TYPE_CHECKING:
    from chatmem.assemble import Assembly

BAR = 10
"""Columns of the context bar."""


def parts(chat: Chat, assembly: Assembly) -> list[str]:
    """What there is to say, the most important first. Asks the model's name, so the model must have been found."""
    view = chat.plan()
    share = min(1.0, view.tokens / max(1, view.budget))
    bar = "▰" * round(share * BAR) + "▱" * (BAR - round(share * BAR))
    found = [
        show_line(chat.name),
        show_line(chat.choice.model.name),
        spec_of(view.strategy),
        f"{bar} {view.tokens:,}/{view.budget:,} {view.counter.how}",
    ]
    replies = [m for m in chat.session.path if m.role == "assistant" and m.usage]
    if replies and (usage := replies[-1].usage) and usage.cached and usage.prompt:
        found.append(f"cache {usage.cached / usage.prompt:.0%}")
    prices = assembly.config.settings.prices
    if prices and (spent := sum(money(m, prices) for m in replies)):
        found.append(f"spent {spent:.4f}")
    if chat.fold and chat.fold.running:
        found.append("folding")
    elif chat.fold_error:
        found.append(f"no notes made: {show_line(chat.fold_error)[:50]}")
    return found


def fitting(found: list[str], width: int) -> str:
    """As many of the parts as fit on one line, in their order."""
    line = found[0] if found else ""
    for part in found[1:]:
        for shown in (part, part.lstrip("▰▱ ")):  # a figure without its bar is better than none
            if cell_width(line) + 3 + cell_width(shown) <= width:
                line += f" · {shown}"
                break
    return line
