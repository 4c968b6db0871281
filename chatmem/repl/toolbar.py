"""The line below the prompt: session, model, memory and context usage, as far as they fit."""

from __future__ import annotations

from chatmem.app import App
from chatmem.chat.chat import Chat
from chatmem.memory.strategies import format_spec
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.terminal import cell_width
from chatmem.text import truncate

BAR_WIDTH = 10
ESSENTIAL_ITEMS = 4
"""The first items are shortened before any of them is dropped."""

ToolbarItem = tuple[str, ...]
"""One item in several forms, each shorter than the previous one."""


def toolbar_items(chat: Chat, app: App) -> list[ToolbarItem]:
    """The items of the toolbar, most important first. Resolves the model, which may take a moment."""
    from chatmem.chat.usage import reply_cost
    from chatmem.terminal.context_view import limit_reason  # imported lazily: slow

    context = chat.plan()
    share = min(1.0, context.tokens / max(1, context.budget))
    bar = "▰" * round(share * BAR_WIDTH) + "▱" * (BAR_WIDTH - round(share * BAR_WIDTH))
    name, model = sanitize_line(chat.name), sanitize_line(chat.turn_config.model.name)
    usage = f"{context.tokens:,}/{context.budget:,} {context.counter.method}"
    items: list[ToolbarItem] = [
        (name, name, name, truncate(name, 20), truncate(name, 8)),
        (model, model, model, truncate(model, 20), truncate(model, 8)),
        (format_spec(context.strategy), context.strategy.name),
        (f"{bar} {usage}; {limit_reason(context)}", f"{bar} {usage}", usage, usage, f"{share:.0%}"),
    ]
    replies = [m for m in chat.session.path if m.role == "assistant" and m.usage]
    if replies and (reported := replies[-1].usage) and reported.cached and reported.prompt:
        items.append((f"cache {reported.cached / reported.prompt:.0%}",))
    if cost := sum(reply_cost(m, app.config.settings.prices) for m in replies):
        items.append((f"${cost:.4f}",))
    if chat.background.running:
        items.append(("summarising",))
    elif error := chat.background.error:
        items.append((f"summary failed: {sanitize_line(error)[:50]}", "summary failed"))
    return items


def fit_to_width(items: list[ToolbarItem], width: int) -> str:
    """As many items as fit on one line, in their order and in the longest forms that fit."""
    forms = max(map(len, items), default=0)
    for form in range(forms):
        words = [item[min(form, len(item) - 1)] for item in items]
        for count in range(len(words), min(ESSENTIAL_ITEMS, len(words)) - 1, -1):
            line = " · ".join(words[:count])
            if cell_width(line) <= width:
                return line
    return truncate(items[0][-1], max(1, width)) if items else ""
