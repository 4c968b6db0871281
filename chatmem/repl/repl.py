"""The prompt loop: read, run, print, repeat."""

from __future__ import annotations

import contextlib
import importlib
import shlex
import threading
import time
from collections.abc import Callable, Generator

from chatmem.app import App
from chatmem.chat.chat import Chat
from chatmem.errors import Action, ChatmemError, UsageError
from chatmem.history.session import Session
from chatmem.models.base import StreamChunk
from chatmem.process import freeze_gc, on_suspend, switch_threads_often
from chatmem.repl.actions import describe_action
from chatmem.repl.attachments import attach_files
from chatmem.repl.commands.base import is_command, unescape
from chatmem.repl.prompt import Prompt
from chatmem.stores.base import no_progress
from chatmem.stores.database.address import redact_url
from chatmem.terminal import keyboard
from chatmem.terminal.conversation_view import print_last_turn
from chatmem.terminal.reply import preload, print_reply
from chatmem.terminal.tables import relative_time
from chatmem.terminal.terminal import Terminal
from chatmem.text import pluralize, truncate

LONG_REPLY_SECONDS = 10
"""Seconds from which on the end of a reply is announced, if another window has the focus."""
MAX_QUESTION_CHARS = 300
"""How much of a question that is asked again is shown."""


