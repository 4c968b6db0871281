"""The promise of a model: messages in, an honest stream of pieces out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

from chatmem.errors import WrongUse
from chatmem.records import Usage
from chatmem.settings import read, setting

Options = Mapping[str, Any]
"""Sampling options by the names of the chat completions API: `temperature`, `max_tokens`, …"""


@dataclass(frozen=True)
class Sampling:
    """The options that most servers know, and what they may be. Others are sent as they are."""

    temperature: float = setting(1.0, "How freely the model chooses: 0 is the likeliest word, 1 the usual.", least=0)
    max_tokens: int = setting(1024, "The most tokens of a reply.", least=1)
    top_p: float = setting(1.0, "The share of likely words it chooses from.", least=0, most=1)
    seed: int = setting(0, "Repeats the same choices, where the server can.")
    stop: str | tuple[str, ...] = setting("", "Text that ends a reply.")
    presence_penalty: float = setting(0.0, "-2 to 2: new things are preferred.", least=-2, most=2)
    frequency_penalty: float = setting(0.0, "-2 to 2: repetition is avoided.", least=-2, most=2)
    reasoning_effort: str = setting("", "low, medium or high, for models that think.")


OPTIONS = {field.name: str(field.metadata["help"]) for field in fields(Sampling)}
"""The help of each option of `Sampling`."""

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
        if name in OPTIONS and value is not None:
            read(Sampling, {name: value})


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
