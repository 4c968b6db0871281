"""What slash commands, the prompt and the completer may use of the REPL."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from chatmem.app import App
from chatmem.chat.chat import Chat
from chatmem.models.base import StreamChunk
from chatmem.terminal.terminal import Terminal


class PromptControls(Protocol):
    """What commands may use of the prompt."""

    multiline: bool
    """Whether Enter inserts a new line and Alt-Enter sends."""
    show_toolbar: bool

    def confirm(self, question: str) -> bool:
        """Whether the user says yes. Ctrl-C and Ctrl-D mean no."""

    def ask(self, question: str) -> str:
        """A line that the user types. Empty for Ctrl-C and Ctrl-D."""

    def prefill(self, text: str) -> None:
        """Put a text into the next prompt, to be edited and sent."""

    def edit_in_editor(self, text: str) -> str:
        """The text after the user edited it in $EDITOR. Raises UsageError."""


class ReplContext(Protocol):
    """The running REPL."""

    @property
    def chat(self) -> Chat: ...
    @property
    def app(self) -> App: ...
    @property
    def terminal(self) -> Terminal: ...
    @property
    def prompt(self) -> PromptControls: ...

    reasoning: str
    """What the model thought before its last reply."""

    def open_session(self, name: str, head: str | None = None) -> None:
        """Continue with another session, or start it. `head` is the end of the branch to continue, if not the last."""

    def ask(self, question: str) -> None:
        """Show a question, and send it with the files it names."""

    def show_question(self, text: str) -> None:
        """Print a question that is asked again."""

    def show_reply(self, chunks: Generator[StreamChunk]) -> None:
        """Print a reply while it arrives."""

    def exit(self) -> None:
        """Leave, unless the user has to be warned about unsaved messages first."""
