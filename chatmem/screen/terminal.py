"""The terminal as it is: whether it is one, how wide, whether it wants colour; and plain lines for it.

Nothing heavy is imported here, so that the first lines are out before the prompt's library is in.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO

from chatmem.errors import ChatmemError
from chatmem.screen.safe import show, show_line

_STYLES = {"dim": "2", "bold": "1", "error": "31", "warn": "33", "good": "32", "accent": "36"}


class Terminal:
    """Where answers go (`out`) and where everything else goes (`err`)."""

    def __init__(self, out: IO[str] | None = None, err: IO[str] | None = None, theme: str = "auto") -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.theme = theme
        for stream in (self.out, self.err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure:  # what the terminal's encoding lacks is replaced, never a crash
                reconfigure(errors="replace")

    @property
    def interactive(self) -> bool:
        """Whether a person reads `out` and cursor movements work there."""
        return is_tty(self.out) and os.environ.get("TERM", "") not in ("", "dumb")

    @property
    def colour(self) -> bool:
        return self.theme != "plain" and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        return max(1, self.size().columns)

    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal behind `out`, 80 by 24 where nobody knows."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(self.out.fileno())
            if size.columns and size.lines:
                return size
        return os.terminal_size((80, 24))

    def styled(self, text: str, style: str, stream: IO[str] | None = None) -> str:
        """Our own text with a style, where that stream shows styles."""
        if not is_tty(stream or self.err) or os.environ.get("TERM", "") in ("", "dumb"):
            return text
        if style in ("dim", "bold") or self.colour:
            return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
        return text

    def note(self, text: str, style: str = "dim") -> None:
        """One line beside the answers, on `err`."""
        self._write(self.err, self.styled(show_line(text), style) + "\n")

    def error(self, error: ChatmemError) -> None:
        """A failure: what happened, and on the same line the way out."""
        hint = f" {self.styled(show_line(error.hint), 'dim')}" if error.hint else ""
        self._write(self.err, self.styled(show_line(error.message), "error") + hint + "\n")

    def answer(self, text: str, end: str = "\n") -> None:
        """An answer, as it is into a pipe, made safe on a terminal."""
        self._write(self.out, (show(text) if is_tty(self.out) else text) + end)

    def raw(self, text: str) -> None:
        """Text that is ours, or was made safe: to `out`, at once."""
        self._write(self.out, text)

    def _write(self, stream: IO[str], text: str) -> None:
        if stream is self.err:
            with contextlib.suppress(OSError, ValueError):  # nobody listens: there is nobody to tell
                stream.write(text)
                stream.flush()
            return
        stream.write(text.encode("utf-8", "replace").decode())
        stream.flush()


def is_tty(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
