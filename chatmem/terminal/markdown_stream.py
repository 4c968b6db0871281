"""Streaming Markdown to a terminal so that the scrollback stays correct.

Final blocks are printed once. Only the open block is drawn again, at most 12.5 times a second, clipped to the screen.
It is drawn without automatic line wrap, so that a character whose width the terminal sees differently cannot shift the
rows that are overwritten.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Self

from chatmem.process import on_suspend
from chatmem.terminal.incremental_markdown import IncrementalMarkdown
from chatmem.terminal.markdown_renderer import MarkdownRenderer, visible_width
from chatmem.terminal.sanitize import sanitize, sanitize_line
from chatmem.terminal.terminal import MIN_WIDTH, Terminal, wrap

FRAME_SECONDS = 0.08
"""Seconds between two frames."""
WAITING_NOTICE_SECONDS = 2
"""Seconds without output after which a waiting notice is shown."""


class MarkdownStream:
    """Shows one reply while it arrives: call `feed`, and leave the context when the reply ends."""

    def __init__(self, terminal: Terminal, frame: float = FRAME_SECONDS) -> None:
        self.terminal, self.frame = terminal, frame
        self.text = ""
        self._blocks = IncrementalMarkdown()
        self._unparsed = ""
        self._reasoning = ""
        self._is_reasoning = False
        self._live: list[str] = []
        self._live_width = 0
        self._renderer = self._new_renderer()
        self._lock = threading.RLock()  # the handler of Ctrl-Z may run in a thread that holds it
        self._changed = threading.Event()
        self._ended = False
        self._failed: OSError | None = None
        self._drawing = False
        self._started = time.monotonic()
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._held.enter_context(on_suspend(self._suspend, self._resume))
        if self.frame:
            threading.Thread(target=self._paint, daemon=True, name="screen").start()
        return self

    def __exit__(self, *details: object) -> None:
        with self._held, self._lock:
            self._ended = True
            self._draw(final=True)
        self._changed.set()

    def feed(self, text: str, reasoning: str = "") -> None:
        """Add text of the reply, and of the model's reasoning."""
        if self._failed:
            raise self._failed
        with self._lock:
            self.text += text
            self._unparsed += text
            self._reasoning += reasoning
        if text or reasoning:
            self._changed.set()

    def info(self, line: str) -> None:
        """Print a line between the final blocks and the open one."""
        lines = wrap(sanitize_line(line), self.terminal.width).split("\n")
        with self._lock:
            self._draw(above=[self.terminal.styled(part, "dim", self.terminal.out) for part in lines])

    def draw(self) -> None:
        """Draw a frame. Called by the painter thread, or by the caller if there is none."""
        with self._lock:
            if not self._ended:
                self._draw()

    def _paint(self) -> None:
        while not self._ended:
            self._changed.wait(None if self.text or self._is_reasoning else 1.0)
            self._changed.clear()
            try:
                self.draw()
            except OSError as error:  # the terminal is gone: `feed` raises it
                self._failed = error
                return
            time.sleep(self.frame)

    def _suspend(self) -> None:
        """Remove the open block from the screen, and stop the painter."""
        self._lock.acquire()
        if self._live and not self._drawing:
            self.terminal.raw(f"\x1b[{self._rows()}A\r\x1b[J")
            self._live = []

    def _resume(self) -> None:
        self._lock.release()
        self._changed.set()

    def _draw(self, final: bool = False, above: list[str] | None = None) -> None:
        self._drawing = True
        try:
            self._draw_frame(final, above or [])
        finally:
            self._drawing = False

    def _draw_frame(self, final: bool, above: list[str]) -> None:
        size = self.terminal.size()
        up = f"\x1b[{self._rows()}A\r" if self._live else ""
        if size.columns != self._renderer.width:
            self._renderer = self._new_renderer()
            up += "\x1b[J" if self._live else ""  # some terminals rejoin rows when they become wider
        lines = [*above, *self._reasoning_lines(final)]
        unparsed, self._unparsed = self._unparsed, ""
        if unparsed and unparsed[-1] == "\r" and not final:
            unparsed, self._unparsed = unparsed[:-1], "\r"
        lines += self._renderer.lines(self._blocks.feed(sanitize(unparsed)))
        if final:
            lines += self._renderer.lines(self._blocks.finish())
        live = [] if final else self._open(size)
        if not lines and not live and not self._live:
            return
        # Row by row, then the rest below: clearing the whole screen would push it into some terminals' scrollback.
        drawn = up
        drawn += "".join(f"{line}\x1b[K\n" if self._live else f"{line}\n" for line in lines)
        if live:
            drawn += "\x1b[?7l" + "".join(f"{line}\x1b[K\n" for line in live) + "\x1b[?7h"
        if self._live:
            drawn += "\x1b[J"
        self._live, self._live_width = live, size.columns
        self.terminal.raw(drawn)

    def _rows(self) -> int:
        """The rows that the open block takes now. A terminal that became narrower may have wrapped them."""
        width = self.terminal.width
        if width >= self._live_width or not self.terminal.reflows:
            return len(self._live)
        return sum(max(1, -(-visible_width(line) // width)) for line in self._live)

    def _open(self, size: os.terminal_size) -> list[str]:
        reasoning = self._reasoning.rpartition("\n")[2]
        lines = (
            [self._dim(sanitize(reasoning)[-self._renderer.width + 1 :])] if reasoning and self._is_reasoning else []
        )
        lines += self._renderer.lines(self._blocks.open())
        waited = int(time.monotonic() - self._started)
        if not lines and not self.text and waited >= WAITING_NOTICE_SECONDS:
            lines = [
                self._dim(sanitize_line(f"waiting for the first token: {waited} s, Ctrl-C to stop")[: size.columns - 1])
            ]
        return lines[-max(1, size.lines - 1) :]

    def _reasoning_lines(self, final: bool) -> list[str]:
        """The complete lines of the model's reasoning, dimmed. Empty once the reply has text."""
        if not self._reasoning:
            return []
        self._is_reasoning = not (self._unparsed or final)
        complete, newline, rest = self._reasoning.rpartition("\n")
        if not self._is_reasoning:
            complete, newline, rest = self._reasoning, "", ""
        self._reasoning = rest
        lines = (
            [self._dim(row) for line in complete.split("\n") for row in self._rows_of(line)]
            if complete or newline
            else []
        )
        return lines if self._is_reasoning or not lines else [*lines, ""]

    def _rows_of(self, line: str) -> list[str]:
        return wrap(sanitize(line), self._renderer.width).split("\n")

    def _dim(self, text: str) -> str:
        return self.terminal.styled(text, "dim", self.terminal.out)

    def _new_renderer(self) -> MarkdownRenderer:
        encoding = (getattr(self.terminal.out, "encoding", "") or "utf-8").lower().replace("-", "")
        return MarkdownRenderer(
            max(MIN_WIDTH, self.terminal.width), self.terminal.color, encoding not in ("utf8", "utf16")
        )
