"""Templates: a system prompt, a first question, a model and a memory under a name, with variables to fill in.

A template is a TOML file in `templates/` beside the config file:

    system = "You are a {kind} reviewer."
    prompt = "Review this:\\n\\n{input}"
    model = "gpt-6-luna"
    memory = "window:6"
    options = { temperature = 0 }
    [variables]
    kind = "strict"

`{name}` is a variable, with its default in `[variables]`; `{input}` is what is piped, or the text of the command.
Braces are written twice: `{{ }}`.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chatmem.errors import Action, UsageError
from chatmem.history.names import is_valid, validate
from chatmem.input_files import read_input
from chatmem.memory.strategies import parse_spec
from chatmem.text import fix_surrogates, truncate

SUFFIX = ".toml"
INPUT = "input"
"""The variable for what is piped, or the text of the command."""
MAX_BYTES = 1 << 20
Ask = Callable[[str], str]
"""Asks the user for the value of a variable."""


@dataclass(frozen=True)
class Filled:
    """A template whose variables have values."""

    settings: Mapping[str, Any]
    """The settings of a session: `template`, `system`, `model`, `memory`, `options`."""
    question: str
    """The first question. Empty for none."""


@dataclass(frozen=True)
class Template:
    """A template as it was written."""

    name: str
    system: str | None = None
    prompt: str | None = None
    model: str | None = None
    memory: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """The defaults of variables."""

    def fill(self, values: Mapping[str, str], text: str = "", ask: Ask | None = None) -> Filled:
        """Give the variables their values: those given, else the defaults, else what `ask` returns.

        `text` is the value of `{input}`, and follows a prompt that does not have it. Raises UsageError.
        """
        used = dict.fromkeys([*_variables(self, self.system), *_variables(self, self.prompt)])
        for name in values:
            if name not in used or name == INPUT:
                known = ", ".join(one for one in used if one != INPUT) or "none"
                raise UsageError(f"The template {self.name!r} has no variable {truncate(name)!r}.", f"It has: {known}.")
        filled = {**self.variables, **values, **({INPUT: text} if text else {})}
        for name in used:
            if name not in filled:
                if ask is None:
                    how = "Pipe it in, or give it as TEXT." if name == INPUT else f"Give it with -p {name}=VALUE."
                    raise UsageError(f"Missing value for {{{name}}} in the template {self.name!r}.", how)
                filled[name] = ask(f"{name}: ")
        question = _fill(self.prompt or "", filled)
        if text and INPUT not in used:
            question = f"{question}\n\n{text}" if question else text
        settings: dict[str, Any] = {"template": self.name}
        settings |= {"system": _fill(self.system, filled) if self.system is not None else None}
        settings |= {"model": self.model, "memory": parse_spec(self.memory) if self.memory else None}
        settings |= {"options": dict(self.options) or None}
        return Filled({name: value for name, value in settings.items() if value is not None}, question)


class Templates:
    """The templates in a directory."""

    def __init__(self, config: Path) -> None:
        """`config` is the path of the config file, whether it exists or not."""
        self.directory = config.parent / "templates"

    def names(self) -> list[str]:
        """The names of all templates, sorted."""
        try:
            files = list(self.directory.iterdir())
        except OSError:
            return []
        return sorted(f.stem for f in files if f.suffix == SUFFIX and is_valid(f.stem) and f.is_file())

    def path(self, name: str) -> Path:
        """Where a template belongs. Raises UsageError for an invalid name, so that none leaves the directory."""
        return self.directory / f"{validate(name, 'template')}{SUFFIX}"

    def load(self, name: str) -> Template:
        """Read a template. Raises UsageError if there is none, or if it is invalid, with the place."""
        path = self.path(name)
        try:
            data = read_input(path, MAX_BYTES)
        except FileNotFoundError:
            from difflib import get_close_matches  # imported lazily: slow

            near = get_close_matches(name, self.names(), 1, 0.5)
            hint, action = (f"Did you mean {near[0]!r}?", None) if near else ("", Action("list_templates"))
            raise UsageError(f"Template {truncate(name)!r} not found.", hint, action) from None
        except OSError as error:
            raise UsageError(f"Cannot read the template {name!r}: {error.strerror}.") from error
        return parse(name, data)


def parse(name: str, data: bytes) -> Template:
    """A template from the content of its file. Raises UsageError."""
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"The template {name!r} is not valid TOML: {error}.") from error
    known = [one.name for one in fields(Template) if one.name != "name"]
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"The template {name!r} has an unknown setting {truncate(key)!r}.", f"Known: {known}.")
        kind = dict if key in ("options", "variables") else str
        if not isinstance(value, kind):
            raise UsageError(f"{key} in the template {name!r} must be a {'table' if kind is dict else 'text'}.")
    variables = {key: fix_surrogates(str(value)) for key, value in table.pop("variables", {}).items()}
    template = Template(name, **table, variables=variables)
    used = [*_variables(template, template.system), *_variables(template, template.prompt)]
    if unused := [key for key in variables if key not in used]:
        raise UsageError(f"The template {name!r} does not use its variable {truncate(unused[0])!r}.")
    if template.memory:
        parse_spec(template.memory)
    return template


def parse_values(pairs: list[str]) -> dict[str, str]:
    """The values in `name=value` pairs. Raises UsageError."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"Expected name=value, not {truncate(pair)!r}.")
        values[name] = fix_surrogates(value)
    return values


def _variables(template: Template, text: str | None) -> list[str]:
    """The variables in a text. Raises UsageError for braces that are neither variables nor written twice."""
    names = []
    try:
        for _, name, spec, conversion in string.Formatter().parse(text or ""):
            if name is not None:
                if not name.isidentifier() or spec or conversion:
                    raise ValueError(f"{{{name}}} is not a variable")
                names.append(name)
    except ValueError as error:
        raise UsageError(f"In the template {template.name!r}: {error}.", "Write {{ and }} for braces.") from error
    return names


def _fill(text: str, values: Mapping[str, str]) -> str:
    return "".join(
        literal + (values[name] if name is not None else "") for literal, name, *_ in string.Formatter().parse(text)
    )
