"""What was typed before: the history file, and suggestions from it."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from chatmem.paths import make_private_dir, open_private
from chatmem.repl.attachments import PasteBuffer

MAX_HISTORY_BYTES = 1 << 20
"""How much of the history is read, from its end."""
MAX_ENTRY_CHARS = 100_000
"""Longer messages are not stored in the history."""
MAX_SUGGESTIONS = 2_000
"""How many of the newest entries are searched for a suggestion."""
MAX_SUGGESTED_CHARS = 2_000


class RecentSuggestions(AutoSuggest):
    """Suggests the end of a line from the newest entries of the history. Looking through all would delay each key."""

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        text = document.text.rpartition("\n")[2]
        if not text.strip():
            return None
        for entry in reversed(buffer.history.get_strings()[-MAX_SUGGESTIONS:]):
            if text in entry and len(entry) <= MAX_SUGGESTED_CHARS:
                for line in reversed(entry.split("\n")):
                    if line.startswith(text):
                        return Suggestion(line[len(text) :])
        return None


class PrivateHistory(FileHistory):
    """A history file with mode 0600, of which the end is read. Errors are ignored.

    Lines that begin with a space are not stored, and neither are very long messages.
    """

    def __init__(self, filename: str, pastes: PasteBuffer) -> None:
        super().__init__(filename)
        self._pastes = pastes

    def store_string(self, string: str) -> None:
        text = self._pastes.expand(string)
        if string.startswith(" ") or len(text) > MAX_ENTRY_CHARS:
            return
        lines = "".join(f"+{line}\n" for line in text.split("\n"))
        entry = f"\n# {datetime.datetime.now()}\n{lines}".encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            descriptor = open_private(Path(str(self.filename)), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(descriptor, entry)  # one write, since other chats append here too
            finally:
                os.close(descriptor)

    def load_history_strings(self) -> Iterable[str]:
        """The newest entries, newest first. An entry is a comment, then its lines, each after a plus."""
        try:
            with Path(str(self.filename)).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MAX_HISTORY_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return
        entry: list[str] = []
        for line in reversed(lines):
            if line.startswith("+"):
                entry.append(line[1:])
            elif entry:
                yield "\n".join(reversed(entry))
                entry = []
        if entry and size <= MAX_HISTORY_BYTES:  # otherwise its first lines were not read
            yield "\n".join(reversed(entry))


def open_history(directory: Path, pastes: PasteBuffer) -> History:
    try:
        make_private_dir(directory)
        os.close(open_private(directory / "history", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    except OSError:
        return InMemoryHistory()
    return PrivateHistory(str(directory / "history"), pastes)
