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
from prompt_toolkit.layout import (
    BufferControl,
    DynamicContainer,
    FormattedTextControl,
    HSplit,
    VSplit,
    Window,
    WindowAlign,
)

from chatmem.errors import ChatmemError, SessionNotFoundError
from chatmem.history.names import validate
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
from chatmem.repl.previews import Branch, branches_of, found_lines, message_lines
from chatmem.stores import SessionInfo, SessionStore
from chatmem.stores.base import no_progress
from chatmem.stores.search import Hit, Query
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.tables import fit_around, pad, print_sessions, relative_time
from chatmem.terminal.terminal import Terminal

FIRST_SESSIONS = 100
"""How many sessions the first screen has. The others are read after it was shown."""
SEARCH_DELAY = 0.1
"""Seconds without a key after which the full text is searched."""
MAX_FOUND = 200
"""In how many sessions a text is found at most."""
MAX_PREVIEWED_MESSAGES = 5_000
"""Longer sessions are not read for a preview."""
MAX_LISTED = 20
"""How many sessions are listed where a full screen cannot be shown."""


class Picked(NamedTuple):
    """A session, and the message at the end of the branch to continue. None for the current branch."""

    name: str
    """Empty for a new session."""
    head: str | None = None
    question: str = ""
    """The first question of a new session."""


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
    print_sessions(terminal, sessions, numbered=True)
    answer = ask("Open which one, by number or name? + starts a new one, Enter opens none: ").strip()
    if answer.isdecimal() and 0 < int(answer) <= len(sessions) and store.lookup(answer) is None:
        return Picked(sessions[int(answer) - 1].name)
    return Picked("" if answer == "+" else store.find(answer)) if answer else None


