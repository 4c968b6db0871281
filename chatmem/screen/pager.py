"""Long answers through the reader's pager, on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
from collections.abc import Iterator

from chatmem.screen.terminal import Terminal


@contextlib.contextmanager
def paged(terminal: Terminal) -> Iterator[None]:
    """What is answered meanwhile goes to $PAGER (less -FIRX), if it is longer than the screen and a person reads it."""
    if not terminal.interactive:
        yield
        return
    out, kept = terminal.out, _Kept()
    terminal.out = kept
    try:
        yield
    finally:
        terminal.out = out
    text = kept.getvalue()
    if text.count("\n") < terminal.size().lines or not _show(text):
        terminal.raw(text)


class _Kept(io.StringIO):
    """Keeps what is written, styled as for a terminal."""

    def isatty(self) -> bool:
        return True


def _show(text: str) -> bool:
    command = shlex.split(os.environ.get("PAGER", "less"))
    if not command or command == ["cat"]:
        return False
    env = {"LESS": "-FIRX", **os.environ}
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=env) as pager, contextlib.suppress(BrokenPipeError):
            pager.communicate(text.encode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    return True
