"""The interface of a model: messages in, a stream of chunks out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from chatmem.config.schema import from_mapping, option_field
from chatmem.errors import Action, Notice, UsageError
from chatmem.history.records import Usage

Options = Mapping[str, Any]
"""Sampling options under the names of the chat completions API: `temperature`, `max_tokens`, …"""


@dataclass(frozen=True)
class SamplingOptions:
    """The options that most servers support, and their valid values. Other options are sent unchecked."""

    temperature: float = option_field(1.0, "Randomness: 0 is deterministic, 1 the usual value.", minimum=0)
    max_tokens: int = option_field(1024, "The most tokens of a reply.", minimum=1)
    top_p: float = option_field(1.0, "The cumulative probability of the tokens to choose from.", minimum=0, maximum=1)
    seed: int = option_field(0, "Makes replies reproducible, where the server supports it.")
    stop: str | tuple[str, ...] = option_field("", "Text that ends a reply.")
    presence_penalty: float = option_field(0.0, "-2 to 2: favors new topics.", minimum=-2, maximum=2)
    frequency_penalty: float = option_field(0.0, "-2 to 2: avoids repetition.", minimum=-2, maximum=2)
    reasoning_effort: str = option_field("", "low, medium or high, for reasoning models.")


OPTION_HELP = {field.name: str(field.metadata["help"]) for field in fields(SamplingOptions)}
"""The help text of each option of `SamplingOptions`."""

OFFLINE = "offline"
"""The name of the built-in model."""
RESERVED_OPTIONS = frozenset({"messages", "model", "stream", "stream_options", "n", "tools", "functions"})
"""Fields of a request that options must not set: they would change the plan, or how the reply is read."""


def check_options(options: Options) -> None:
    """Raise UsageError for a reserved option, or for a value that cannot be sent."""
    for name, value in options.items():
        if name in RESERVED_OPTIONS:
            raise UsageError(f"{name!r} is not an option.", "Options are temperature, max_tokens and the like.")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"The option {name} is {value}, which cannot be sent.", action=Action("set_option", name))
        if name in OPTION_HELP and value is not None:
            from_mapping(SamplingOptions, {name: value})


class StreamChunk(NamedTuple):
    """A part of a reply as it arrives. Usually one field is set.

    `status` says that the server ended the reply: `complete`, `length` or `filtered`. A stream that ends without one
    was interrupted.
    """

    text: str = ""
    reasoning: str = ""
    notice: Notice | None = None
    usage: Usage | None = None
    status: str | None = None


class Model(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """The name that requests use and replies are stored with."""

    @property
    def server(self) -> str:
        """The base URL of the server. Empty for a model that is built in."""

    @property
    def window(self) -> int | None:
        """The context window in tokens, for messages and reply together. None if it is unknown."""

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        """The reply, chunk by chunk. Closing the iterator ends the request.

        Raises ServerError, AuthenticationError, RateLimitError and IncompleteReplyError.
        """

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        """The entries of the server's model list, each with an `id`. Empty for a built-in model. Raises as `stream`."""

    def preload(self) -> None:
        """Do what the first request needs, such as imports. For a background thread. Raises as `stream`."""

    def for_background(self) -> Model:
        """The same model with a connection of its own, for a request that does not hold up those of this object."""

    def cancel(self) -> None:
        """End the running request of a model `for_background`, and any later one. Its thread gets an error."""


def is_on_this_machine(server: str) -> bool:
    """Whether the base URL of a server leads to this machine. The built-in model has an empty one."""
    host = urlsplit(server).hostname or ""
    return host in ("", "localhost", "::1") or host.endswith(".localhost") or host.startswith("127.")


def is_nearby(server: str) -> bool:
    """Whether a server is on this machine or in a private network, where it may answer one request at a time."""
    if is_on_this_machine(server):
        return True
    import ipaddress  # imported lazily: slow

    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))