class SessionPicker:
    """The state of the picker, and its screen."""

    def __init__(self, store: SessionStore, terminal: Terminal, current: str = "") -> None:
        self.store, self.terminal, self.current = store, terminal, current
        self.sessions = store.recent_sessions(FIRST_SESSIONS)
        self.shown = self.sessions
        self.hits: dict[str, Hit] = {}
        """Where the text was found first, by session."""
        self._named: set[str] = set()
        """The sessions that the query finds by name or title."""
        self.mode: Literal["sessions", "branches", "rename", "delete"] = "sessions"
        self.message = ""
        self._branches: list[Branch] = []
        self._previews: dict[tuple[str, str], list[tuple[str, str]]] = {}
        """By session, and the message that was found."""
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
        branches, keys = with_preview(self.branch_rows, Preview(self._branch_preview)), text_line(self._keys)
        naming = VSplit([Window(FormattedTextControl(self._naming), dont_extend_width=True, height=1), name])
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
            if self.mode == "branches":
                return [("class:faint", f"{len(self._branches):,} branches")]
            more = "" if self._is_complete else "+"
            return [("class:faint", f"{len(self.shown):,} of {len(self.sessions):,}{more}")]

        window = text_line(text)
        window.width, window.align = 20, WindowAlign.RIGHT
        return window

    def _keys(self) -> StyleAndTextTuples:
        if self.message:
            return [("class:warn", sanitize_line(self.message))]
        if self.mode == "branches":
            return [("class:keys", keys_that_fit("Enter continues this branch", "Esc goes back"))]
        undo = ["Ctrl-Z restores"] if self._deleted else []
        new = "Ctrl-O asks this in a new one" if self.query.text.strip() else "Ctrl-O new"
        keys = ("Enter opens", "Esc leaves", new, *undo, "Del deletes", "F2 renames", "Tab branches")
        return [("class:keys", keys_that_fit(*keys))]

    def _naming(self) -> StyleAndTextTuples:
        message = f"{sanitize_line(self.message)} " if self.message else ""
        return [("class:warn", message), ("class:heading", "New name: ")]

    # Rows

    def _row(self, number: int, width: int) -> StyleAndTextTuples:
        session = self.shown[number]
        used = f"{relative_time(session.last_active):>12}"
        name_width = min(max(12, width // 4), 24)
        hit = self.hits.get(session.name) if session.name not in self._named else None
        excerpt = hit.excerpt if hit and self.query.text.strip(' "') else ""
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
        text = fit_around(text, next(iter(query.spans(text)), (0, 0))[0], width)
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
        question, *reply = (sanitize_line(message.content[:200]) for message in branch.messages)
        used = f"{relative_time(branch.messages[-1].time):>12}"
        text = " → ".join([pad(question, max(1, width // 3)).rstrip(), *reply])  # branches often differ in the reply
        return [("", f" {mark} {pad(text, max(1, width - len(used) - 4))}"), ("class:faint", f" {used}")]

    # Finding

    def _filter(self) -> None:
        """Show what matches the query by name and title now, and what has it in its text a little later."""
        if self.mode != "delete":
            self.message = ""
        self.hits, self.rows.selected = {}, 0
        words = self.query.text.lower().split()
        self.shown = [s for s in self.sessions if fuzzy.matches(words, _names(s))] if words else self.sessions
        self._named = {session.name for session in self.shown}
        if words:
            self._in_background(self._search(self.query.text))

    async def _search(self, text: str) -> None:
        await asyncio.sleep(SEARCH_DELAY)
        if text != self.query.text:
            return
        hits = await in_thread(lambda: self._find_text(text))
        if text != self.query.text or self.mode != "sessions":
            return
        self.hits = hits
        self.shown = [*self.shown, *(s for s in self.sessions if s.name in hits and s.name not in self._named)]

    def _find_text(self, text: str) -> dict[str, Hit]:
        """The sessions with a message that has these words, and the first such message of each."""
        found: dict[str, Hit] = {}
        with contextlib.suppress(ChatmemError):
            for hit in self.store.search(Query.parse(text)):
                found.setdefault(hit.session, hit)
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
            return [("class:faint", "No session has this. Enter asks it in a new one.")]
        hit = self.hits.get(session.name)
        key = session.name, hit.message if hit else ""
        if key not in self._previews:
            self._previews[key] = []
            self._in_background(self._read_preview(session, hit))
        turns = f"{session.turns:,} turns" if session.turns != 1 else "1 turn"
        about = " · ".join(
            filter(None, (turns, session.model or "", session.memory or "", f"begun {session.created[:10]}"))
        )
        return [("class:heading", session.title), ("class:faint", about), *self._previews[key]]

    def _branch_preview(self) -> list[tuple[str, str]]:
        selected = self.branch_rows.selected
        return message_lines(self._branches[selected].messages) if selected < len(self._branches) else []

    async def _read_preview(self, session: SessionInfo, hit: Hit | None) -> None:
        """Read what is shown of a session: its last turn, or the message with the text that was found."""
        if session.messages <= MAX_PREVIEWED_MESSAGES:
            with contextlib.suppress(ChatmemError):
                found = await in_thread(lambda: self.store.session(session.name))
                if hit and hit.message in found.messages:
                    lines = found_lines(found.messages[hit.message], hit, Query.parse(self.query.text))
                    self._previews[session.name, hit.message] = lines
                else:
                    last = found.turns[-1].messages if found.turns else ()
                    self._previews[session.name, ""] = message_lines(last)

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

        @keys.add("c-o", filter=in_sessions)
        def new_session(event: KeyPressEvent) -> None:
            leave(event, Picked("", question=self.query.text.strip()))

        @keys.add("enter", filter=in_sessions)
        def open_session(event: KeyPressEvent) -> None:
            session = self._selected()
            if session is None:
                new_session(event)
            elif self._still_exists(session):
                leave(event, Picked(session.name))

        @keys.add("enter", filter=in_branches)
        def open_branch(event: KeyPressEvent) -> None:
            if (session := self._selected()) and self._branches:
                head = self._branches[self.branch_rows.selected].messages[-1].id
                leave(event, Picked(session.name, head))

        @keys.add("tab", filter=in_sessions)
        def show_branches(event: KeyPressEvent) -> None:
            if session := self._selected():
                with self._reporting(session):
                    self._branches = branches_of(self.store.session(session.name))
                    self.mode, self.branch_rows.selected = "branches", 0

        @keys.add("tab", filter=in_branches)
        @keys.add("escape", filter=in_branches)
        @keys.add("c-c", filter=in_branches)
        @keys.add("escape", filter=renaming)
        @keys.add("c-c", filter=renaming)
        def go_back(event: KeyPressEvent) -> None:
            self.mode, self.message = "sessions", ""
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
            if self._rename(self.new_name.text):
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

    def _rename(self, name: str) -> bool:
        """Rename the session that was chosen. False if that failed, and another name may work."""
        session, self.message = self._chosen, ""
        if session and name != session.name:
            with self._reporting(session):
                new = validate(name)
                self.store.rename(session.name, new)
                self._replace(session, session._replace(name=new))
        return not self.message or session not in self.sessions

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
        self._previews = {key: lines for key, lines in self._previews.items() if key[0] != old.name}
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
