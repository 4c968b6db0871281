"""What servers taught us: how their tokens compare with ours, and how large their windows are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatmem.paths import write_private

MOST = 500
"""How many models are remembered; the ones learned of longest ago go first."""


class Learned:
    """A small file of facts by server and model. It may be deleted; what cannot be written is forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, dict[str, Any]] | None = None

    def get(self, server: str, model: str, fact: str) -> Any:
        found = self._load().get(f"{server} {model}")
        return found.get(fact) if isinstance(found, dict) else None

    def put(self, server: str, model: str, **facts: Any) -> None:
        key, known = f"{server} {model}", self._load()
        if {**known.get(key, {}), **facts} == known.get(key):
            return
        known[key] = {**known.pop(key, {}), **facts}
        self._facts = known = dict(list(known.items())[-MOST:])
        try:
            write_private(self.path, json.dumps(known).encode())
        except OSError:
            pass  # a cache: it will be learned again

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._facts is None:
            try:
                facts = json.loads(self.path.read_bytes())
            except (OSError, ValueError, RecursionError):
                facts = {}
            self._facts = facts if isinstance(facts, dict) else {}
        return self._facts
