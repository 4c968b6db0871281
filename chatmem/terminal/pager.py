"""Showing long answers in the user's pager."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
from collections.abc import Iterator

from chatmem.terminal import keyboard
from chatmem.terminal.terminal import Terminal


@contextlib.contextmanager
def paged(terminal: Terminal) -> Iterator[None]:
    """Show what the block prints in $PAGER (less -FIRX), if it is longer than the screen of a terminal."""
    if not terminal.interactive:
        yield
        return
    out, collected = terminal.out, _Collector()
    terminal.out = collected
    try:
        yield
    finally:
        terminal.out = out
    text = collected.getvalue()
    if text.count("\n") < terminal.size().lines or not _run_pager(text):
        terminal.raw(text)


class _Collector(io.StringIO):
    """Collects output, styled as for a terminal."""

    def isatty(self) -> bool:
        return True


def _run_pager(text: str) -> bool:
    command = shlex.split(os.environ.get("PAGER", "less"))
    if not command or command == ["cat"]:
        return False
    env = {"LESS": "-FIRX", **os.environ}
    try:
        with (
            keyboard.released(),
            subprocess.Popen(command, stdin=subprocess.PIPE, env=env) as pager,
            contextlib.suppress(BrokenPipeError),
        ):
            pager.communicate(text.encode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    return True
