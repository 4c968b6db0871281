"""The prompt: keys, completion, toolbar and history (prompt-toolkit)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_session, run_in_terminal
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, completion_is_selected, is_done, is_searching, vi_navigation_mode
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, FormattedTextControl, HSplit, Window
from prompt_toolkit.lexers import SimpleLexer
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from chatmem.errors import ChatmemError, UsageError
from chatmem.repl import toolbar
from chatmem.repl.attachments import PasteBuffer, mentioned_paths
from chatmem.repl.completer import ReplCompleter
from chatmem.repl.context import ReplContext
from chatmem.repl.editor import edit_text
from chatmem.repl.input_history import RecentSuggestions, open_history
from chatmem.repl.key_sequences import add_key_sequences
from chatmem.repl.typed_ahead import hand_over, key_presses, pasted_text, typed_text
from chatmem.terminal import keyboard
from chatmem.terminal.colors import Colors, ansi_color
from chatmem.text import truncate

MAX_MENU_ROWS = 8
"""The most rows of the menu of completions."""
MENU_CLOSE_SECONDS = 0.2
"""For how long the rows of a menu that was closed are kept: the next key often opens it again."""
COMMAND_KEYS = {"o": "/open", "c": "/context", "u": "/undo", "y": "/copy", "x": "/export"}
"""Commands by the key that runs them after Ctrl-X."""
VI_ESCAPE_TIMEOUT = 0.1
"""Seconds. In vi mode Esc is a key of its own, so a key that belongs to it must follow at once."""


class Prompt:
    """Reads one message or command at a time."""

    def __init__(self, repl: ReplContext) -> None:
        self.repl = repl
        screen = repl.app.config.settings.screen
        self.multiline = screen.multiline
        self.show_toolbar = screen.toolbar and not repl.terminal.plain
        self.pastes = PasteBuffer()
        self._session: PromptSession[str] | None = None
        self._prefilled = ""
        self._items: list[toolbar.ToolbarItem] = []
        self._chooses_model = False
        """Whether Enter takes the model that the menu offers first."""

    def read(self, ready: Callable[[], None] | None = None) -> str:
        """The next message. `ready` is called once keys are taken. Raises EOFError and KeyboardInterrupt."""
        if os.environ.get("TERM", "") in ("", "dumb") and sys.stdin.isatty():
            return self._read_dumb(ready)
        if self._session is None:
            self._session = self._make_session()
        text, self._prefilled = self._prefilled, ""
        if not text:  # text that is edited and sent again may come from a paste
            self.pastes.named_files.clear()
        hand_over(self._input)
        self._chooses_model = False
        try:
            typed = self._session.prompt("> ", default=text, pre_run=ready)
        finally:
            keyboard.prompt_ended()
        if not typed.isascii():  # undecodable bytes of the terminal were UTF-8 after all
            typed = typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self.pastes.expand(typed)

    def _read_dumb(self, ready: Callable[[], None] | None) -> str:
        """The next line on a terminal without cursor movement, with the terminal's own line editing."""
        if ready:
            ready()
        if self._prefilled:
            self.repl.terminal.info(f"Not sent: {truncate(self._prefilled)}")
            self._prefilled = ""
        try:
            line = input("> ").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except (EOFError, KeyboardInterrupt):
            self.repl.terminal.raw("\n")
            raise
        self.pastes.named_files |= mentioned_paths(line)  # such a terminal does not tell pasted text from typed text
        return line

    def prefill(self, text: str) -> None:
        """Put a text into the next prompt, to be edited and sent."""
        self._prefilled = text

    def prefill_typed_ahead(self) -> None:
        """Put what was typed since the last prompt into the next one, without sending it."""
        typed = typed_text(self._take_typed_ahead(), self._shown_paste)
        self._prefilled = "\n".join(filter(None, (self._prefilled, typed)))

    def end_wait(self) -> bool:
        """Whether the terminal lost the focus during a wait in which it reported that. Keys stay for the prompt."""
        typed = keyboard.typed_ahead()
        store_typeahead(self._input, key_presses(typed))
        return typed.rfind(keyboard.FOCUS_LOST) > typed.rfind(keyboard.FOCUS_GAINED)

    def _take_typed_ahead(self) -> list[KeyPress]:
        return [*get_typeahead(self._input), *key_presses(keyboard.typed_ahead())]

    @property
    def _input(self) -> Input:
        return self._session.app.input if self._session else get_app_session().input

    def confirm(self, question: str) -> bool:
        """Whether the user says yes. Ctrl-C and Ctrl-D mean no."""
        return self.ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def ask(self, question: str) -> str:
        """A line that the user types after the question has appeared. Empty for Ctrl-C and Ctrl-D."""
        earlier = self._take_typed_ahead() if keyboard.is_held() else []  # does not answer this question
        hand_over(self._input)
        keys = KeyBindings()
        keys.add(Keys.BracketedPaste)(lambda event: earlier.extend(event.key_sequence))  # a message, not an answer

        @keys.add("c-c")
        @keys.add("<sigint>")
        def cancel(event: KeyPressEvent) -> None:
            if event.app.is_running and not event.app.is_done:
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

        try:
            if os.environ.get("TERM", "") in ("", "dumb") and sys.stdin.isatty():
                return input(question)
            return PromptSession[str](history=InMemoryHistory(), key_bindings=keys).prompt(question)
        except (EOFError, KeyboardInterrupt):
            return ""
        finally:
            keyboard.prompt_ended()
            store_typeahead(self._input, [*earlier, *get_typeahead(self._input)])

    def edit_in_editor(self, text: str) -> str:
        """The text after the user edited it in $VISUAL or $EDITOR. Raises UsageError."""
        return edit_text(text)

    def refresh(self) -> None:
        """Compute the toolbar and draw it. From any thread."""
        with contextlib.suppress(ChatmemError):
            self._items = toolbar.toolbar_items(self.repl.chat, self.repl.app)
        self._call_in_app(lambda: self._session.app.invalidate() if self._session else None)

    def print_above(self, show: Callable[[], None]) -> None:
        """Run a function that prints lines: above the prompt if one is shown, else at once. From any thread."""
        if not self._call_in_app(lambda: run_in_terminal(show)):
            show()

    def _call_in_app(self, function: Callable[[], object]) -> bool:
        """Call a function in the event loop of the running prompt. False if no prompt is running."""
        app = self._session.app if self._session else None
        if app is None or not app.is_running or app.loop is None:
            return False
        try:
            app.loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop was closed in this moment
            return False
        return True

    def _make_session(self) -> PromptSession[str]:
        add_key_sequences()
        if not os.environ.get("TERM"):
            os.environ["TERM"] = "dumb"  # nothing is known about this terminal
        screen, terminal = self.repl.app.config.settings.screen, self.repl.terminal
        saves_history = screen.history and self.repl.chat.store.persistent
        output = get_app_session().output
        if isinstance(output, Vt100_Output):
            output.enable_cpr = False  # so that the toolbar stands below the prompt, not at the end of the screen
        session = _GrowingPromptSession(
            multiline=True,
            lexer=SimpleLexer("class:question"),
            prompt_continuation="  ",
            key_bindings=self._key_bindings(),
            history=open_history(self.repl.app.paths.state, self.pastes) if saves_history else InMemoryHistory(),
            auto_suggest=None if terminal.plain else RecentSuggestions(),
            search_ignore_case=True,
            completer=ThreadedCompleter(ReplCompleter(self.repl)),
            complete_while_typing=not terminal.plain,
            complete_style=CompleteStyle.READLINE_LIKE if terminal.plain else CompleteStyle.COLUMN,
            editing_mode=EditingMode.VI if screen.editing == "vi" else EditingMode.EMACS,
            enable_suspend=True,
            style=prompt_style(terminal.colors),
            include_default_pygments_style=False,
        )
        session.close_menu_when_idle()
        session.add_toolbar(self._toolbar)
        if screen.editing == "vi":
            session.app.timeoutlen = session.app.ttimeoutlen = VI_ESCAPE_TIMEOUT
        return session

    def _key_bindings(self) -> KeyBindings:
        keys = KeyBindings()
        typing = ~is_searching & ~completion_is_selected
        swapped = Condition(lambda: self.multiline)

        def send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        keys.add("enter", filter=typing & ~swapped)(send)
        keys.add("enter", filter=typing & swapped)(new_line)
        keys.add("escape", "enter", filter=~is_searching & ~swapped)(new_line)
        keys.add("escape", "enter", filter=~is_searching & swapped)(send)
        keys.add("c-j", filter=~is_searching)(new_line)

        @keys.add("enter", filter=completion_is_selected & ~is_searching)
        def accept_completion(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None
            if self._chooses_model:
                send(event)

        @keys.add("enter", filter=~is_searching & ~completion_is_selected & Condition(self._has_model_menu))
        def accept_model(event: KeyPressEvent) -> None:
            state = event.current_buffer.complete_state
            assert state
            event.current_buffer.apply_completion(state.completions[0])
            send(event)

        @keys.add("c-c", filter=~is_searching)
        @keys.add("<sigint>")
        def clear(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            elif event.app.is_running and not event.app.is_done:  # the signal may come when the prompt has ended
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

        @keys.add("c-x", "c-e")
        def edit(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            before = self.pastes.expand(buffer.text)

            def run_editor() -> None:
                try:
                    buffer.text = self.edit_in_editor(before).removesuffix("\n")
                    buffer.cursor_position = len(buffer.text)
                except UsageError as error:
                    self.repl.terminal.error(error)

            run_in_terminal(run_editor)

        for letter, line in COMMAND_KEYS.items():
            keys.add("c-x", letter, filter=~is_searching)(partial(self._run_command_line, line))

        @keys.add("c-x", "m", filter=~is_searching)
        def change_model(event: KeyPressEvent) -> None:
            event.current_buffer.text = "/model "
            event.current_buffer.cursor_position = len("/model ")
            event.current_buffer.start_completion()
            self._chooses_model = True

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(self._shown_paste(pasted_text(event)))

        return keys

    def _shown_paste(self, text: str) -> str:
        return self.pastes.placeholder(text, self.repl.terminal.size().lines)

    def _has_model_menu(self) -> bool:
        state = self._session.default_buffer.complete_state if self._session else None
        return self._chooses_model and state is not None and bool(state.completions)

    def _run_command_line(self, line: str, event: KeyPressEvent) -> None:
        """Run a command. What was typed stays in the prompt."""
        buffer, turns = event.current_buffer, self.repl.chat.session.turns
        self._prefilled = self.pastes.expand(buffer.text)
        if line == "/undo" and turns and not self._prefilled:  # to be corrected and asked again
            self._prefilled = turns[-1].question.content
        buffer.text = line
        buffer.validate_and_handle()

    def _toolbar(self) -> str | None:
        if not self.show_toolbar:
            return None
        items = list(self._items or [(self.repl.chat.name,)])
        if vi_navigation_mode():  # keys are commands now
            items.insert(0, ("vi: commands", "vi"))
        return toolbar.fit_to_width(items, self.repl.terminal.width)


class _GrowingPromptSession(PromptSession[str]):
    """A prompt that takes rows for a menu while one is open, and none otherwise."""

    _has_menu = False

    @property
    def reserve_space_for_menu(self) -> int:
        state = self.default_buffer.complete_state
        return 1 + min(len(state.completions), MAX_MENU_ROWS) if state else 0

    @reserve_space_for_menu.setter
    def reserve_space_for_menu(self, rows: int) -> None:
        pass

    def add_toolbar(self, text: Callable[[], str | None]) -> None:
        """Show a line below the prompt. The one of prompt-toolkit is only shown where cursor queries are answered."""
        window = Window(FormattedTextControl(lambda: text() or ""), height=1, style="class:bottom-toolbar")
        assert isinstance(self.layout.container, HSplit)
        self.layout.container.children.append(
            ConditionalContainer(window, filter=Condition(lambda: text() is not None) & ~is_done)
        )

    def close_menu_when_idle(self) -> None:
        """Give the rows of a menu back soon after it was closed: the renderer never becomes smaller by itself."""
        self.app.after_render += lambda app: self._after_render()

    def _after_render(self) -> None:
        had_menu, self._has_menu = self._has_menu, self.default_buffer.complete_state is not None
        if had_menu and not self._has_menu and self.app.loop is not None and self.app.is_running:
            self.app.loop.call_later(MENU_CLOSE_SECONDS, self._shrink)

    def _shrink(self) -> None:
        if self.default_buffer.complete_state is None and self.app.is_running and not self.app.is_done:
            self.app.renderer.erase(leave_alternate_screen=False)
            self.app.invalidate()


def prompt_style(colors: Colors) -> Style:
    """The prompt in the terminal's own colors. The question is bold, so that it stands out from the reply."""
    return Style.from_dict(
        {
            "prompt": f"bold {ansi_color(colors.accent)}",
            "question": "bold",
            "bottom-toolbar": "noreverse",
            "auto-suggestion": "ansibrightblack",
            "completion-menu": "noinherit",
            "completion-menu.completion": "noinherit",
            "completion-menu.completion.current": "noinherit reverse",
            "completion-menu.meta.completion": f"noinherit {ansi_color(colors.faint)}",
            "completion-menu.meta.completion.current": "noinherit reverse",
            "completion-menu.completion fuzzymatch.outside": "fg:default",
            "completion-menu.completion fuzzymatch.inside": "bold",
            "completion-menu.completion fuzzymatch.inside.character": f"bold {ansi_color(colors.accent)}",
            "completion-menu.completion.current fuzzymatch.inside.character": "bold",
            "completion-menu group": f"bold {ansi_color(colors.accent)}",
            "scrollbar.background": "noinherit",
            "scrollbar.button": "noinherit reverse",
        }
    )
