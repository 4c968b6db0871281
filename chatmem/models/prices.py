"""The context windows and prices of public models, from genai-prices.

The library takes 0.4 s to import, so a child process looks a model up. What it found is remembered in `ModelFacts`,
for as long as the same version of the library is installed. Prices are in US dollars per million tokens.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from chatmem.config.settings import Price
from chatmem.history.records import Usage
from chatmem.models.model_facts import ModelFacts

LOOKUP_TIMEOUT = 20.0
"""Seconds after which a lookup is given up."""
MAX_WAIT = 1.0
"""Seconds that a plan may wait for the first lookup of a model."""
REFRESH_INTERVAL = 86_400.0
"""Seconds after which a model is looked up again, since a price may have changed with the date."""
MIN_WINDOW, MAX_WINDOW = 64, 1_000_000_000
MAX_NUMBER = 1e12
"""The largest time, or price, that is believed when a file has it."""


class PublicModel(NamedTuple):
    """What is published about a model. `window` is None and `prices` is empty if it is unknown.

    `prices` are pairs of a number of prompt tokens and the price of a request with more of them, in ascending order.
    """

    window: int | None = None
    prices: tuple[tuple[int, Price], ...] = ()

    @classmethod
    def from_untrusted(cls, entry: object) -> PublicModel:
        """The model in an entry of the cache, which may hold anything."""
        if not isinstance(entry, dict):
            return cls()
        window, rows = entry.get("window"), entry.get("prices")
        prices = [_price(row) for row in rows] if isinstance(rows, list) else []
        is_window = type(window) is int and MIN_WINDOW <= window <= MAX_WINDOW
        return cls(window if is_window else None, tuple(price for price in prices if price))

    def cost(self, usage: Usage) -> float | None:
        """The cost of a reply. None without a price or without the numbers of tokens."""
        if usage.prompt is None or usage.completion is None:
            return None
        price = next((price for start, price in reversed(self.prices) if start == 0 or usage.prompt > start), None)
        return cost(usage, price) if price else None


def cost(usage: Usage, price: Price) -> float:
    """The cost of a reply at a price."""
    prompt = usage.prompt or 0
    cached = min(usage.cached or 0, prompt)
    cached_price = price.prompt if price.cached is None else price.cached
    total = (prompt - cached) * price.prompt + cached * cached_price + (usage.completion or 0) * price.completion
    return total / 1e6


class PublicModels:
    """Looks models up, each at most once in a process."""

    def __init__(self, facts: ModelFacts) -> None:
        self._facts = facts
        self._lookups: dict[tuple[str, str, str], threading.Thread] = {}
        self._wait_until = 0.0
        """Until when plans wait for the first lookup, on the monotonic clock. 0 before it."""
        self._lock = threading.Lock()

    def get(self, server: str, provider: str, model: str) -> PublicModel:
        """What is published about a model of a server, or of the provider whose models it passes on.

        If nothing is remembered, this waits for the lookup. A process waits `MAX_WAIT` seconds in all.
        """
        if known := self._remembered(server, provider, model):
            if time.time() - _number(known.get("at")) > REFRESH_INTERVAL:
                self._look_up(server, provider, model)
        else:
            lookup = self._look_up(server, provider, model)
            self._wait_until = self._wait_until or time.monotonic() + MAX_WAIT
            lookup.join(max(0.0, self._wait_until - time.monotonic()))
            known = self._remembered(server, provider, model)
        return PublicModel.from_untrusted(known)

    def _remembered(self, server: str, provider: str, model: str) -> dict[str, Any]:
        entry = self._facts.get(server, model, "public")
        is_current = isinstance(entry, dict) and entry.get("of") == [provider, _data_version()]
        return entry if is_current else {}

    def _look_up(self, server: str, provider: str, model: str) -> threading.Thread:
        key = (server, provider, model)
        with self._lock:
            if key not in self._lookups:
                self._lookups[key] = threading.Thread(target=self._remember, args=key, daemon=True, name="prices")
                self._lookups[key].start()
        return self._lookups[key]

    def _remember(self, server: str, provider: str, model: str) -> None:
        command = [sys.executable, "-P", "-m", __name__]  # arguments would be visible to other users
        question = json.dumps([str(self._facts.path), server, provider, model]).encode()
        try:
            done = subprocess.run(command, input=question, capture_output=True, timeout=LOOKUP_TIMEOUT)
            self._facts.put(server, model, public=json.loads(done.stdout))
        except (OSError, TypeError, ValueError, subprocess.SubprocessError):
            pass  # the model stays unknown


@cache
def _data_version() -> int:
    """When the installed data was written, in nanoseconds: reading the version of the library would take longer."""
    try:
        spec = importlib.util.find_spec("genai_prices")
        return Path(spec.origin).with_name("data.py").stat().st_mtime_ns if spec and spec.origin else 0
    except (ImportError, OSError, ValueError):
        return 0


def look_up(server: str, provider: str, model: str) -> dict[str, Any]:
    """The entry for a model, in the form that the cache holds. Empty if it is not listed. Imports the library."""
    from datetime import UTC, datetime

    from genai_prices.data_snapshot import get_snapshot

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider or None, None if provider else server)
    except LookupError:
        return {}
    listed = found.get_prices(datetime.now(UTC))
    units = (listed.input_mtok, listed.output_mtok, listed.cache_read_mtok)
    if units[0] is None or units[1] is None:
        return {"window": found.context_window}
    starts = sorted({0, *(tier.start for unit in units for tier in getattr(unit, "tiers", ()))})
    return {
        "window": found.context_window,
        "prices": [[start, *(_at(unit, start) for unit in units)] for start in starts],
    }


def _at(unit: Any, start: int) -> float | None:
    """The price of a unit in requests with more than `start` prompt tokens. It has one price, or a base and tiers."""
    if unit is None or not hasattr(unit, "tiers"):
        return None if unit is None else float(unit)
    reached = [tier for tier in unit.tiers if tier.start <= start]
    return float(max(reached, key=lambda tier: tier.start).price if reached else unit.base)


def _price(row: object) -> tuple[int, Price] | None:
    """A row of the cache: the number of prompt tokens, then the prices of prompt, completion and cached prompt."""
    if not isinstance(row, list) or len(row) != 4 or type(row[0]) is not int:
        return None
    prompt, completion, cached = (_number(value, None) for value in row[1:])
    return (row[0], Price(prompt, completion, cached)) if prompt is not None and completion is not None else None


def _number(value: object, default: Any = 0.0) -> Any:
    """A number that a price or a time may be, else the default."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= MAX_NUMBER else default


def main() -> None:
    """Look a model up, remember it, in case the parent process has ended by then, and print it."""
    limit = threading.Timer(LOOKUP_TIMEOUT, os._exit, [1])
    limit.daemon = True
    limit.start()
    path, server, provider, model = json.load(sys.stdin)
    entry = look_up(server, provider, model) | {"at": int(time.time()), "of": [provider, _data_version()]}
    ModelFacts(Path(path)).put(server, model, public=entry)
    json.dump(entry, sys.stdout)


if __name__ == "__main__":
    main()
