"""The context as a screen: what is sent next, part by part, and keys that pin, exclude and undo."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, FormattedTextControl, HSplit, VSplit, Window

from chatmem.chat.chat import Chat
from chatmem.errors import ChatmemError
from chatmem.history.session import Turn
from chatmem.memory.strategies import format_spec
from chatmem.repl.list_view import ListView, Preview, keys_that_fit, leave, run_full_screen, text_line, with_preview
from chatmem.terminal.context_rows import MARKS, TurnRow, as_one, bar_cells, runs, turn_rows
from chatmem.terminal.context_view import legend, limit_reason
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.tables import pad
from chatmem.terminal.terminal import Terminal, cell_width, wrap

PLAN_DELAY = 0.1
"""Seconds without a key after which a question that is typed is planned."""
MAX_PREVIEW_LINES = 200
HELP = (
    "Enter  expands a run of turns, or collapses it",
    "Space  pins a turn: it is always sent; again unpins it",
    "x      excludes a turn: it is never sent; again includes it",
    "s      edits the summary in your editor",
    "Tab    types the question that would be asked; what is retrieved depends on it",
    "u      undoes the last change",
    "q      leaves, like Esc",
    "",
    *(f"{mark} {decision}" for decision, mark in MARKS.items()),
)

KEYS = ("Space pins", "? help", "Enter expands", "x excludes", "q leaves", "Tab asks", "u undoes", "s summary")
ROW_STYLES = {"pinned": "class:warn", "sent": "", "shortened": "", "recalled": "class:good"}

Lines = list[tuple[str, str]]
"""Lines of a preview with their styles."""


class _Row(NamedTuple):
    """A part of the system message, a turn, or a run of turns."""

    kind: str
    row: TurnRow
    is_run: bool = False
    in_run: bool = False


class ContextScreen:
    """The state of the screen. Changes are stored in the session at once."""

    def __init__(self, chat: Chat, terminal: Terminal, edit: Callable[[str], str], question: str = "") -> None:
        """`edit` opens the user's editor on a text."""
        self.chat, self.terminal, self.edit = chat, terminal, edit
        self.question = Buffer(multiline=False, on_text_changed=lambda buffer: self._plan_later())
        self.question.text = question
        self.message = ""
        self.shows_help = False
        self._expanded: set[int] = set()
        """The turns of the runs that are expanded: a run stays so when one of its turns leaves it."""
        self._undo: list[tuple[int, dict[str, bool]]] = []
        self._task: asyncio.Task[None] | None = None
        self.context = chat.plan(question or None)
        self._rows: list[_Row] = []
        self._list = ListView(lambda: len(self._rows), self._render_row)
        self._set_rows()
        self._list.selected = len(self._rows) - 1

    def run(self) -> None:
        """Show the screen until the user leaves it."""
        listed = FormattedTextControl(focusable=True, show_cursor=False)
        focus = Window(listed, height=0)
        question = Window(BufferControl(self.question), height=1)
        body = HSplit(
            [
                Window(FormattedTextControl(self._heading), height=self._heading_rows),
                VSplit([Window(FormattedTextControl("Question: "), width=10, height=1, style="class:faint"), question]),
                with_preview(self._list, Preview(self._preview)),
                text_line(self._keys),
                focus,
            ]
        )
        run_full_screen(body, self._bindings(focus, question), self.terminal, focus)

    # The plan

    def _replan(self) -> None:
        before = self.context.tokens
        try:
            self.context = self.chat.plan(self.question.text or None)
        except ChatmemError as error:
            self.message = error.message
            return
        self._set_rows()
        change = self.context.tokens - before
        free = max(0, self.context.budget - self.context.tokens)
        self.message += f" {change:+,} tokens, {free:,} free." if self.message else ""

    def _plan_later(self) -> None:
        async def plan() -> None:
            await asyncio.sleep(PLAN_DELAY)
            self.message = ""
            self._replan()
            get_app().invalidate()

        with contextlib.suppress(RuntimeError):  # the screen is not shown yet
            loop = asyncio.get_running_loop()
            if self._task:
                self._task.cancel()
            self._task = loop.create_task(plan())

    def _set_rows(self) -> None:
        rows = [_Row(kind, TurnRow(0, 0, "", tokens, title, "")) for kind, title, tokens in self._parts()]
        for run in runs(turn_rows(self.context)):
            is_run, is_open = len(run) > 1, run[0].first in self._expanded
            rows.append(_Row("turn", as_one(run), is_run))
            if is_run and is_open:
                rows += [_Row("turn", row, in_run=True) for row in run]
        self._rows = rows

    def _parts(self) -> Iterator[tuple[str, str, int]]:
        """The parts of the system message that are not turns: kind, title and tokens."""
        sizes = self.context.token_breakdown
        for kind, title in (("system", "system prompt"), ("facts", "facts"), ("summary", "summary"), ("date", "dates")):
            if sizes.get(kind):
                yield kind, title, sizes[kind]

    # What is shown

    def _heading(self) -> StyleAndTextTuples:
        width = get_app().output.get_size().columns
        context = self.context
        usage = f"{context.tokens:,} of {context.budget:,} tokens ({context.counter.method}; {limit_reason(context)})"
        title = sanitize_line(f"{self.chat.name} · {format_spec(context.strategy)} · {usage}")
        bar: StyleAndTextTuples = [
            (f"class:{style}" if style == "dim" else f"class:{style} reverse", text)
            for text, style in bar_cells(context.token_breakdown, max(10, width - 1))
        ]
        parts = wrap(legend(context.token_breakdown), width)
        return [("class:heading", wrap(title, width)), ("", "\n"), *bar, ("class:faint", f"\n{parts}")]

    def _heading_rows(self) -> int:
        return 1 + sum(part[1].count("\n") for part in self._heading())

    def _render_row(self, number: int, width: int) -> StyleAndTextTuples:
        kind, row, is_run, in_run = self._rows[number]
        if kind != "turn":
            return [("class:accent", f"  {'':>8} {row.tokens:>6,}  "), ("", row.title)]
        arrow = ("▾" if row.first in self._expanded else "▸") if is_run else " "
        head = (
            f"{arrow}{'  ' if in_run else ''}{MARKS[row.decision]} {row.numbers:>{7 - 2 * in_run}} {row.tokens:>6,}  "
        )
        label = row.decision if width < 70 else row.reason
        title = pad(row.title, max(1, width - cell_width(head) - cell_width(label) - 2))
        style = {"pinned": "class:warn", "sent": "", "shortened": "", "recalled": "class:good"}.get(
            row.decision, "class:faint"
        )
        return [(style, head), (style, title), ("class:faint", f"  {label}")]

    def _keys(self) -> StyleAndTextTuples:
        if self.message:
            return [("class:warn", sanitize_line(self.message))]
        if get_app().layout.has_focus(self.question):
            return [("class:keys", keys_that_fit("Enter goes back to the turns", "shown is what this question gets"))]
        return [("class:keys", keys_that_fit(*KEYS))]

    def _preview(self) -> Lines:
        if self.shows_help:
            return [("", line) for line in HELP]
        chosen = self._rows[self._list.selected] if self._rows else None
        if chosen is None:
            return [("class:faint", "Nothing was asked yet.")]
        if chosen.kind != "turn":
            return [("", line) for line in self._part_text(chosen.kind).split("\n")[:MAX_PREVIEW_LINES]]
        if chosen.is_run:
            return [("class:faint", f"{chosen.row.reason}; Enter shows each turn"), *self._summary_lines(chosen.row)]
        turn = self.chat.session.turn(chosen.row.first)
        return [("class:faint", f"turn {chosen.row.numbers}: {chosen.row.reason}"), *self._sent(turn, chosen.row)]

    def _part_text(self, kind: str) -> str:
        if kind == "summary":
            return "\n".join(segment.text for segment in self.context.summary.segments) or self._system_message()
        texts = {"system": self.chat.session.system, "facts": self.context.facts_text}
        return texts.get(kind) or self._system_message()

    def _system_message(self) -> str:
        first = self.context.messages[0] if self.context.messages else {}
        return first.get("content", "") if first.get("role") == "system" else ""

    def _summary_lines(self, row: TurnRow) -> Lines:
        """The lines of the summary that stem from some turns."""
        index = self.chat.session.turn_index
        lines: Lines = []
        for segment in self.context.summary.segments:
            for number, line in enumerate(segment.text.split("\n")):
                sources = segment.sources[number] if number < len(segment.sources) else ()
                turns = {index[ident] + 1 for ident in sources if ident in index}
                if any(row.first <= turn <= row.last for turn in turns):
                    lines.append(("class:good", line))
        return lines

    def _sent(self, turn: Turn | None, row: TurnRow) -> Lines:
        """A turn as it is sent: whole, as its lines in the summary, as retrieved passages, or not at all."""
        if turn is None:
            return []
        if row.decision == "shortened" and self.context.shortened:
            end = -1 if self.context.question is not None else None
            sent = [m["content"] for m in self.context.messages[:end][-2:]]
            return [("", line) for text in sent for line in ["", *text.split("\n")[:MAX_PREVIEW_LINES]]]
        if row.decision == "recalled":
            ids = {message.id for message in turn.messages}
            found = [p for p in self.context.retrieved if p.message.id in ids]
            return [("class:good", p.message.content[p.start : p.end]) for p in found]
        if row.decision == "summarised" and (lines := self._summary_lines(row)):
            return lines
        style = "class:faint" if row.decision in ("dropped", "excluded", "summarised") else ""
        lines = []
        for message in turn.messages:
            mark = "> " if message.role == "user" else ""
            text = message.content.strip().split("\n")[:MAX_PREVIEW_LINES]
            lines += [
                ("", ""),
                *((style or ("class:question" if mark else ""), mark * (n == 0) + t) for n, t in enumerate(text)),
            ]
        return lines

    # Keys

    def _bindings(self, rows: Window, question: Window) -> KeyBindings:
        keys = KeyBindings()
        in_rows, in_question = has_focus(rows), has_focus(question)
        self._list.bind_keys(keys, Condition(lambda: True))

        @keys.add("enter", filter=in_rows)
        def toggle_run(event: KeyPressEvent) -> None:
            chosen = self._rows[self._list.selected] if self._rows else None
            if chosen and chosen.is_run:
                self._expanded ^= set(range(chosen.row.first, chosen.row.last + 1))
                self._set_rows()

        keys.add(" ", filter=in_rows)(lambda event: self._toggle("pinned"))
        keys.add("x", filter=in_rows)(lambda event: self._toggle("excluded"))
        keys.add("u", filter=in_rows)(lambda event: self._undo_last())
        keys.add("s", filter=in_rows)(lambda event: self._edit_summary())

        @keys.add("?", filter=in_rows)
        def show_help(event: KeyPressEvent) -> None:
            self.shows_help = not self.shows_help

        @keys.add("tab", filter=in_rows)
        def type_question(event: KeyPressEvent) -> None:
            event.app.layout.focus(question)

        @keys.add("tab", filter=in_question)
        @keys.add("enter", filter=in_question)
        @keys.add("escape", filter=in_question)
        def leave_question(event: KeyPressEvent) -> None:
            event.app.layout.focus(rows)

        for key in ("q", "escape"):
            keys.add(key, filter=in_rows)(leave)
        keys.add("c-c")(leave)
        keys.add("c-d", filter=in_rows)(leave)
        return keys

    def _toggle(self, flag: str) -> None:
        chosen = self._rows[self._list.selected] if self._rows else None
        if chosen is None or chosen.kind != "turn":
            self.message = "Only turns can be pinned or excluded."
        elif chosen.is_run:
            self.message = "Enter expands the run, then choose one turn."
        elif turn := self.chat.session.turn(chosen.row.first):
            before = {"pinned": turn.pinned, "excluded": turn.excluded}
            self._set_flags(turn.number, {flag: not before[flag]}, {flag: before[flag]})

    def _set_flags(self, number: int, flags: dict[str, bool], before: dict[str, bool] | None = None) -> None:
        words = {("pinned", True): "pinned", ("pinned", False): "not pinned"}
        words |= {("excluded", True): "excluded", ("excluded", False): "included"}
        try:
            self.chat.set_turn_flags(number, **flags)
        except ChatmemError as error:
            self.message = f"{error.message} {error.hint}".strip()
            return
        if before is not None:
            self._undo.append((number, before))
        (change,) = flags.items()
        self.message = f"Turn {number} is {words[change]}:"
        self._replan()
        self._select(number)

    def _undo_last(self) -> None:
        if self._undo:
            number, flags = self._undo.pop()
            self._set_flags(number, flags)
        else:
            self.message = "Nothing to undo."

    def _select(self, number: int) -> None:
        """Select the row of a turn, or of the run that it is in now."""
        for index, (kind, row, *_) in enumerate(self._rows):
            if kind == "turn" and row.first <= number <= row.last:
                self._list.selected = index

    def _edit_summary(self) -> None:
        segments = self.context.summary.segments
        if not segments:
            self.message = "No summary was made yet."
            return

        def run_editor() -> None:
            try:
                for segment in segments:
                    text = self.edit(segment.text).strip()
                    if text != segment.text.strip():
                        self.chat.summary.edit(segment, text)
                        self.message = "The summary was changed:" if text else "The segment is made again:"
            except ChatmemError as error:
                self.message = f"{error.message} {error.hint}".strip()
            self._replan()

        run_in_terminal(run_editor)


def show_context_screen(chat: Chat, terminal: Terminal, edit: Callable[[str], str], question: str = "") -> None:
    """Let the user look at the context and change it. Raises ContextBudgetError if nothing can be sent."""
    ContextScreen(chat, terminal, edit, question).run()
