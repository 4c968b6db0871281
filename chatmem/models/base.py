"""The promise of a model: messages in, an honest stream of pieces out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from chatmem.errors import WrongUse
from chatmem.records import Usage

Options = Mapping[str, Any]
"""Sampling options by the names of the chat completions API: `temperature`, `max_tokens`, …"""


RESERVED = frozenset({"messages", "model", "stream", "stream_options", "n", "tools", "functions"})
"""Fields of a request that are not for options: they would change what was planned, or how the reply is read."""


def check_options(options: Options) -> None:
    """Raises WrongUse for an option that is none, or whose value cannot be sent."""
    for name, value in options.items():
        if name in RESERVED:
            raise WrongUse(f"{name!r} is no option.", "Options are temperature, max_tokens and their like.")
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongUse(
                f"The option {name} is {value}, which is no number that can be sent.",
                "/set it anew, or mend the config.",
            )


class Piece(NamedTuple):
    """A part of a reply as it arrives. Most have one field set.

    `finish` is the server's word that the reply is over: a status of a stored message
    (`complete`, `length` or `filtered`). A stream that ends without one was cut.
    """

    text: str = ""
    reasoning: str = ""
    notice: str = ""
    usage: Usage | None = None
    finish: str | None = None
    model: str | None = None


class Model(Protocol):
    """Who answers."""

    @property
    def name(self) -> str:
        """The name it is asked for by, and stored under."""

    @property
    def window(self) -> int | None:
        """The tokens that messages and reply may take together; None if nobody knows."""

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[Piece]:
        """The reply, piece by piece. Raises ServerFailed, KeyRefused, LimitReached, ReplyIncomplete.

        Closing the iterator ends the request at once.
        """

    def warm(self) -> None:
        """Do early what the first request needs, such as an import. For a background thread; raises as `stream`."""
