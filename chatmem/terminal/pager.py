"""Showing long answers in the user's pager."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import IO

from chatmem.terminal import keyboard
from chatmem.terminal.programs import wait_for_program
from chatmem.terminal.terminal import Terminal


class _ClosedError(Exception):
    """The user closed the pager."""


@contextlib.contextmanager
def paged(terminal: Terminal) -> Iterator[None]:
    """Show what the block prints in $PAGER (less -FIRX), if it is longer than the screen of a terminal.

    The pager starts as soon as there is more than a screen. Once the user closes it, the block ends.
    """
    if not terminal.interactive:
        yield
        return
    out, output = terminal.out, _PagedOutput(terminal.out, terminal.size().lines)
    terminal.out = output
    try:
        with contextlib.suppress(_ClosedError):
            yield
    finally:
        terminal.out = out
        output.finish()


class _PagedOutput(io.StringIO):
    """Keeps output, styled as for a terminal, until it fills the screen. Then it starts the pager and feeds it."""

    def __init__(self, out: IO[str], lines: int) -> None:
        super().__init__()
        self._out, self._lines = out, lines
        self._pager: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()
        self._has_pager = True

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._out.fileno()  # the size of the terminal is asked for

    def write(self, text: str) -> int:
        if self._pager:
            self._feed(text)
        elif super().write(text) and self._has_pager and self.getvalue().count("\n") >= self._lines:
            self._start()
        return len(text)

    def finish(self) -> None:
        """Wait until the user closes the pager. If there is none, print what was kept."""
        if self._pager is None:
            self._out.write(self.getvalue())
            self._out.flush()
            return
        assert self._pager.stdin
        with contextlib.suppress(OSError):
            self._pager.stdin.close()
        with self._held:
            wait_for_program(self._pager)

    def _start(self) -> None:
        self._has_pager = False
        try:
            command = shlex.split(os.environ.get("PAGER", "less"))
        except ValueError:  # an open quote
            return
        if not command or command == ["cat"]:
            return
        self._held.enter_context(keyboard.released())
        try:
            self._pager = subprocess.Popen(command, stdin=subprocess.PIPE, env={"LESS": "-FIRX", **os.environ})
        except (OSError, ValueError):
            self._held.close()
            return
        self._feed(self.getvalue())

    def _feed(self, text: str) -> None:
        assert self._pager and self._pager.stdin
        try:
            self._pager.stdin.write(text.encode("utf-8", "replace"))
            self._pager.stdin.flush()
        except OSError:
            raise _ClosedError from None
