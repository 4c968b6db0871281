"""A chat whose keys are typed ahead and whose output is text."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from chatmem.app import App
from chatmem.repl.repl import Repl
from chatmem.terminal.terminal import Terminal
from tests.server import Server

CTRL_D = "\x04"
TypeKeys = Callable[..., str]


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        yield keys


@pytest.fixture
def type_keys(keys: PipeInput, server: Server) -> TypeKeys:
    """Types keys into a new chat on session 'work' until it exits, and returns the output."""

    def type_keys(*typed: str, name: str = "work", **settings: Any) -> str:
        screen = io.StringIO()
        app = App(offline=True)
        repl = Repl(app.chat(name, settings), app, Terminal(screen, screen))
        keys.send_text("".join(typed) + CTRL_D)
        type_keys.code = repl.run()  # type: ignore[attr-defined]
        return screen.getvalue()

    return type_keys
