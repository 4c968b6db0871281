"""Read, dispatch, show, again."""

from __future__ import annotations

import contextlib
import gc
import shlex
import sys
import threading
from collections.abc import Generator

from chatmem.assemble import Assembly
from chatmem.chat import Chat
from chatmem.errors import ChatmemError, WrongUse
from chatmem.models.base import Piece
from chatmem.names import counted, shortened
from chatmem.repl import commands
from chatmem.repl.attach import with_files
from chatmem.repl.prompt import Prompt, quiet_keys
from chatmem.screen.listing import ago, last_turns
from chatmem.screen.reply import print_reply, warm
from chatmem.screen.terminal import Terminal
from chatmem.stores.address import masked
from chatmem.stores.base import unwatched

INTERVAL = sys.getswitchinterval()
"""Seconds for which one thread may keep the others waiting."""


class Room:
    """A chat, the prompt before it, and the screen behind it."""

    def __init__(self, chat: Chat, assembly: Assembly, terminal: Terminal) -> None:
        self.chat, self.assembly, self.terminal = chat, assembly, terminal
        self.prompt = Prompt(self)
        self.over = False
        self._warmed = False
        self._warned = False
        terminal.commands = True
        assembly.say = chat.tell = self.note
        chat.store.watched = unwatched  # a bar would stand in the way of the prompt

    def note(self, line: str) -> None:
        """A line beside the conversation, above the prompt while one is typing; from any thread."""
        self.prompt.above(lambda: self.terminal.note(line))

    def run(self) -> int:
        """Sit here until the reader leaves; returns the exit code."""
        self.greet()
        warm = threading.Thread(target=self._warm, daemon=True, name="warm")
        try:
            while not self.over:
                if self._warmed:
                    self.prompt.refresh()
                try:
                    line = self.prompt.read(ready=warm.start if warm.ident is None else None)
                except KeyboardInterrupt:
                    self.terminal.note("Ctrl-D leaves; a Ctrl-C during a reply stops it.")
                    continue
                except EOFError:
                    self.over = self.may_leave()
                    continue
                except OSError:
                    break
                self.take(line)
        finally:
            self.leave()
        return 7 if self.chat.not_saved and self.chat.store.kept else 0

    def greet(self) -> None:
        """One line on the session, and its last turn; three lines for a newcomer."""
        session = self.chat.session
        if not self.chat.store.kept:
            self.terminal.note("Nothing of this is kept. /help shows the commands, Ctrl-D leaves.")
            return
        if not session.path and not self.chat.started:
            self.terminal.note(f"New session {self.chat.name!r}. /help shows the commands, Ctrl-D leaves.")
            if not self._anything():
                self.terminal.note(
                    "Enter sends, Alt-Enter makes a new line, Ctrl-C stops a reply and keeps what arrived."
                )
                self.terminal.note("/context shows what the model sees of the conversation, /memory changes it.")
            return
        turns = len(session.turns)
        title = f" · {session.title}" if session.title else ""
        self.terminal.note(
            f"Session {self.chat.name!r}{title} · {counted(turns, 'turn')} · last used {ago(session.last_active)}"
        )
        last_turns(self.terminal, session)

    def _anything(self) -> bool:
        """Whether anything was ever kept here: who comes back needs no introduction."""
        try:
            return bool(self.chat.store.names())
        except ChatmemError:
            return True

    def take(self, line: str) -> None:
        """Do what was typed: a command, or a message."""
        if not line.strip():
            return
        if self.prompt.multiline and line.strip() not in self.prompt.pastes.seen:
            line = line.rstrip("\n")  # Enter made them, on the way to the key that sends
        self.chat.reply = None
        try:
            if commands.is_command(line):
                commands.run(self, line)
            else:
                self.say(self._with_files(line))
        except KeyboardInterrupt:
            kept = "What arrived is kept" if self.chat.reply else "Nothing had arrived"
            self.terminal.note(f"Stopped. {kept}; /retry asks again.")
        except ChatmemError as error:
            self.terminal.error(error)
        except OSError:
            raise  # the terminal itself is gone
        except Exception as error:  # noqa: BLE001  # what nobody below can answer must not end the conversation
            self.terminal.error(
                ChatmemError(
                    f"chatmem failed: {type(error).__name__}.", "Nothing that was saved is lost; please report it."
                )
            )

    def _with_files(self, line: str) -> str:
        """The message with its files; if one cannot be had, the line is back in the prompt."""
        try:
            return with_files(commands.plain(line), self.note, self.prompt.pastes.named)
        except WrongUse:
            self.prompt.fill(line)
            raise

    def say(self, text: str) -> None:
        """Send a message; if it could not even be taken in, it is back in the prompt."""
        self.chat.asked = None
        try:
            self.show(self.chat.say(text))
        except (KeyboardInterrupt, ChatmemError) as error:
            if self.chat.asked is not None:
                raise
            self.prompt.fill(text)
            if isinstance(error, ChatmemError):
                raise
            self.terminal.note("Not sent: it is back in the prompt.")

    def show_question(self, text: str) -> None:
        """The question that is asked again, above its reply."""
        self.terminal.note(f"> {shortened(' '.join(text.split()), 300)}")

    def open(self, name: str) -> None:
        """Go on with another session, or begin it."""
        self.chat.close()
        self.chat = self.assembly.chat(name, store=self.chat.store)
        self.chat.tell = self.note
        self.greet()

    def show(self, pieces: Generator[Piece]) -> None:
        """Show a reply while it arrives; keys typed meanwhile wait for the prompt."""
        with quiet_keys(), contextlib.closing(pieces):
            print_reply(self.terminal, pieces)
        if self.terminal.interactive:
            self.terminal.raw("\n")

    def may_leave(self) -> bool:
        """Whether to leave now: who has something that could not be saved is told first, once."""
        if not self.chat.not_saved or not self.chat.store.kept or self._warned:
            return True
        self._warned = True
        self.terminal.note(f"Not saved: {self.chat.not_saved.message}", "warn")
        self.terminal.note("/save PATH keeps this conversation elsewhere; leaving again drops it.", "warn")
        return False

    def leave(self) -> None:
        """Say how to come back."""
        self.chat.close()
        if self.chat.started and self.chat.store.kept:
            flags = self.assembly.flags
            given = [(name, masked(flags[name])) for name in ("store", "user") if name in flags]
            where = "".join(f" --{name} {shlex.quote(value)}" for name, value in given)
            self.terminal.note(f"To go on: chatmem chat -s {shlex.quote(self.chat.name)}{where}")

    def _warm(self) -> None:
        """While the reader types: find the model, import its client and the screen's, load its token table."""
        sys.setswitchinterval(INTERVAL / 10)  # a key waits for less of an import
        try:
            self.assembly.warm(self.chat)
            if self.terminal.interactive:
                warm()
        finally:
            sys.setswitchinterval(INTERVAL)
            gc.freeze()  # what was imported stays: no frame waits for a look through all of it
        self._warmed = True
        self.prompt.refresh()
