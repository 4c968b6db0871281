"""A model that a program provides: any object that streams texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from chatmem.models.base import Options, StreamChunk


class StreamingModel(Protocol):
    """What such an object has. It may also have `name` (a text) and `window` (tokens)."""

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterable[str | StreamChunk]:
        """The reply, as texts or chunks. A stream that ends without an exception is complete."""


class ProvidedModel:
    """A `StreamingModel` as a `Model`."""

    def __init__(self, provided: StreamingModel) -> None:
        self.provided = provided

    @property
    def name(self) -> str:
        return str(getattr(self.provided, "name", type(self.provided).__name__))

    @property
    def server(self) -> str:
        return ""

    @property
    def window(self) -> int | None:
        return getattr(self.provided, "window", None)

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        status = None
        for part in self.provided.stream(messages, options):
            chunk = StreamChunk(text=part) if isinstance(part, str) else part
            status = chunk.status or status
            yield chunk
        if status is None:
            yield StreamChunk(status="complete")

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        return []

    def preload(self) -> None:
        pass

    def for_background(self) -> ProvidedModel:
        return self

    def cancel(self) -> None:
        pass
