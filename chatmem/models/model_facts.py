"""What was learned about models: how their token counts compare with ours, and how large their windows are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatmem.paths import atomic_write

MAX_MODELS = 500
"""How many models are remembered. The least recently updated ones are dropped first."""


class ModelFacts:
    """A small JSON file of facts by server and model. It is a cache: it may be deleted, write errors are ignored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, dict[str, Any]] | None = None

    def get(self, server: str, model: str, fact: str) -> Any:
        found = self._load().get(f"{server} {model}")
        return found.get(fact) if isinstance(found, dict) else None

    def put(self, server: str, model: str, **facts: Any) -> None:
        self._facts = None  # other processes write it too
        key, known = f"{server} {model}", self._load()
        old = known.pop(key, {})
        known[key] = {**old, **facts} if isinstance(old, dict) else facts
        if known[key] == old:
            return
        self._facts = known = dict(list(known.items())[-MAX_MODELS:])
        try:
            atomic_write(self.path, json.dumps(known).encode())
        except OSError:
            pass  # a cache: the fact will be learned again

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._facts is None:
            try:
                facts = json.loads(self.path.read_bytes())
            except (OSError, ValueError, RecursionError):
                facts = {}
            self._facts = facts if isinstance(facts, dict) else {}
        return self._facts
