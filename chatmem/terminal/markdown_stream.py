"""Streaming Markdown to a terminal so that the scrollback stays correct.

Final blocks are printed once. Only the open block is drawn again, clipped to the screen, and of it only what differs
from the frame before. The cursor stays at its end, so that most frames just write what was added. It is drawn without
automatic line wrap, so that a character whose width the terminal sees differently cannot shift the rows that are
overwritten.

A thread draws the frames: as soon as something arrives, but only so often that drawing takes a small share of a core,
and never faster than the terminal takes them. Whoever feeds the stream waits for neither.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import Self

from chatmem.errors import Action, Notice
from chatmem.process import on_suspend
from chatmem.terminal import keyboard
from chatmem.terminal.incremental_markdown import IncrementalMarkdown
from chatmem.terminal.markdown_renderer import MarkdownRenderer, appended_text, visible_width
from chatmem.terminal.open_block import OpenBlock
from chatmem.terminal.sanitize import sanitize, sanitize_line
from chatmem.terminal.tables import pad
from chatmem.terminal.terminal import MIN_WIDTH, Terminal, cell_width, wrap

FRAME_SECONDS = 0.016
"""The least seconds between two frames."""
FRAME_SHARE = 0.1
"""The share of the time that drawing takes at most, as long as frames do not become too rare."""
MAX_FRAME_SECONDS = 0.04
MAX_SCROLL = 8
"""The most rows by which the open block is scrolled instead of being drawn again."""
MIN_SCROLLED = 4
"""The fewest rows that are worth it."""
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_SECONDS = 0.1
"""Seconds between two pictures of the spinner."""
WAITING_SECONDS = 0.3
"""Seconds without output after which the spinner is shown."""
MAX_THOUGHT_CHARS = 1_000
"""How much of the end of the model's reasoning is kept to show its last line."""
STALL_NOTICE_SECONDS = 5
"""Seconds without new text in the middle of a reply after which a notice is shown."""


