"""Token counts of texts and messages.

A message costs what OpenAI's rule says ("How to count tokens with tiktoken", OpenAI cookbook): 3 tokens per message, 1
for its role, and once per request 3 that start the reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from chatmem.tokens.encodings import TiktokenCounter, encoding_for_model, find_encoding_file
from chatmem.tokens.estimate import estimate_tokens

REQUEST_OVERHEAD = 3
"""Tokens that start the reply, counted once per request."""
MESSAGE_OVERHEAD = 3 + 1
"""Tokens around the content of a message: 3, and 1 for its role."""


@dataclass(frozen=True)
class Counter:
    """Counts texts and messages for one model. Counts of messages are cached.

    `ratio` scales every message and `extra` is added once per request (see `calibration.Calibration`).
    """

    encoding: str | None
    """The name of the encoding where counts are exact, None where they are estimated."""
    tokenize: Callable[[str], int]
    ratio: float = 1.0
    extra: int = 0
    turns: dict[str, int] = field(default_factory=dict, repr=False, compare=False, init=False)
    """The cost of whole turns at this calibration, by the id of their last message."""
    _cache: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def method(self) -> str:
        """`exact`, `calibrated` (scaled by what servers reported) or `estimated`."""
        if self.ratio != 1.0 or self.extra:
            return "calibrated"
        return "exact" if self.encoding else "estimated"

    @property
    def request_overhead(self) -> int:
        """The tokens that every request costs once."""
        return REQUEST_OVERHEAD + self.extra

    @property
    def message_overhead(self) -> int:
        """The tokens that a message costs beyond its text."""
        return math.ceil(MESSAGE_OVERHEAD * self.ratio)

    def count_text(self, text: str) -> int:
        return math.ceil(self.tokenize(text) * self.ratio)

    def count_message(self, content: str, key: str = "") -> int:
        """The cost of a message with this content. `key` identifies content that never changes."""
        raw = self._cache.get(key or content)
        if raw is None:
            raw = self._cache[key or content] = MESSAGE_OVERHEAD + self.tokenize(content)
        return math.ceil(raw * self.ratio)

    def with_calibration(self, ratio: float, extra: int = 0) -> Counter:
        """The same counter with another calibration. Both share the cache."""
        return replace(self, ratio=ratio, extra=extra)

    def preload(self) -> None:
        """Load the encoding, which takes up to half a second. For a background thread."""
        self.count_text("")


def counter_for_model(model: str, directories: Iterable[Path] = ()) -> Counter:
    """The counter for a model: exact if its encoding file is in `directories` or a known place, else an estimate."""
    encoding = encoding_for_model(model)
    path = find_encoding_file(encoding, tuple(directories)) if encoding else None
    if encoding and path:
        return Counter(encoding, TiktokenCounter(encoding, path))
    return Counter(None, estimate_tokens)
