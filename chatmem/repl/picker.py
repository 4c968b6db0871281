"""The session picker: all sessions, found by name, title and full text while typing, with a preview."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, DynamicContainer, FormattedTextControl, HSplit, VSplit, Window

from chatmem.errors import ChatmemError, SessionNotFoundError
from chatmem.history.names import validate
from chatmem.history.session import Session
from chatmem.repl import fuzzy
from chatmem.repl.list_view import (
    ListView,
    Preview,
    in_thread,
    keys_that_fit,
    leave,
    run_full_screen,
    text_line,
    with_preview,
)
from chatmem.stores import SessionInfo, SessionStore
from chatmem.stores.base import no_progress
from chatmem.stores.search import Query
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.tables import pad, print_sessions, relative_time
from chatmem.terminal.terminal import Terminal, cell_width

FIRST_SESSIONS = 100
"""How many sessions the first screen has. The others are read after it was shown."""
SEARCH_DELAY = 0.1
"""Seconds without a key after which the full text is searched."""
MAX_FOUND = 200
"""In how many sessions a text is found at most."""
MAX_PREVIEWED_MESSAGES = 5_000
"""Longer sessions are not read for a preview."""
MAX_PREVIEW_LINES = 30
"""Lines of a message that are shown in a preview."""
MAX_LISTED = 20
"""How many sessions are listed where a full screen cannot be shown."""


class Picked(NamedTuple):
    """A session, and the message at the end of the branch to continue. None for the current branch."""

    name: str
    head: str | None = None


class _Branch(NamedTuple):
    head: str
    question: str
    reply: str
    time: str
    is_current: bool


def pick_session(
    store: SessionStore, terminal: Terminal, ask: Callable[[str], str], current: str = ""
) -> Picked | None:
    """Let the user choose a session. None if they leave without choosing. The `current` one cannot be deleted.

    On a terminal without cursor movement, or for a screen reader, the sessions are listed and `ask` reads the choice.
    """
    if terminal.interactive and not terminal.plain:
        picked: Picked | None = SessionPicker(store, terminal, current).run()
        return picked
    sessions = store.recent_sessions(MAX_LISTED)
    print_sessions(terminal, sessions)
    name = ask("Open which session? Enter opens none: ").strip()
    return Picked(store.find(name)) if name else None


class SessionPicker:
    """The state of the picker, and its screen."""

    def __init__(self, store: SessionStore, terminal: Terminal, current: str = "") -> None:
        self.store, self.terminal, self.current = store, terminal, current
        self.sessions = store.recent_sessions(FIRST_SESSIONS)
        self.shown = self.sessions
        self.excerpts: dict[str, str] = {}
        """Where the text was found, by session."""
        self.mode: Literal["sessions", "branches", "rename", "delete"] = "sessions"
        self.message = ""
        self._branches: list[_Branch] = []
        self._previews: dict[str, list[tuple[str, str]]] = {}
        self._chosen: SessionInfo | None = None
        """What is to be renamed or deleted: the list may change before the user has answered."""
        self._deleted: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_complete = False
        self.query = Buffer(multiline=False, on_text_changed=lambda buffer: self._filter())
        self.new_name = Buffer(multiline=False)
        self.rows = ListView(lambda: len(self.shown), self._row)
        self.branch_rows = ListView(lambda: len(self._branches), self._branch_row)

    def run(self) -> Any:
        """Show the picker. Returns what was picked."""
        query, name = Window(BufferControl(self.query), height=1), Window(BufferControl(self.new_name), height=1)
        lists = with_preview(self.rows, Preview(self._preview))
        branches, keys = Window(self.branch_rows), text_line(self._keys)
        naming = VSplit([Window(FormattedTextControl("New name: "), width=10, height=1, style="class:heading"), name])
        mark = Window(FormattedTextControl("> "), width=2, height=1, style="class:heading")
        body = HSplit(
            [
                VSplit([mark, query, self._count()]),
                DynamicContainer(lambda: branches if self.mode == "branches" else lists),
                DynamicContainer(lambda: naming if self.mode == "rename" else keys),
            ]
        )
        progress, self.store.progress = self.store.progress, no_progress
        try:
            return run_full_screen(body, self._bindings(query, name), self.terminal, query)
        finally:
            self.store.progress = progress

    def _count(self) -> Window:
        def text() -> StyleAndTextTuples:
            more = "" if self._is_complete else "+"
            return [("class:faint", f"{len(self.shown):,} of {len(self.sessions):,}{more}")]

        window = text_line(text)
        window.width = 20
        return window

    def _keys(self) -> StyleAndTextTuples:
        if self.message:
            return [("class:warn", sanitize_line(self.message))]
        if self.mode == "branches":
            return [("class:keys", keys_that_fit("Enter opens this branch", "Esc goes back"))]
        undo = ["Ctrl-Z restores"] if self._deleted else []
        keys = ("Enter opens", "Esc leaves", *undo, "Del deletes", "F2 renames", "Tab branches")
        return [("class:keys", keys_that_fit(*keys))]

    # Rows

    def _row(self, number: int, width: int) -> StyleAndTextTuples:
        session = self.shown[number]
        used = f"{relative_time(session.last_active):>12}"
        name_width = min(max(12, width // 4), 24)
        excerpt = self.excerpts.get(session.name, "") if self.query.text.strip(' "') else ""
        title_width = width - name_width - 3 - (len(used) + 1 if width >= 60 else 0)
        row: StyleAndTextTuples = [
            ("class:bold", f" {pad(sanitize_line(session.name), name_width)} "),
            ("", pad(sanitize_line(session.title), max(1, title_width))) if not excerpt else ("", ""),
        ]
        if excerpt:
            row += self._highlighted(excerpt, max(1, title_width))
        return [*row, ("class:faint", f" {used}")] if width >= 60 else row

    def _highlighted(self, excerpt: str, width: int) -> StyleAndTextTuples:
        """As much of an excerpt as fits, with what was found in it."""
        query, text = Query.parse(self.query.text), sanitize_line(excerpt)
        first = next(iter(query.spans(text)), (0, 0))[0]
        if first > width // 2 and cell_width(text) > width:
            text = "…" + text[first - width // 2 :]
        text = pad(text, width)
        parts: StyleAndTextTuples = []
        end = 0
        for start, stop in query.spans(text):
            if start >= end:
                parts += [("class:faint", text[end:start]), ("class:match", text[start:stop])]
                end = stop
        return [*parts, ("class:faint", text[end:])]

    def _branch_row(self, number: int, width: int) -> StyleAndTextTuples:
        branch = self._branches[number]
        mark = "●" if branch.is_current else "○"
        text = f"{mark} {branch.question} → {branch.reply}"
        used = f"{relative_time(branch.time):>12}"
        return [("", " " + pad(sanitize_line(text), width - len(used) - 2)), ("class:faint", " " + used)]

    # Finding

    def _filter(self) -> None:
        """Show what matches the query by name and title now, and what has it in its text a little later."""
        if self.mode != "delete":
            self.message = ""
        self.excerpts, self.rows.selected = {}, 0
        words = self.query.text.lower().split()
        self.shown = [s for s in self.sessions if fuzzy.matches(words, _names(s))] if words else self.sessions
        if words:
            self._in_background(self._search(self.query.text))

    async def _search(self, text: str) -> None:
        await asyncio.sleep(SEARCH_DELAY)
        if text != self.query.text:
            return
        excerpts = await in_thread(lambda: self._find_text(text))
        if text != self.query.text or self.mode != "sessions":
            return
        listed = {session.name for session in self.shown}
        self.excerpts = {name: excerpt for name, excerpt in excerpts.items() if name not in listed}
        selected = self._selected()
        self.shown = [s for s in self.sessions if s.name in listed or s.name in self.excerpts]
        if selected in self.shown:
            self.rows.selected = self.shown.index(selected)

    def _find_text(self, text: str) -> dict[str, str]:
        """The sessions with a message that has these words, and the words with what stands around them."""
        found: dict[str, str] = {}
        with contextlib.suppress(ChatmemError):
            for hit in self.store.search(Query.parse(text)):
                found.setdefault(hit.session, hit.excerpt)
                if len(found) >= MAX_FOUND or text != self.query.text:
                    break
        return found

    async def _read_all(self) -> None:
        """Read the sessions that the first screen does not have."""
        try:
            sessions = await in_thread(self.store.list_sessions)
        finally:
            self._is_complete = True
        selected = self._selected()
        self.sessions = sessions
        self._filter()
        if selected in self.shown:
            self.rows.selected = self.shown.index(selected)

    def _selected(self) -> SessionInfo | None:
        return self.shown[self.rows.selected] if self.rows.selected < len(self.shown) else None

    # The preview

    def _preview(self) -> list[tuple[str, str]]:
        if not self._is_complete and not self._tasks:
            self._in_background(self._read_all())
        session = self._selected()
        if session is None:
            return [("class:faint", "No session has this." if self.query.text else "No sessions.")]
        if session.name not in self._previews:
            self._previews[session.name] = []
            self._in_background(self._read_preview(session))
        turns = f"{session.turns:,} turns" if session.turns != 1 else "1 turn"
        about = " · ".join(
            filter(None, (turns, session.model or "", session.memory or "", f"begun {session.created[:10]}"))
        )
        return [("class:heading", session.title), ("class:faint", about), *self._previews[session.name]]

    async def _read_preview(self, session: SessionInfo) -> None:
        if session.messages <= MAX_PREVIEWED_MESSAGES:
            with contextlib.suppress(ChatmemError):
                found = await in_thread(lambda: self.store.session(session.name))
                self._previews[session.name] = _last_turn(found)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except (ChatmemError, OSError) as error:
                self.message = f"{error}"
            get_app().invalidate()

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Keys

    def _bindings(self, query: Window, name: Window) -> KeyBindings:
        keys = KeyBindings()
        in_sessions = Condition(lambda: self.mode == "sessions")
        in_branches = Condition(lambda: self.mode == "branches")
        deleting = Condition(lambda: self.mode == "delete")
        renaming = Condition(lambda: self.mode == "rename")
        self.rows.bind_keys(keys, in_sessions)
        self.branch_rows.bind_keys(keys, in_branches)

        @keys.add("enter", filter=in_sessions)
        def open_session(event: KeyPressEvent) -> None:
            if (session := self._selected()) and self._still_exists(session):
                event.app.exit(result=Picked(session.name))

        @keys.add("enter", filter=in_branches)
        def open_branch(event: KeyPressEvent) -> None:
            if (session := self._selected()) and self._branches:
                event.app.exit(result=Picked(session.name, self._branches[self.branch_rows.selected].head))

        @keys.add("tab", filter=in_sessions)
        def show_branches(event: KeyPressEvent) -> None:
            if session := self._selected():
                with self._reporting(session):
                    self._branches = _branches(self.store.session(session.name))
                    self.mode, self.branch_rows.selected = "branches", 0

        @keys.add("tab", filter=in_branches)
        @keys.add("escape", filter=in_branches)
        @keys.add("c-c", filter=in_branches)
        @keys.add("escape", filter=renaming)
        @keys.add("c-c", filter=renaming)
        def go_back(event: KeyPressEvent) -> None:
            self.mode = "sessions"
            event.app.layout.focus(query)

        @keys.add("f2", filter=in_sessions)
        def rename(event: KeyPressEvent) -> None:
            if session := self._selected():
                self.mode, self.message, self._chosen = "rename", "", session
                self.new_name.text = session.name
                self.new_name.cursor_position = len(session.name)
                event.app.layout.focus(name)

        @keys.add("enter", filter=renaming)
        def accept_name(event: KeyPressEvent) -> None:
            self._rename(self.new_name.text)
            self.mode = "sessions"
            event.app.layout.focus(query)

        @keys.add("delete", filter=in_sessions & Condition(lambda: self.query.document.is_cursor_at_the_end))
        def delete(event: KeyPressEvent) -> None:
            session = self._selected()
            if session and session.name == self.current:
                self.message = "This session is open here. /delete deletes it."
            elif session:
                self._chosen = session
                self.mode, self.message = "delete", f"Delete {session.name!r}? y deletes it, any other key does not."

        @keys.add("<any>", filter=deleting)
        def confirm(event: KeyPressEvent) -> None:
            self.mode, self.message = "sessions", ""
            if event.data.lower() == "y":
                self._delete()

        keys.add("c-z", filter=in_sessions)(lambda event: self._restore())
        keys.add("escape", filter=in_sessions)(leave)
        keys.add("c-c", filter=in_sessions)(leave)
        keys.add("c-d", filter=in_sessions & Condition(lambda: not self.query.text))(leave)
        return keys

    def _rename(self, name: str) -> None:
        session = self._chosen
        if session and name != session.name:
            with self._reporting(session):
                new = validate(name)
                self.store.rename(session.name, new)
                self._replace(session, session._replace(name=new))

    def _delete(self) -> None:
        if session := self._chosen:
            with self._reporting(session):
                self.store.delete(session.name)
                self._replace(session, None)
                self.message = f"{session.name!r} is {self.store.deleted_note}."
                if self.store.has_trash:
                    self._deleted.append(session.name)
                    self.message += " Ctrl-Z restores it."

    def _restore(self) -> None:
        """Bring back the session that was deleted last."""
        if self._deleted:
            with self._reporting():
                name = self.store.restore(self._deleted[-1])
                self._deleted.pop()
                self.sessions = self.store.recent_sessions(len(self.sessions) + 1)
                self._filter()
                self.message = f"Restored {name!r}."

    def _replace(self, old: SessionInfo, new: SessionInfo | None) -> None:
        row = self.rows.selected
        self.sessions = list(filter(None, (new if s is old else s for s in self.sessions)))
        self._previews.pop(old.name, None)
        self._filter()
        self.rows.selected = row

    def _still_exists(self, session: SessionInfo) -> bool:
        """Whether another process has not removed a session. If the store cannot say, whoever opens it reports that."""
        with self._reporting(session):
            self.store.find(session.name)
        return session in self.sessions

    @contextlib.contextmanager
    def _reporting(self, session: SessionInfo | None = None) -> Iterator[None]:
        """Show an error in the last line. A session that does not exist any more leaves the list."""
        try:
            yield
        except ChatmemError as error:
            if isinstance(error, SessionNotFoundError) and session:
                self._replace(session, None)
            self.message = f"{error.message} {error.hint}".strip()


@lru_cache(maxsize=200_000)
def _names(session: SessionInfo) -> str:
    """What a query is compared with."""
    return f"{session.name} {session.title}".lower()


def _last_turn(session: Session) -> list[tuple[str, str]]:
    """The lines of the last turn with their styles."""
    lines: list[tuple[str, str]] = []
    for message in session.turns[-1].messages if session.turns else ():
        is_question = message.role == "user"
        lines.append(("", ""))
        for number, line in enumerate(message.content.strip().split("\n")[:MAX_PREVIEW_LINES]):
            mark = "> " if is_question and number == 0 else ""
            lines.append(("class:question" if is_question else "", mark + line))
    return lines


def _branches(session: Session) -> list[_Branch]:
    found = []
    for leaf in session.leaves():
        question = leaf if leaf.role == "user" else session.messages.get(leaf.parent or "", leaf)
        texts = [" ".join(message.content[:200].split()) for message in (question, leaf)]
        reply = texts[1] if question is not leaf else ""
        found.append(_Branch(leaf.id, texts[0], reply, leaf.time, leaf.id == session.head))
    return found
