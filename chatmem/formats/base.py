"""The promise of a format: a session as something else, or back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chatmem.session import Session


@dataclass(frozen=True)
class Format:
    """One way to write a session down."""

    name: str
    ending: str
    """The end of a file name that means this format, with its dot."""
    write: Callable[[Session], str]
