"""A progress bar for long tasks, on a terminal only."""

from __future__ import annotations

import contextlib
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


@contextlib.contextmanager
def waiting(terminal: Terminal, task: str) -> Iterator[None]:
    """Show on `err` that the block is at work, and for how many seconds."""
    if not is_tty(terminal.err) or terminal.plain:
        terminal.info(f"{task}.")
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=terminal.err, no_color=not terminal.colors.accent)
    columns = SpinnerColumn(), TextColumn(task, markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task("", total=None)
        yield