class Repl:
    """A chat, its prompt and its terminal."""

    def __init__(self, chat: Chat, app: App, terminal: Terminal) -> None:
        self.chat, self.app, self.terminal = chat, app, terminal
        self.prompt = Prompt(self)
        self.should_exit = False
        self.reasoning = ""
        self.bell = app.config.settings.screen.bell
        self._preloaded = False
        self._unshown: Session | None = None
        """The session whose last turn is shown once Markdown can be rendered."""
        self._warned = False
        terminal.describe_action = describe_action
        app.notify = self.notify
        chat.store.progress = no_progress  # a progress bar would interfere with the prompt

    def notify(self, text: str, action: Action | None = None) -> None:
        """Print a notice above the prompt. From any thread."""
        self.prompt.print_above(lambda: self.terminal.notify(text, action))

    def run(self, question: str | None = None) -> int:
        """Run the prompt loop until exit, after a first question if there is one. Returns the exit code."""
        keyboard.hold()
        try:
            with on_suspend(keyboard.release, keyboard.hold):
                self.print_banner()
                if question and question.strip():
                    self._show_last_turn()
                    self.run_safely(lambda: self.ask(question))
                self._loop()
        finally:
            self.close()
        return 7 if self.chat.save_error and self.chat.store.persistent else 0

    def _loop(self) -> None:
        preloading = threading.Thread(target=self._preload, daemon=True, name="preload")
        while not self.should_exit:
            try:
                if self._preloaded:
                    self.prompt.refresh()
                try:
                    line = self.prompt.read(ready=preloading.start if preloading.ident is None else None)
                except EOFError:
                    self.exit()
                except OSError:
                    return
                else:
                    self.handle_line(line)
            except KeyboardInterrupt:
                self.terminal.info("Ctrl-D to quit. Ctrl-C stops a reply.")

    def print_banner(self) -> None:
        """Print one line about the session and its last turn, or an introduction for a new user."""
        session = self.chat.session
        if not self.chat.store.persistent:
            self.terminal.info("This chat is not saved. /help lists the commands, Ctrl-D to quit.")
            return
        if not session.path and not self.chat.exists:
            self.terminal.info(f"New session {self.chat.name!r}. /help lists the commands, Ctrl-D to quit.")
            if not self._has_sessions():
                self.terminal.info("Enter sends, Alt-Enter starts a new line. /context shows what is sent.")
            return
        turns = pluralize(len(session.turns), "turn")
        title = f" · {session.title}" if session.title else ""
        used = relative_time(session.last_active)
        self.terminal.info(f"Session {self.chat.name!r}{title} · {turns} · last used {used}")
        if self.chat.open_error:
            self.terminal.error(self.chat.open_error)
        self._unshown = session
        if self._preloaded or not self.terminal.interactive or self.terminal.plain:
            self._show_last_turn()

    def _show_last_turn(self) -> None:
        session, self._unshown = self._unshown, None
        if session:
            print_last_turn(self.terminal, session)

    def _has_sessions(self) -> bool:
        try:
            return not self.chat.store.is_empty()
        except ChatmemError:
            return True

    def handle_line(self, line: str) -> None:
        """Run a command or send a message. Never raises for what was typed."""
        if not line.strip():
            return
        self._show_last_turn()
        if self.prompt.multiline and line.strip() not in self.prompt.pastes.pasted_texts:
            line = line.rstrip("\n")  # in multiline mode, Enter was pressed before the key that sends
        if is_command(line):
            self.run_safely(lambda: self._run_command(line))
        else:
            self.run_safely(lambda: self.send(self._attach_files(unescape(line))))

    def _run_command(self, line: str) -> None:
        from chatmem.repl.commands.table import run_command  # imported lazily: slow

        run_command(self, line)

    def run_safely(self, work: Callable[[], None]) -> None:
        """Do what the user asked for. An error or Ctrl-C ends that, but not the chat."""
        self.chat.last_reply = None
        try:
            work()
        except KeyboardInterrupt:
            self.prompt.prefill_typed_ahead()
            outcome = "The part that arrived is saved" if self.chat.last_reply else "Nothing had arrived"
            self.terminal.notify(f"Stopped. {outcome}.", Action("retry"))
        except ChatmemError as error:
            self.terminal.error(error)
        except OSError:
            raise  # the terminal is gone
        except Exception as error:  # noqa: BLE001  # a bug must not end the conversation
            self.terminal.error(
                ChatmemError(
                    f"chatmem failed: {type(error).__name__}.", "Everything that was saved is safe. Please report it."
                )
            )

    def _attach_files(self, line: str) -> str:
        """The message with its files. If one cannot be attached, the line is put back into the prompt."""
        try:
            return attach_files(line, self.notify, self.prompt.pastes.named_files)
        except UsageError:
            self.prompt.prefill(line)
            raise

    def ask(self, question: str) -> None:
        """Show a question, and send it with the files it names."""
        self.show_question(question)
        self.send(self._attach_files(question))

    def send(self, text: str) -> None:
        """Send a message. If it could not even be stored, it is put back into the prompt."""
        self.chat.last_question = None
        try:
            self.show_reply(self.chat.send(text))
        except (KeyboardInterrupt, ChatmemError) as error:
            if self.chat.last_question is not None:
                raise
            self.prompt.prefill(text)
            if isinstance(error, ChatmemError):
                raise
            self.prompt.prefill_typed_ahead()
            self.terminal.info("Not sent. The message is back in the prompt.")

    def show_question(self, text: str) -> None:
        self.terminal.info(f"> {truncate(' '.join(text.split()), MAX_QUESTION_CHARS)}", "bold")

    def show_reply(self, chunks: Generator[StreamChunk]) -> None:
        self.reasoning, started, has_left = "", time.monotonic(), False
        keyboard.watch_focus(on=True)
        try:
            with contextlib.closing(chunks):
                print_reply(self.terminal, self._with_reasoning_kept(chunks))
        finally:
            keyboard.watch_focus(on=False)
            has_left = self.prompt.end_wait()
        if has_left and self.bell and time.monotonic() - started >= LONG_REPLY_SECONDS:
            self.terminal.notify_desktop(f"chatmem: the reply in {self.chat.name} is there")
        if self.terminal.interactive:
            self.terminal.raw("\n")

    def _with_reasoning_kept(self, chunks: Generator[StreamChunk]) -> Generator[StreamChunk]:
        for chunk in chunks:
            self.reasoning += chunk.reasoning
            yield chunk

    def open_session(self, name: str, head: str | None = None) -> None:
        self.chat.close()
        self.chat = self.app.chat(name, store=self.chat.store)
        if head and head != self.chat.session.head:
            self.chat.checkout(head)
        self.print_banner()

    def exit(self) -> None:
        self.should_exit = self._confirm_exit()

    def _confirm_exit(self) -> bool:
        """Whether to leave now. With unsaved messages, the first attempt only warns."""
        if not self.chat.has_unsaved_messages or self._warned:
            return True
        self._warned = True
        if self.chat.save_error:
            self.terminal.info(f"Not saved: {self.chat.save_error.message}", "warn")
        self.terminal.info("/save PATH writes this chat to another file. Quit again to discard it.", "warn")
        return False

    def close(self) -> None:
        """Close the chat, and print the command that resumes it."""
        self.chat.close()
        if self.chat.exists and self.chat.store.persistent:
            flags = self.app.flags
            given = [(name, redact_url(flags[name])) for name in ("store", "user") if name in flags]
            options = "".join(f" --{name} {shlex.quote(value)}" for name, value in given)
            self.terminal.info(f"Resume: chatmem chat -s {shlex.quote(self.chat.name)}{options}")

    def _preload(self) -> None:
        """While the user types: find the model, import slow libraries, load the encoding."""
        try:
            with switch_threads_often():
                self.app.preload(self.chat)
                importlib.import_module("chatmem.repl.commands.table")
                with contextlib.suppress(ChatmemError):
                    self.chat.store.refresh_index()
                if self.terminal.interactive:
                    preload()
        finally:
            freeze_gc()
        self._preloaded = True
        self.prompt.print_above(self._show_last_turn)
        self.prompt.refresh()
