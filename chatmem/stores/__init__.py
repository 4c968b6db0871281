"""Where sessions are kept: the table of stores by the scheme of their URL."""

from __future__ import annotations

from pathlib import Path

from chatmem.errors import WrongUse
from chatmem.names import checked, shortened
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.memory import MemoryStore

__all__ = ["Log", "Outline", "Say", "Store", "open_store"]


def open_store(url: str, data: Path, user: str = "", say: Say = lambda line: None) -> Store:
    """The store a URL names: `file` (in the data directory) or `memory:`. Raises WrongUse."""
    folder = data / "users" / checked(user, "user") if user else data
    scheme = url.partition(":")[0]
    if url in ("file", "file:"):
        return JsonlStore(folder / "sessions", say)
    if scheme == "memory":
        return MemoryStore(say)
    raise WrongUse(f"There is no store for {shortened(scheme)!r}.", "There are: file, memory:")
