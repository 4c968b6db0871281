"""What replies cost today, and a limit for it: per user, on this machine, by the local day."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatmem.errors import Action, Notice, SpendingLimitError
from chatmem.history.records import Usage
from chatmem.models.base import Model, Options, StreamChunk
from chatmem.paths import make_private_dir, open_private

ASSUMED_REPLY_TOKENS = 1_000
"""The tokens of a reply for which no `max_tokens` is set, to estimate its cost."""


class Spending:
    """The costs of today, each a line of a file that all processes append to."""

    def __init__(self, directory: Path, user: str) -> None:
        self.directory = directory
        self._user = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._unsaved = 0.0
        """What could not be written."""

    def today(self) -> float:
        """The dollars of today."""
        total = self._unsaved
        with contextlib.suppress(OSError):
            for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n"):
                with contextlib.suppress(ValueError):
                    total += max(0.0, float(line)) if line else 0.0
        return total

    def add(self, dollars: float) -> None:
        """Count the cost of a reply. Never raises."""
        try:
            make_private_dir(self.directory)
            descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(descriptor, f"{dollars:.9f}\n".encode())
            finally:
                os.close(descriptor)
            self._remove_old()
        except OSError:
            self._unsaved += dollars

    @property
    def _path(self) -> Path:
        return self.directory / f"{datetime.date.today().isoformat()}.{self._user}"

    def _remove_old(self) -> None:
        yesterday = (datetime.date.today() - datetime.timedelta(days=1)).isoformat()
        for file in self.directory.iterdir():
            if file.name[:10] < yesterday:
                file.unlink(missing_ok=True)


@dataclass
class Meter:
    """Counts what the requests to one model cost, and refuses those that would exceed the limit."""

    spending: Spending
    limit: Callable[[], float | None]
    """The most dollars per day. None: no limit."""
    cost: Callable[[Usage], float | None]
    """The cost of a reply. None if no price is known."""
    count: Callable[[Sequence[Mapping[str, str]]], int]
    """The tokens of messages."""
    _has_warned: bool = False

    def stream(self, model: Model, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        """The reply of a model. Raises SpendingLimitError before a request that may exceed the limit."""
        estimate, usage = None, None
        if (limit := self.limit()) is not None:
            prompt, reply = self.count(messages), options.get("max_tokens") or ASSUMED_REPLY_TOKENS
            estimate = self.cost(Usage(prompt, 0))
            expected, spent = self.cost(Usage(prompt, reply)), self.spending.today()
            if expected is not None and spent + expected > limit:
                raise SpendingLimitError(
                    f"The limit of ${limit:.2f} per day: ${spent:.4f} were spent today, and this costs about "
                    f"~${expected:.4f}.",
                    "Raise per_day under [limits], or choose a cheaper model.",
                    Action("retry"),
                )
            if expected is None and not self._has_warned:
                self._has_warned = True
                yield StreamChunk(notice=Notice(f"No price is known for {model.name}: the limit does not stop it."))
        try:
            for chunk in model.stream(messages, options):
                usage = chunk.usage or usage
                yield chunk
        finally:
            cost = self.cost(usage) if usage else estimate  # a reply that was cut has no usage
            if cost:
                self.spending.add(cost)


@dataclass
class MeteredModel:
    """A model in the background whose requests count as well."""

    model: Model
    meter: Meter

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def server(self) -> str:
        return self.model.server

    @property
    def window(self) -> int | None:
        return self.model.window

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        return self.meter.stream(self.model, messages, options)

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        return self.model.list_models(timeout)

    def preload(self) -> None:
        self.model.preload()

    def for_background(self) -> Model:
        return MeteredModel(self.model.for_background(), self.meter)

    def cancel(self) -> None:
        self.model.cancel()
