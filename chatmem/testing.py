"""For tests of programs that use chatmem: a model whose replies are written beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chatmem.models.base import Options, StreamChunk

Scripted = str | Sequence[str | StreamChunk] | BaseException
"""One reply: a text, its parts, or an exception that is raised instead."""


class ScriptedModel:
    """Answers with the replies in turn, and then repeats the last one. Records what it was sent."""

    def __init__(self, *replies: Scripted, name: str = "scripted", window: int | None = None) -> None:
        self.replies, self.name, self.window = list(replies) or ["ok"], name, window
        self.requests: list[list[dict[str, str]]] = []
        """The messages of every request."""
        self.options: list[dict[str, Any]] = []

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[str | StreamChunk]:
        self.requests.append([dict(message) for message in messages])
        self.options.append(dict(options))
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        parts: Iterable[str | StreamChunk] = [reply] if isinstance(reply, str) else reply
        yield from parts
