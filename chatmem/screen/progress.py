"""A bar for work that takes long, on a terminal; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from chatmem.screen.terminal import Terminal, is_tty

T = TypeVar("T")
FEW = 20
"""So little work that a bar would only flicker."""


def progress(terminal: Terminal, work: Sequence[T], what: str) -> Iterator[T]:
    """The pieces of some work, with a bar on `err` while they are done."""
    if not is_tty(terminal.err) or len(work) < FEW:
        yield from work
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=terminal.err, no_color=not terminal.colour), transient=True) as bar:
        yield from bar.track(work, description=what)