class MarkdownStream:
    """Shows one reply while it arrives: call `feed`, and leave the context when the reply ends."""

    def __init__(self, terminal: Terminal, frame: float = FRAME_SECONDS) -> None:
        self.terminal, self.frame = terminal, frame
        self._blocks = IncrementalMarkdown()
        self._arrived: deque[tuple[str, str]] = deque()
        """Text and reasoning that no frame has taken yet."""
        self._texts: list[str] = []
        self._unparsed = ""
        self._thoughts = ""
        """The end of the model's reasoning, while there is no text after it."""
        self._thinking_since: float | None = None
        self._live: list[str] = []
        self._live_width = 0
        self._set_renderer()
        self._lock = threading.RLock()  # the handler of Ctrl-Z may run in a thread that holds it
        self._changed = threading.Event()
        self._ended = False
        self._failed: OSError | None = None
        self._drawing = False
        self._last_arrival = time.monotonic()
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

    @property
    def text(self) -> str:
        """The reply so far."""
        return "".join(self._texts)

    def feed(self, text: str, reasoning: str = "") -> None:
        """Add text of the reply, and of the model's reasoning. Does not wait for the terminal."""
        if self._failed:
            raise self._failed
        if text or reasoning:
            self._last_arrival = time.monotonic()
            if text:
                self._texts.append(text)
            self._arrived.append((text, reasoning))
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
            self._changed.wait(SPINNER_SECONDS)  # to show the seconds of a wait, and what is typed
            self._changed.clear()
            started = time.thread_time()
            try:
                self.draw()
            except OSError as error:  # the terminal is gone: `feed` raises it
                self._failed = error
                return
            time.sleep(max(self.frame, min(MAX_FRAME_SECONDS, (time.thread_time() - started) / FRAME_SHARE)))

    def _suspend(self) -> None:
        """Remove the open block from the screen, and stop the painter."""
        self._lock.acquire()
        if self._live and not self._drawing:
            self.terminal.raw(self._to_first_row() + "\x1b[J")
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
        is_resized = size.columns != self._renderer.width
        if is_resized:
            self._set_renderer(self._renderer.code_count)
        self._take_arrived()
        lines = [*above, *self._thought_lines(final)]
        unparsed, self._unparsed = self._unparsed, ""
        if unparsed and unparsed[-1] == "\r" and not final:
            unparsed, self._unparsed = unparsed[:-1], "\r"
        lines += self._renderer.lines(self._blocks.feed(sanitize(unparsed)))
        if final:
            lines += self._renderer.lines(self._blocks.finish())
        live = [] if final else self._open(size)
        if is_resized and self._live:  # some terminals rejoin rows when they become wider
            drawn = self._to_first_row() + "\x1b[J" + _joined([*lines, *live], len(lines), fits=False)
        else:
            drawn = self._difference(lines, live)
        self._live, self._live_width = live, size.columns
        if drawn:
            self.terminal.raw(drawn)

    def _take_arrived(self) -> None:
        """Take what arrived since the last frame."""
        texts = []
        while self._arrived:
            text, reasoning = self._arrived.popleft()
            texts.append(text)
            if reasoning:
                self._thoughts = (self._thoughts + reasoning)[-MAX_THOUGHT_CHARS:]
                self._thinking_since = self._thinking_since or self._last_arrival
        self._unparsed += "".join(texts)

    def _difference(self, lines: list[str], live: list[str]) -> str:
        """What turns the rows on the screen into final lines and the rows of the open block.

        The rows that differ are overwritten one by one: clearing the screen from its first row on would push it into
        some terminals' scrollback.
        """
        old, new = self._live, [*lines, *live]
        row, drawn = len(old) - 1, ""  # where the cursor is
        if not lines and (gone := _scrolled_rows(old, new)):
            old, row = old[gone:], 0
            drawn = self._to_first_row() + f"\x1b[{gone}M"
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            if same < len(lines) and visible_width(new[same]) > self._live_width:
                break  # it was cut off at the edge of the screen, and is final now
            same += 1
        if live and same == len(new) and (drawn or same < len(old)):
            same -= 1  # the cursor belongs at the end of the last row
        final = max(0, len(lines) - same)  # of the rows that differ
        fits = self._fits(new[same + final :])
        if same == len(old):
            if old and (len(new) > same or not live):
                drawn += _move(len(old) - 1 - row) + "\n"
            return drawn + _joined(new[same:], final, fits)
        is_at_end = same == row and same < len(new) and visible_width(old[same]) < self._live_width
        if is_at_end and not drawn and (added := appended_text(old[same], new[same])):
            return _joined([added, *new[same + 1 :]], final, fits)
        rows = [f"{row}\x1b[K" for row in new[same:]]
        rest = "\x1b[J" if len(new) < len(old) else ""
        return drawn + "\r" + _move(same - row) + _joined(rows, final, fits) + rest

    def _fits(self, rows: list[str]) -> bool:
        """Whether the terminal certainly takes these rows as one row each."""
        return all(row.isascii() and visible_width(row) <= self._renderer.width for row in rows)

    def _to_first_row(self) -> str:
        """What moves the cursor from the end of the open block to its beginning."""
        return "\r" + _move(1 - self._rows())

    def _rows(self) -> int:
        """The rows that the open block takes now. A terminal that became narrower may have wrapped them."""
        width = self.terminal.width
        if width >= self._live_width or not self.terminal.reflows:
            return len(self._live)
        return sum(max(1, -(-visible_width(line) // width)) for line in self._live)

    def _open(self, size: os.terminal_size) -> list[str]:
        height = max(1, size.lines - 1)
        lines = []
        lines += self._open_block.rows(height)
        if notice := self._waiting_notice():
            lines = [*lines, self._dim(pad(notice, size.columns - 1).rstrip())]
        if typed := sanitize_line(keyboard.typed_line()):
            lines = [*lines, self._dim("> " + _end_that_fits(typed, size.columns - 3))]
        return lines[-height:]

    def _waiting_notice(self) -> str:
        """What says that the model thinks, or how long nothing has arrived. Empty if that is not long."""
        now = time.monotonic()
        waited = now - self._last_arrival
        picture = "" if self._renderer.ascii_only else SPINNER[int(now / SPINNER_SECONDS) % len(SPINNER)] + " "
        if self._thinking_since:
            thought = sanitize_line(self._thoughts.rstrip("\n").rpartition("\n")[2])
            notice = f"{picture}thinking, {int(now - self._thinking_since)} s: "
            return notice + _end_that_fits(thought, self._renderer.width - cell_width(notice) - 1)
        if not self._texts:
            return f"{picture}{int(waited)} s, Ctrl-C stops" if waited >= WAITING_SECONDS else ""
        return f"{picture}no new text for {int(waited)} s, Ctrl-C stops" if waited >= STALL_NOTICE_SECONDS else ""

    def _thought_lines(self, final: bool) -> list[str]:
        """One line about the model's reasoning, once it has ended."""
        if not self._thinking_since or not (self._unparsed or final):
            return []
        seconds = self._last_arrival - self._thinking_since
        self._thoughts, self._thinking_since = "", None
        notice = Notice(f"Thought for {max(1, round(seconds))} s.", Action("show_reasoning"))
        return [*map(self._dim, wrap(self.terminal.notice_text(notice), self.terminal.width).split("\n")), ""]

    def _dim(self, text: str) -> str:
        return self.terminal.styled(text, "dim", self.terminal.out)

    def _set_renderer(self, code_count: int = 0) -> None:
        encoding = (getattr(self.terminal.out, "encoding", "") or "utf-8").lower().replace("-", "")
        is_ascii = encoding not in ("utf8", "utf16")
        self._renderer = MarkdownRenderer(max(MIN_WIDTH, self.terminal.width), self.terminal.colors, is_ascii)
        self._renderer.code_count = code_count
        self._open_block = OpenBlock(self._blocks, self._renderer)


def _end_that_fits(text: str, width: int) -> str:
    """The end of a line in at most `width` columns."""
    text = text[-width:] if width > 0 else ""
    while text and cell_width(text) > width:
        text = text[max(1, len(text) - width) :] if cell_width(text) == len(text) else text[1:]
    return text


def _move(rows: int) -> str:
    """What moves the cursor down, or up if `rows` is negative."""
    return f"\x1b[{abs(rows)}{'A' if rows < 0 else 'B'}" if rows else ""


def _scrolled_rows(old: list[str], new: list[str]) -> int:
    """How many of the first rows are gone while all others but the last stay, since the block outgrew the screen."""
    if old[:1] == new[:1]:
        return 0
    for gone in range(1, min(MAX_SCROLL, len(old) - MIN_SCROLLED) + 1):
        if old[gone:-1] == new[: len(old) - gone - 1]:
            return gone
    return 0


def _joined(rows: list[str], final: int, fits: bool) -> str:
    """Some final lines, which the terminal may wrap, then rows of the open block, with the cursor at their end."""
    drawn = "".join(f"{line}\n" for line in rows[:final])
    if len(rows) == final:
        return drawn
    live = "\n".join(rows[final:])
    return drawn + (live if fits else f"\x1b[?7l{live}\x1b[?7h")
