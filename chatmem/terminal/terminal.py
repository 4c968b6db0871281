"""The terminal: whether output goes to one, its size and colors, and plain lines for it.

Nothing slow is imported here, so that the first lines are printed before the prompt's library is loaded.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import IO

from chatmem.errors import Action, ChatmemError, Notice
from chatmem.terminal.colors import Colors, colors_of, sgr
from chatmem.terminal.sanitize import escape_json, sanitize, sanitize_line
from chatmem.text import redact

DescribeAction = Callable[[Action], str]
"""Puts an action in the words of a front end. Empty if the front end does not offer it."""

_ATTRIBUTES = {"dim": "2", "bold": "1", "reverse": "7"}
MIN_WIDTH = 20
"""On narrower terminals replies are shown as plain text instead of Markdown."""


class Terminal:
    """Where answers go (`out`), and where everything else goes (`err`)."""

    def __init__(
        self,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
        theme: str = "auto",
        describe_action: DescribeAction = lambda action: "",
    ) -> None:
        self.out: IO[str] = out or sys.stdout or _Closed()
        self.err: IO[str] = err or sys.stderr or _Closed()
        self.theme = theme
        self.describe_action = describe_action
        for stream in (self.out, self.err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure:  # characters that the encoding lacks are replaced
                reconfigure(errors="replace")

    @property
    def interactive(self) -> bool:
        """Whether `out` is a terminal that supports cursor movement."""
        return is_tty(self.out) and os.environ.get("TERM", "") not in ("", "dumb")

    @property
    def plain(self) -> bool:
        """Whether to write for a screen reader: no colors, no frames, and what was printed never changes."""
        return self.theme == "plain"

    @property
    def colors(self) -> Colors:
        return colors_of(self.theme)

    @property
    def width(self) -> int:
        return max(1, self.size().columns)

    @property
    def reflows(self) -> bool:
        """Whether this terminal is known to rewrap its content when it becomes narrower."""
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
        """Columns and lines of the terminal behind `out`, 80 by 24 if they are unknown."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            size = os.get_terminal_size(self.out.fileno())
            if size.columns and size.lines:
                return size
        return os.terminal_size((80, 24))

    def styled(self, text: str, style: str, stream: IO[str] | None = None) -> str:
        """Trusted text with a style, or several separated by spaces, if the stream (by default `err`) shows styles."""
        if not is_tty(stream or self.err) or os.environ.get("TERM", "") in ("", "dumb"):
            return text
        if self.plain:
            return text
        codes = (_ATTRIBUTES.get(name) or sgr(getattr(self.colors, name)) for name in style.split())
        code = ";".join(filter(None, codes))
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    def info(self, text: str, style: str = "dim") -> None:
        """Print one line on `err`."""
        self._write(self.err, self.styled(self._fitted(sanitize_line(text)), style) + "\n")

    def info_line(self, text: str) -> None:
        """Print one line of a list on `err`, keeping its columns."""
        self._write(self.err, self.styled(self._fitted(sanitize(text).replace("\n", " ")), "dim") + "\n")

    def copy(self, text: str) -> None:
        """Copy a text to the clipboard through the terminal (OSC 52). The text is base64-encoded."""
        coded = base64.b64encode(text.encode("utf-8", "replace")).decode()
        self.raw(f"\x1b]52;c;{coded}\x07" if is_tty(self.out) else "")

    def notify_desktop(self, text: str) -> None:
        """Ring the bell, and show a notification where the terminal can (OSC 9)."""
        if is_tty(self.out):
            self.raw(f"\x1b]9;{sanitize_line(text)}\x1b\\\x07")

    def error(self, error: ChatmemError) -> None:
        """Print a failure: what happened, and what to do about it."""
        message = sanitize_line(redact(error.message))
        hint = " ".join(filter(None, (sanitize_line(redact(error.hint)), self._describe(error.action))))
        message += "." if message and hint and message[-1] not in ".!?…:" else ""
        text = self._fitted(f"{message} {hint}" if hint else message)
        message, gap, hint = text[: len(message)], text[len(message) :][:1], text[len(message) + 1 :]
        styled_hint = gap + self.styled(hint, "dim") if hint else ""
        self._write(self.err, self.styled(message, "error") + styled_hint + "\n")

    def notice(self, notice: Notice) -> None:
        """Print a notice and what can be done about it on `err`."""
        self.info(self.notice_text(notice))

    def notify(self, text: str, action: Action | None = None) -> None:
        """Print a notice: a `Notify`."""
        self.notice(Notice(text, action))

    def notice_text(self, notice: Notice) -> str:
        return " ".join(filter(None, (redact(notice.text), self._describe(notice.action))))

    def _describe(self, action: Action | None) -> str:
        return self.describe_action(action) if action else ""

    def _fitted(self, text: str) -> str:
        """The text with line breaks between words where the terminal would break a word."""
        return wrap(text, self.width) if is_tty(self.err) and is_tty(self.out) else text

    def write(self, text: str, end: str = "\n") -> None:
        """Print part of an answer: sanitized on a terminal, unchanged into a pipe."""
        self._write(self.out, (sanitize(text) if is_tty(self.out) else text) + end)

    def write_highlighted(self, text: str, spans: Iterable[tuple[int, int]]) -> None:
        """Print a line of an answer, on a terminal with some spans of it in bold."""
        parts, end = [], 0
        for start, stop in spans if is_tty(self.out) else ():
            if start >= end:
                parts += [sanitize(text[end:start]), self.styled(sanitize(text[start:stop]), "bold", self.out)]
                end = stop
        self._write(self.out, "".join(parts) + (sanitize(text[end:]) if is_tty(self.out) else text[end:]) + "\n")

    def dim_line(self, text: str) -> None:
        """Print a dimmed heading above an answer."""
        self._write(self.out, self.styled(sanitize_line(text), "dim", self.out) + "\n")

    def write_wrapped(self, text: str) -> None:
        """Print part of an answer, wrapped between words on a terminal."""
        self.write(wrap(text, self.width) if is_tty(self.out) else text)

    def json(self, value: object, indent: int | None = 1) -> None:
        """Print JSON on `out`, with characters that could control a terminal as escapes: the same value."""
        self.raw(escape_json(json.dumps(value, ensure_ascii=False, indent=indent)) + "\n")

    def raw(self, text: str) -> None:
        """Print trusted or sanitized text on `out`, and flush."""
        self._write(self.out, text)

    def _write(self, stream: IO[str], text: str) -> None:
        if stream is self.err:
            with contextlib.suppress(OSError, ValueError):  # stderr is closed
                stream.write(text)
                stream.flush()
            return
        stream.write(text.encode("utf-8", "replace").decode())
        stream.flush()


class _Closed(io.StringIO):
    """Stands for a stream that was closed before the program started."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def wrap(text: str, width: int) -> str:
    """The text with spaces replaced by newlines, so that lines have at most `width` columns unless a word is longer."""
    if "\n" in text:
        return "\n".join(wrap(line, width) for line in text.split("\n"))
    words = text.split(" ")
    wrapped = words[0]
    column = cell_width(words[0])
    for word in words[1:]:
        size = cell_width(word)
        column += 1 + size
        if column > width:
            column = size
        wrapped += ("\n" if column == size and wrapped.strip() and word else " ") + word
    return wrapped


def cell_width(text: str) -> int:
    """The columns a line of text takes on a terminal."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth  # imported lazily: slow

    return max(0, wcswidth(text))


def is_tty(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
