"""Stand-ins that tests control: a model with scripted replies and a recorder of notices; a bounded wait; and a count of steps."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from chatmem.errors import Action
from chatmem.models.base import Options, StreamChunk


class ScriptedModel:
    """A model that gives the replies of a test, and records what it was sent.

    A reply is a list of texts, chunks and exceptions. Without a reply left, it answers "fine".
    """

    name = "scripted"
    server = ""

    def __init__(self, *replies: Any, window: int = 8192) -> None:
        self.replies, self.window = list(replies), window
        self.sent: list[list[Mapping[str, str]]] = []
        self.before_reply: Callable[[], None] = lambda: None

    def preload(self) -> None:
        pass

    def for_background(self) -> ScriptedModel:
        return self

    def cancel(self) -> None:
        pass

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        return []

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        self.sent.append(list(messages))
        self.before_reply()
        for piece in self.replies.pop(0) if self.replies else ["fine"]:
            if isinstance(piece, BaseException):
                raise piece
            yield piece if isinstance(piece, StreamChunk) else StreamChunk(text=piece)
        yield StreamChunk(status="complete")


class Notices(list[str]):
    """The texts of the notices that it was called with."""

    def __call__(self, text: str, action: Action | None = None) -> None:
        self.append(text)


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll until `condition` holds. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        os.sched_yield()


@contextmanager
def counting_lines() -> Iterator[list[int]]:
    """Count the lines of Python that run in the block."""
    count = [0]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        count[0] += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(previous)
