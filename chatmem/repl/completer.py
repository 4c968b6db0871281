"""Completion while typing: commands with their help, their arguments, and paths."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, FuzzyCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import AnyFormattedText

from chatmem.errors import ChatmemError
from chatmem.memory.strategies import STRATEGIES
from chatmem.models.base import OPTION_HELP
from chatmem.repl.commands.base import Command
from chatmem.repl.context import ReplContext
from chatmem.terminal.sanitize import limit_zero_width, sanitize_line
from chatmem.text import truncate

MAX_SESSIONS = 100
"""How many sessions are offered."""
MAX_PATHS = 500
"""How many paths are offered."""
MAX_BRANCH_CHARS = 60
MAX_SHOWN_CHARS = 300
"""How much of a text is shown in the menu."""
MIN_GROUP_WIDTH = 60
"""Columns of a terminal from which on the menu has groups and arguments, besides what a command does."""
SWITCH = (("on", ""), ("off", ""))
OPTION_VALUES = {
    "reasoning_effort": ("low", "medium", "high"),
    "temperature": ("0", "0.7", "1"),
    "max_tokens": ("1024", "4096"),
}
"""Usual values of options."""
SUMMARY_ACTIONS = {"edit": "open the summary in your editor", "redo": "make the summary again"}

Words = Iterator[tuple[str, str]]
"""Completions with their descriptions."""


class ReplCompleter(Completer):
    """Completes `/command`, its argument, or an `@path`. Matching is fuzzy except for paths."""

    def __init__(self, repl: ReplContext) -> None:
        self.repl = repl
        self._arguments: dict[str, Callable[[str], Words]] = {
            "open": self._sessions,
            "model": self._models,
            "retry": self._models,
            "profile": self._profiles,
            "template": self._templates,
            "memory": self._strategies,
            "delete": self._sessions,
            "copy": lambda typed: iter([("all", "the whole reply")]),
            "multiline": lambda typed: iter(SWITCH),
            "toolbar": lambda typed: iter(SWITCH),
            "context": lambda typed: iter([("--all", "print every turn")]),
            "branches": self._branches,
            "set": lambda typed: iter(OPTION_HELP.items()),
            "help": lambda typed: ((command.name, command.help) for command in self._commands.values()),
            "summary": lambda typed: iter(SUMMARY_ACTIONS.items()),
        }

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        if mention := re.search(r"(?:^|\s)@(\"[^\"]*|[^\s@\"]*)$", line):
            yield from self._files(mention[1], quote=True)
        elif not line.startswith("/") or line.startswith("//") or "\n" in line:
            return
        elif " " not in line:
            yield from self._command_names(document, complete_event)
        else:
            name, _, argument = line[1:].partition(" ")
            if name in ("save", "export"):
                yield from self._files(argument)
                return
            if name == "set" and " " in argument:
                option, _, argument = argument.partition(" ")
                yield from self._fuzzy(self._option_values(option), Document(argument), complete_event)
            elif name in self._arguments:
                yield from self._fuzzy(self._arguments[name](argument), Document(argument), complete_event)

    def _command_names(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Commands by group, each group with its name at its first command."""
        from chatmem.repl.commands.table import by_group  # imported lazily: slow

        known = [one for commands in by_group().values() for one in commands]
        completions = self._fuzzy(((f"/{one.name}", "") for one in known), document, event)
        group = ""
        for completion in completions:
            one = self._commands[completion.text[1:]]
            label = one.group if one.group != group else ""
            group = one.group
            meta: AnyFormattedText = [("class:group", f"{label:<9}"), ("", f"{one.usage}  {one.help}".strip())]
            if self.repl.terminal.width < MIN_GROUP_WIDTH:
                meta = one.help
            yield Completion(completion.text, completion.start_position, completion.display, meta)

    @cached_property
    def _commands(self) -> dict[str, Command]:
        from chatmem.repl.commands.table import COMMANDS  # imported lazily: slow

        return COMMANDS

    @staticmethod
    def _fuzzy(words: Words, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        yield from FuzzyCompleter(_WholeLineCompleter(words), pattern=r"^.*").get_completions(document, event)

    def _files(self, start: str, quote: bool = False) -> Iterable[Completion]:
        typed = start.removeprefix('"')
        for name in _paths(typed):
            path = typed[: typed.rfind("/") + 1] + name
            if quote and (" " in path or start.startswith('"')):  # a path with spaces has to be quoted
                yield Completion(f'"{path}"', -len(start), display=sanitize_line(name))
            else:
                yield Completion(path[len(typed) :], display=sanitize_line(name))

    def _sessions(self, typed: str) -> Words:
        try:
            for session in self.repl.chat.store.matching_sessions(typed, MAX_SESSIONS):
                yield session.name, session.title
        except ChatmemError:
            return

    def _branches(self, typed: str) -> Words:
        for number, leaf in enumerate(self.repl.chat.session.leaves(), 1):
            yield str(number), truncate(" ".join(leaf.content[:200].split()), MAX_BRANCH_CHARS)

    def _option_values(self, option: str) -> Words:
        yield "-", "reset it"
        for value in OPTION_VALUES.get(option, ()):
            yield value, ""

    def _profiles(self, typed: str) -> Words:
        for name, profile in self.repl.app.config.settings.profiles.items():
            yield name, profile.model or profile.base_url or ""

    def _templates(self, typed: str) -> Words:
        from chatmem.templates import Templates  # imported lazily: rarely used

        yield from ((name, "") for name in Templates(self.repl.app.paths.config).names())

    def _strategies(self, typed: str) -> Words:
        for name, strategy in STRATEGIES.items():
            yield name, (strategy.__doc__ or "").splitlines()[0]
        given, comma, _ = typed.rpartition(",")
        chosen = STRATEGIES.get(re.split("[:,]", given)[0]) if comma else None
        for field in dataclasses.fields(chosen) if chosen else ():
            yield f"{given},{field.name}=", str(field.metadata.get("help", ""))

    def _models(self, typed: str) -> Words:
        """The available models, the one in use last."""
        current = self.repl.chat.turn_config.model.name
        yield from sorted(self._available_models, key=lambda entry: entry[0] == current)

    @cached_property
    def _available_models(self) -> list[tuple[str, str]]:
        """The models that the server lists, asked once, and the offline model."""
        offline = ("offline", "built in, needs no server")
        try:
            model = self.repl.app.resolve_model(self.repl.app.config.settings)
            listed = [(str(entry["id"]), model.server) for entry in model.list_models(timeout=2.0)]
        except ChatmemError:
            listed = []
        return [*listed, offline]


def _paths(typed: str) -> list[str]:
    """The names that complete a path, sorted, those of directories with a slash at the end."""
    directory, _, beginning = typed.rpartition("/")
    where = os.path.expanduser(directory + "/" if "/" in typed else ".")
    try:
        with os.scandir(where) as entries:  # one by one: a directory may have 100,000 files
            found = (entry for entry in entries if entry.name.startswith(beginning))
            first = itertools.islice((e for e in found if beginning or not e.name.startswith(".")), MAX_PATHS)
            return sorted(entry.name + "/" * entry.is_dir() for entry in first)
    except (OSError, ValueError):
        return []


def _shown(text: str) -> str:
    """A text that others wrote, as a menu shows it."""
    return limit_zero_width(sanitize_line(text[:MAX_SHOWN_CHARS]))


class _WholeLineCompleter(Completer):
    """Completes a whole argument from a list of words."""

    def __init__(self, words: Words) -> None:
        self.words = list(words)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        for word, description in self.words:
            yield Completion(
                word,
                -len(document.text_before_cursor),
                display=_shown(word),
                display_meta=_shown(description),
            )
