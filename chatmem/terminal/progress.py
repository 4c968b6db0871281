"""A progress bar for long tasks, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from chatmem.terminal.terminal import Terminal, is_tty

T = TypeVar("T")
MIN_ITEMS = 20
"""No bar is shown for fewer items: it would only flicker."""


def progress(terminal: Terminal, items: Sequence[T], task: str) -> Iterator[T]:
    """Iterate over the items of a task, with a progress bar on `err`."""
    if not is_tty(terminal.err) or terminal.plain or len(items) < MIN_ITEMS:
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=terminal.err, no_color=not terminal.colors.accent), transient=True) as bar:
        yield from bar.track(items, description=task)
