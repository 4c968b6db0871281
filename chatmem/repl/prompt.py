"""The line one types into: keys, completion, toolbar, history (prompt-toolkit)."""

from __future__ import annotations

import contextlib
import datetime
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, completion_is_selected, is_searching, vi_navigation_mode
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.styles import Style

from chatmem.errors import ChatmemError, WrongUse
from chatmem.names import shortened
from chatmem.paths import private_file, private_folder
from chatmem.repl import toolbar
from chatmem.repl.attach import Pastes
from chatmem.repl.completion import Typed
from chatmem.screen.suspension import suspension

if TYPE_CHECKING:
    from chatmem.repl.loop import Room

# Shift-Enter, where a terminal reports it, is what Alt-Enter is.
for _sequence in ("\x1b[13;2u", "\x1b[27;2;13~"):
    ANSI_SEQUENCES[_sequence] = (Keys.Escape, Keys.ControlM)

STYLE = Style.from_dict({"bottom-toolbar": "noreverse", "auto-suggestion": "ansibrightblack"})
"""The terminal's own colours: readable on light and dark."""


class Prompt:
    """Reads one message or command at a time."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.multiline = room.assembly.config.settings.screen.multiline
        self.toolbar = room.assembly.config.settings.screen.toolbar
        self._session: PromptSession[str] | None = None
        self._next = ""
        self.pastes = Pastes()
        self._parts: list[toolbar.Part] = []

    def read(self, ready: Callable[[], None] | None = None) -> str:
        """The next message. `ready` is called once keys are taken. Raises EOFError, KeyboardInterrupt."""
        if os.environ.get("TERM", "") in ("", "dumb") and sys.stdin.isatty():
            return self._plain(ready)
        if self._session is None:
            self._session = self._make()
        text, self._next = self._next, ""
        if not text:  # what comes back to be sent again may be a paste
            self.pastes.named.clear()
        typed = self._session.prompt("> ", default=text, pre_run=ready)
        if not typed.isascii():  # bytes that the terminal's encoding has no character for were UTF-8 after all
            typed = typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return self.pastes.whole(typed)

    def _plain(self, ready: Callable[[], None] | None) -> str:
        """The next line on a terminal that cannot move its cursor: its own line editing is all there is."""
        if ready:
            ready()
        if self._next:
            self.room.terminal.note(f"Not sent: {shortened(self._next)}")
            self._next = ""
        try:
            return input("> ").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except (EOFError, KeyboardInterrupt):
            self.room.terminal.raw("\n")
            raise

    def fill(self, text: str) -> None:
        """Put a text into the next prompt, to be edited and sent."""
        self._next = text

    def edited(self, text: str) -> str:
        """A text as it comes back from the reader's editor. Raises WrongUse if there is none."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        descriptor, name = tempfile.mkstemp(suffix=".md")
        path = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            subprocess.run([*shlex.split(editor), name], check=True)
            return path.read_text(encoding="utf-8", errors="replace")
        except subprocess.CalledProcessError as error:
            raise WrongUse(
                f"The editor {editor!r} ended with code {error.returncode}.", "Nothing was changed."
            ) from error
        except (OSError, ValueError) as error:
            raise WrongUse(f"The editor {editor!r} failed.", "Set EDITOR to one that is installed.") from error
        finally:
            path.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Work out the toolbar anew, and draw it; from any thread."""
        with contextlib.suppress(ChatmemError):
            self._parts = toolbar.parts(self.room.chat, self.room.assembly)
        if self._session is not None:
            self._session.app.invalidate()

    def above(self, show: Callable[[], None]) -> None:
        """Run what prints a line: at once, or above the line that is being typed."""
        app = self._session.app if self._session else None
        if app is None or not app.is_running or app.loop is None:
            show()
            return
        app.loop.call_soon_threadsafe(lambda: run_in_terminal(show))

    def _make(self) -> PromptSession[str]:
        if not os.environ.get("TERM"):
            os.environ["TERM"] = "dumb"  # a terminal that says nothing of itself is asked for nothing
        screen = self.room.assembly.config.settings.screen
        remembers = screen.history and self.room.chat.store.kept
        session: PromptSession[str] = PromptSession(
            multiline=True,
            prompt_continuation="  ",
            key_bindings=self._keys(),
            history=_history(self.room.assembly.paths.state, self.pastes) if remembers else InMemoryHistory(),
            auto_suggest=AutoSuggestFromHistory(),
            search_ignore_case=True,
            completer=ThreadedCompleter(Typed(self.room)),
            complete_while_typing=True,
            editing_mode=EditingMode.VI if screen.editing == "vi" else EditingMode.EMACS,
            bottom_toolbar=self._toolbar,
            enable_suspend=True,
            style=STYLE,
            include_default_pygments_style=False,
        )
        if screen.editing == "vi":  # Esc alone is a key here, so what follows it must come at once to belong to it
            session.app.timeoutlen = session.app.ttimeoutlen = 0.1
        return session

    def _keys(self) -> KeyBindings:
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
        def take_completion(event: KeyPressEvent) -> None:
            event.current_buffer.complete_state = None

        @keys.add("c-c", filter=~is_searching)
        def clear(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

        @keys.add("c-x", "c-e")
        def edit(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            before = self.pastes.whole(buffer.text)

            def go() -> None:
                try:
                    buffer.text = self.edited(before).removesuffix("\n")
                    buffer.cursor_position = len(buffer.text)
                except WrongUse as error:
                    self.room.terminal.error(error)

            run_in_terminal(go)

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            event.current_buffer.insert_text(self.pastes.shown(text, self.room.terminal.size().lines))

        return keys

    def _toolbar(self) -> AnyFormattedText:
        if not self.toolbar:
            return None
        parts = list(self._parts or [(self.room.chat.name,)])
        if vi_navigation_mode():  # keys are commands now; i goes back to typing
            parts.insert(0, ("vi: commands", "vi"))
        return toolbar.fitting(parts, self.room.terminal.width)


class PrivateHistory(FileHistory):
    """A history file of ours alone; lines that begin with a space are not remembered, and no failure matters."""

    def __init__(self, filename: str, pastes: Pastes) -> None:
        super().__init__(filename)
        self._pastes = pastes

    def store_string(self, string: str) -> None:
        if string.startswith(" "):
            return
        lines = "".join(f"+{line}\n" for line in self._pastes.whole(string).split("\n"))
        entry = f"\n# {datetime.datetime.now()}\n{lines}".encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            descriptor = private_file(Path(str(self.filename)), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(descriptor, entry)  # in one piece: other chats write here, too
            finally:
                os.close(descriptor)

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []


def _history(folder: Path, pastes: Pastes) -> History:
    try:
        private_folder(folder)
        os.close(private_file(folder / "history", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    except OSError:
        return InMemoryHistory()
    return PrivateHistory(str(folder / "history"), pastes)


@contextlib.contextmanager
def quiet_keys() -> Iterator[None]:
    """While a reply arrives: what is typed does not show, is not lost, and Enter stays Enter; Ctrl-C still stops."""
    try:
        import termios

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (ImportError, OSError, ValueError, termios.error):
        yield
        return
    quiet: list[Any] = termios.tcgetattr(descriptor)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)

    def be(modes: list[Any]) -> None:
        termios.tcsetattr(descriptor, termios.TCSANOW, modes)

    be(quiet)
    try:
        with suspension(lambda: be(before), lambda: be(quiet)):
            yield
    finally:
        be(before)
