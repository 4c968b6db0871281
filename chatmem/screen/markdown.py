"""Streamed Markdown that stays right in the scrollback.

What is final is printed once and never touched again; only the open block is drawn anew, at most 12.5 times a second,
clipped to the screen. The open block is drawn without automatic line wrap, so that a character whose width the
terminal sees differently cannot shift the rows that are taken back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Self

from chatmem.screen.blocks import Blocks
from chatmem.screen.page import Renderer, columns_of
from chatmem.screen.safe import show, show_line
from chatmem.screen.suspension import suspension
from chatmem.screen.terminal import NARROWEST, Terminal, at_words

FRAME = 0.08
"""Seconds between two frames."""
PATIENCE = 2
"""Seconds of silence after which it is said that something is waited for."""


class MarkdownStream:
    """Shows one reply while it arrives: `feed` it, and leave it when the reply is over."""

    def __init__(self, terminal: Terminal, frame: float = FRAME) -> None:
        self.terminal, self.frame = terminal, frame
        self.text = ""
        self._blocks = Blocks()
        self._waiting = ""
        self._thought = ""
        self._thinking = False
        self._live: list[str] = []
        self._live_width = 0
        self._renderer = self._new_renderer()
        self._lock = threading.RLock()  # Ctrl-Z comes to a thread that may hold it
        self._news = threading.Event()
        self._over = False
        self._failed: OSError | None = None
        self._drawing = False
        self._begun = time.monotonic()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._held.enter_context(suspension(self._leave, self._back))
        if self.frame:
            threading.Thread(target=self._paint, daemon=True, name="screen").start()
        return self

    def __exit__(self, *details: object) -> None:
        with self._held, self._lock:
            self._over = True
            self._draw(final=True)
        self._news.set()

    def feed(self, text: str, thought: str = "") -> None:
        """Take more of the reply, and of what the model thinks aloud."""
        if self._failed:
            raise self._failed
        with self._lock:
            self.text += text
            self._waiting += text
            self._thought += thought
        if text or thought:
            self._news.set()

    def note(self, line: str) -> None:
        """Put a line of ours between what is final and what is open."""
        with self._lock:
            self._draw(above=[self.terminal.styled(show_line(line), "dim", self.terminal.out)])

    def draw(self) -> None:
        """Draw what there is now. The painter calls it; without one, whoever feeds."""
        with self._lock:
            if not self._over:
                self._draw()

    def _paint(self) -> None:
        while not self._over:
            self._news.wait(None if self.text or self._thinking else 1.0)
            self._news.clear()
            try:
                self.draw()
            except OSError as error:  # nobody reads any more: the feeder hears of it
                self._failed = error
                return
            time.sleep(self.frame)

    def _leave(self) -> None:
        """Take the open block off the screen, and keep the painter still."""
        self._lock.acquire()
        if self._live and not self._drawing:
            self.terminal.raw(f"\x1b[{self._rows()}A\r\x1b[J")
            self._live = []

    def _back(self) -> None:
        self._lock.release()
        self._news.set()

    def _draw(self, final: bool = False, above: list[str] | None = None) -> None:
        self._drawing = True
        try:
            self._drawn(final, above or [])
        finally:
            self._drawing = False

    def _drawn(self, final: bool, above: list[str]) -> None:
        size = self.terminal.size()
        up = f"\x1b[{self._rows()}A\r" if self._live else ""
        if size.columns != self._renderer.width:
            self._renderer = self._new_renderer()
            up += "\x1b[J" if self._live else ""  # else some terminals would join the rows again when they grow wider
        lines = [*above, *self._thoughts(final)]
        waiting, self._waiting = self._waiting, ""
        if waiting and waiting[-1] == "\r" and not final:
            waiting, self._waiting = waiting[:-1], "\r"
        lines += self._renderer.lines(self._blocks.feed(show(waiting)))
        if final:
            lines += self._renderer.lines(self._blocks.finish())
        live = [] if final else self._open(size)
        if not lines and not live and not self._live:
            return
        # Row by row, and the rest below: clearing a whole screen would push it into some terminals' scrollback.
        drawn = up
        drawn += "".join(f"{line}\x1b[K\n" if self._live else f"{line}\n" for line in lines)
        if live:
            drawn += "\x1b[?7l" + "".join(f"{line}\x1b[K\n" for line in live) + "\x1b[?7h"
        if self._live:
            drawn += "\x1b[J"
        self._live, self._live_width = live, size.columns
        self.terminal.raw(drawn)

    def _rows(self) -> int:
        """The rows that the open block takes now: where a terminal has grown narrower, it may have wrapped them."""
        width = self.terminal.width
        if width >= self._live_width or not self.terminal.reflows:
            return len(self._live)
        return sum(max(1, -(-columns_of(line) // width)) for line in self._live)

    def _open(self, size: os.terminal_size) -> list[str]:
        thought = self._thought.rpartition("\n")[2]
        lines = [self._dim(show(thought)[-self._renderer.width + 1 :])] if thought and self._thinking else []
        lines += self._renderer.lines(self._blocks.open())
        waited = int(time.monotonic() - self._begun)
        if not lines and not self.text and waited >= PATIENCE:
            lines = [self._dim(show_line(f"waiting for the first word: {waited} s, Ctrl-C stops")[: size.columns - 1])]
        return lines[-max(1, size.lines - 1) :]

    def _thoughts(self, final: bool) -> list[str]:
        """The whole lines of what the model thinks aloud, dimmed, while it has said nothing yet."""
        if not self._thought:
            return []
        self._thinking = not (self._waiting or final)
        whole, newline, rest = self._thought.rpartition("\n")
        if not self._thinking:
            whole, newline, rest = self._thought, "", ""
        self._thought = rest
        lines = (
            [self._dim(row) for line in whole.split("\n") for row in self._rows_of(line)] if whole or newline else []
        )
        return lines if self._thinking or not lines else [*lines, ""]

    def _rows_of(self, line: str) -> list[str]:
        return at_words(show(line), self._renderer.width).split("\n")

    def _dim(self, text: str) -> str:
        return self.terminal.styled(text, "dim", self.terminal.out)

    def _new_renderer(self) -> Renderer:
        encoding = (getattr(self.terminal.out, "encoding", "") or "utf-8").lower().replace("-", "")
        return Renderer(max(NARROWEST, self.terminal.width), self.terminal.colour, encoding not in ("utf8", "utf16"))
