"""The terminal as it is: whether it is one, how wide, whether it wants colour; and plain lines for it.

Nothing heavy is imported here, so that the first lines are out before the prompt's library is in.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import os
import re
import sys
from typing import IO

from chatmem.errors import ChatmemError
from chatmem.screen.safe import show, show_line

_WITH_COMMAND = re.compile(r"[^.?!]*(?<![\w.:/])/[a-z]+[^.?!]*[.?!]?")
_STYLES = {"dim": "2", "bold": "1", "error": "31", "warn": "33", "good": "32", "accent": "36"}
NARROWEST = 20
"""Columns below which a reply is shown as plain text, not as Markdown."""


class Terminal:
    """Where answers go (`out`) and where everything else goes (`err`)."""

    def __init__(self, out: IO[str] | None = None, err: IO[str] | None = None, theme: str = "auto") -> None:
        self.out: IO[str] = out or sys.stdout or _Closed()
        self.err: IO[str] = err or sys.stderr or _Closed()
        self.theme = theme
        self.commands = False
        """Whether slash commands can be typed here, so that a hint may name one."""
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

    @property
    def reflows(self) -> bool:
        """Whether this terminal is known to wrap what is on the screen anew when it grows narrower."""
        names = (
            "TMUX",
            "VTE_VERSION",
            "TERM_PROGRAM",
            "KONSOLE_VERSION",
            "WT_SESSION",
            "KITTY_WINDOW_ID",
            "ALACRITTY_WINDOW_ID",
        )
        return "XTERM_VERSION" not in os.environ and any(name in os.environ for name in names)

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
        self._write(self.err, self.styled(self._fitted(show_line(text)), style) + "\n")

    def aside(self, text: str) -> None:
        """One line of a list beside the answers, its columns as they are."""
        self._write(self.err, self.styled(self._fitted(show(text).replace("\n", " ")), "dim") + "\n")

    def copy(self, text: str) -> None:
        """Hand a text to the terminal's clipboard (OSC 52); the only sequence that carries foreign text, encoded."""
        coded = base64.b64encode(text.encode("utf-8", "replace")).decode()
        self.raw(f"\x1b]52;c;{coded}\x07" if is_tty(self.out) else "")

    def error(self, error: ChatmemError) -> None:
        """A failure: what happened, and on the same line the way out."""
        words = error.hint if self.commands else _WITH_COMMAND.sub("", error.hint).strip()
        message = show_line(error.message)
        message += "." if message and words and message[-1] not in ".!?…:" else ""
        whole = self._fitted(f"{message} {show_line(words)}" if words else message)
        message, gap, words = whole[: len(message)], whole[len(message) :][:1], whole[len(message) + 1 :]
        hint = gap + self.styled(words, "dim") if words else ""
        self._write(self.err, self.styled(message, "error") + hint + "\n")

    def _fitted(self, text: str) -> str:
        """The same text with a line break for a blank wherever the screen would break a word."""
        return at_words(text, self.width) if is_tty(self.err) and is_tty(self.out) else text

    def answer(self, text: str, end: str = "\n") -> None:
        """An answer, as it is into a pipe, made safe on a terminal."""
        self._write(self.out, (show(text) if is_tty(self.out) else text) + end)

    def caption(self, text: str) -> None:
        """A dimmed line of ours above an answer, on one line."""
        self._write(self.out, self.styled(show_line(text), "dim", self.out) + "\n")

    def line(self, text: str) -> None:
        """A sentence of an answer, broken between words where the screen ends."""
        self.answer(at_words(text, self.width) if is_tty(self.out) else text)

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


class _Closed(io.StringIO):
    """What stands for a stream that was closed before the program began."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def at_words(text: str, width: int) -> str:
    """The text, as long as it was, in lines of at most so many characters, unless a word is longer."""
    words = text.split(" ")
    fitted = words[0]
    column = cell_width(words[0])
    for word in words[1:]:
        size = cell_width(word)
        column += 1 + size
        if column > width:
            column = size
        fitted += ("\n" if column == size and fitted.strip() and word else " ") + word
    return fitted


def cell_width(text: str) -> int:
    """The columns a line of text takes on a terminal."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth  # comes with the prompt; a list without it is there sooner

    return max(0, wcswidth(text))


def is_tty(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
