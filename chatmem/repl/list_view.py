"""A list on a full screen: rows of which one is selected, beside them a preview, and a line with the keys below."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from prompt_toolkit.application import Application, get_app, get_app_session
from prompt_toolkit.filters import Filter
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyBindingsBase, KeyPressEvent
from prompt_toolkit.layout import AnyContainer, DynamicContainer, HSplit, Layout, UIContent, UIControl, VSplit, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.styles import Style

from chatmem.repl.typed_ahead import hand_over
from chatmem.terminal import keyboard
from chatmem.terminal.colors import Colors, ansi_color
from chatmem.terminal.sanitize import limit_zero_width, sanitize
from chatmem.terminal.tables import pad
from chatmem.terminal.terminal import Terminal, cell_width, wrap

ESCAPE_SECONDS = 0.1
"""Esc is a key of its own, so a key that belongs to it must follow at once."""
WIDE = 100
"""Columns from which on the preview stands beside the list instead of below it."""
MIN_PREVIEW_ROWS = 18
"""Rows of a screen from which on there is a preview below the list."""

T = TypeVar("T")
TAB_COLUMNS = 4
MAX_LINE_CHARS = 5_000
"""How much of a line is shown in a preview."""
RenderRow = Callable[[int, int], StyleAndTextTuples]
"""Renders the row with a number in a number of columns."""


class ListView(UIControl):
    """Rows of which one is selected. Only those on the screen are rendered."""

    def __init__(self, count: Callable[[], int], render: RenderRow) -> None:
        self.count, self.render = count, render
        self.selected = 0
        self._top, self._height = 0, 1

    def create_content(self, width: int, height: int) -> UIContent:
        count = self.count()
        self.selected = max(0, min(self.selected, count - 1))
        self._height = height
        self._top = max(min(self._top, self.selected, max(0, count - height)), self.selected - height + 1)
        lines = [self._line(number, width) for number in range(self._top, min(count, self._top + height))]
        return UIContent(lambda number: lines[number] if lines else [], max(1, len(lines)), show_cursor=False)

    def _line(self, number: int, width: int) -> StyleAndTextTuples:
        line: StyleAndTextTuples = [(part[0], limit_zero_width(part[1])) for part in self.render(number, width)]
        if number != self.selected:
            return line
        missing = width - sum(cell_width(part[1]) for part in line)
        line = [*line, ("", " " * max(0, missing))]
        return [("class:selected", part[1]) for part in line]  # a faint part would look like another selection

    def move(self, rows: int) -> None:
        self.selected = max(0, min(self.selected + rows, self.count() - 1))

    def bind_keys(self, keys: KeyBindings, filter: Filter) -> None:
        """Move with the arrow keys, pages, and Ctrl-P and Ctrl-N."""
        steps = {"up": -1, "c-p": -1, "down": 1, "c-n": 1}
        for key, step in steps.items():
            keys.add(key, filter=filter)(lambda event, step=step: self.move(step))
        keys.add("home", filter=filter)(lambda event: self.move(-self.count()))
        keys.add("end", filter=filter)(lambda event: self.move(self.count()))
        keys.add("pageup", filter=filter)(lambda event: self.move(1 - self._height))
        keys.add("pagedown", filter=filter)(lambda event: self.move(self._height - 1))


class Preview(UIControl):
    """Lines of text, wrapped, as many as fit."""

    def __init__(self, lines: Callable[[], list[tuple[str, str]]]) -> None:
        self.lines = lines
        """The lines with their styles."""

    def create_content(self, width: int, height: int) -> UIContent:
        rows: list[StyleAndTextTuples] = []
        for style, text in self.lines():
            if len(rows) >= height:
                break
            line = sanitize(limit_zero_width(text[:MAX_LINE_CHARS]).expandtabs(TAB_COLUMNS)).replace("\n", " ")
            for row in wrap(line, width).split("\n"):
                while row and len(rows) < height and cell_width(row) > width:  # a long word
                    head = pad(row, width + 1)[:-1].rstrip("…")
                    rows.append([(style, head)])
                    row = row[len(head) :] if head else ""
                rows.append([(style, row)])
        rows = rows[:height] or [[]]
        return UIContent(lambda number: rows[number], len(rows), show_cursor=False)


def text_line(text: Callable[[], StyleAndTextTuples], style: str = "") -> Window:
    """One row of text."""
    return Window(FormattedTextControl(text), height=1, style=style)


def keys_that_fit(*hints: str) -> str:
    """The hints that fit on one line, of which the first ones are the most important."""
    width, line = get_app().output.get_size().columns, ""
    for hint in hints:
        longer = f"{line} · {hint}" if line else hint
        if cell_width(longer) <= width:
            line = longer
    return line


def with_preview(rows: UIControl, preview: UIControl) -> AnyContainer:
    """The list with the preview beside it or below it, depending on the size of the terminal."""
    listed, shown = Window(rows), Window(preview)
    beside = VSplit([listed, Window(width=1, char="│", style="class:frame"), shown], padding=1)
    shown_below = Window(preview, height=lambda: Dimension.exact(max(3, get_app().output.get_size().rows // 3)))
    below = HSplit([listed, Window(height=1, char="─", style="class:frame"), shown_below])

    def chosen() -> AnyContainer:
        size = get_app().output.get_size()
        return beside if size.columns >= WIDE else below if size.rows >= MIN_PREVIEW_ROWS else listed

    return DynamicContainer(chosen)


def run_full_screen(body: AnyContainer, keys: KeyBindingsBase, terminal: Terminal, focus: Any = None) -> Any:
    """Show a screen until a key ends it. Returns what the key's function gave to `exit`.

    Notices that come up are printed afterwards: they would destroy the screen.
    """
    app: Application[Any] = Application(
        layout=Layout(body, focused_element=focus),
        key_bindings=keys,
        style=screen_style(terminal.colors),
        full_screen=True,
        mouse_support=False,
        input=get_app_session().input,
        output=get_app_session().output,
    )
    app.ttimeoutlen = app.timeoutlen = ESCAPE_SECONDS
    hand_over(app.input)
    err, terminal.err = terminal.err, io.StringIO()
    try:
        return app.run()
    finally:
        notices, terminal.err = terminal.err.getvalue(), err
        terminal.err.write(notices)
        keyboard.prompt_ended()


async def in_thread(function: Callable[[], T]) -> T:
    """The result of a function that may take long. Leaving the screen does not wait for it, unlike `to_thread`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(result: T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result, failure = None, None
        try:
            result = function()
        except Exception as error:  # noqa: BLE001  # raised where the result is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the screen was left
            loop.call_soon_threadsafe(resolve, result, failure)

    threading.Thread(target=run, daemon=True, name="screen").start()
    return await future


def screen_style(colors: Colors) -> Style:
    """Classes for the parts of a screen, in the terminal's own colors."""
    accent, good, warn = (ansi_color(color) for color in (colors.accent, colors.good, colors.warn))
    return Style.from_dict(
        {
            "selected": "reverse",
            "heading": f"bold {accent}",
            "frame": ansi_color(colors.faint),
            "faint": ansi_color(colors.faint),
            "keys": ansi_color(colors.faint),
            "match": f"bold {accent}",
            "error": ansi_color(colors.error),
            "question": "bold",
            "accent": accent,
            "good": good,
            "warn": warn,
            "keyword": ansi_color(colors.keyword),
            "bold": "bold",
            "dim": ansi_color(colors.faint),
        }
    )


def leave(event: KeyPressEvent, result: object = None) -> None:
    """End the screen with a result, unless an earlier key has ended it."""
    if event.app.is_running and not event.app.is_done:
        event.app.exit(result=result)
