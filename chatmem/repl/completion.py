"""Completion as one types: commands with their help, and what each of them takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, FuzzyCompleter, PathCompleter
from prompt_toolkit.document import Document

from chatmem.errors import ChatmemError
from chatmem.memory import STRATEGIES
from chatmem.models.base import OPTIONS
from chatmem.models.openai_api import OpenAIModel
from chatmem.repl import commands
from chatmem.screen.safe import show_line

if TYPE_CHECKING:
    from chatmem.repl.loop import Room

Words = Iterator[tuple[str, str]]


class Typed(Completer):
    """Completes what stands before the cursor: `/command`, its argument, or an `@path`. Fuzzy but for paths."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._paths = PathCompleter(expanduser=True)
        self._arguments: dict[str, Callable[[], Words]] = {
            "open": self._sessions,
            "model": self._models,
            "retry": self._models,
            "profile": self._profiles,
            "memory": self._strategies,
            "set": lambda: iter(OPTIONS.items()),
            "help": lambda: ((c.name, c.help) for c in commands.TABLE.values()),
            "summary": lambda: iter((("edit", "open the notes in your editor"), ("redo", "have them made anew"))),
        }

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        if attached := re.search(r"(?:^|\s)@(\"[^\"]*|[^\s@\"]*)$", line):
            yield from self._files(attached[1], complete_event, quote=True)
        elif not line.startswith("/") or line.startswith("//") or "\n" in line:
            return
        elif " " not in line:
            words = ((f"/{c.name}", f"{c.usage}  {c.help}".strip()) for c in commands.TABLE.values())
            yield from self._fuzzy(words, document, complete_event)
        else:
            name, _, argument = line[1:].partition(" ")
            if name in ("save", "export"):
                yield from self._files(argument, complete_event)
            elif name in self._arguments and not (name == "set" and " " in argument):
                yield from self._fuzzy(self._arguments[name](), Document(argument), complete_event)

    @staticmethod
    def _fuzzy(words: Words, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        yield from FuzzyCompleter(_Whole(words), pattern=r"^.*").get_completions(document, event)

    def _files(self, start: str, event: CompleteEvent, quote: bool = False) -> Iterable[Completion]:
        for found in self._paths.get_completions(Document(start.removeprefix('"')), event):
            whole = start.removeprefix('"') + found.text
            if quote and (" " in whole or start.startswith('"')):  # what has blanks in it is one path only in quotes
                yield Completion(f'"{whole}"', -len(start), display=found.display)
            else:
                yield found

    def _sessions(self) -> Words:
        try:
            for outline in self.room.chat.store.outlines()[:500]:
                yield outline.name, outline.title
        except ChatmemError:
            return

    def _profiles(self) -> Words:
        for name, profile in self.room.assembly.config.settings.profiles.items():
            yield name, profile.model or profile.base_url or ""

    def _strategies(self) -> Words:
        for name, strategy in STRATEGIES.items():
            yield name, (strategy.__doc__ or "").splitlines()[0]

    def _models(self) -> Words:
        yield from self._offered

    @cached_property
    def _offered(self) -> list[tuple[str, str]]:
        """The models that the server lists, asked once."""
        found = [("offline", "built in, needs no server")]
        try:
            model = self.room.assembly.connect(self.room.assembly.config.settings)
            if isinstance(model, OpenAIModel):
                found = [(str(m["id"]), model.where) for m in model.models(patience=2.0)] + found
        except ChatmemError:
            pass
        return found


class _Whole(Completer):
    """Completes a whole argument from some words."""

    def __init__(self, words: Words) -> None:
        self.words = list(words)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        for word, meaning in self.words:
            yield Completion(
                word, -len(document.text_before_cursor), display=show_line(word), display_meta=show_line(meaning)
            )
