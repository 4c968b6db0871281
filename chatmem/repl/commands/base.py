"""What a slash command is, and how a line becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple

from chatmem.errors import UsageError
from chatmem.repl.context import ReplContext

CommandFunction = Callable[[ReplContext, str], None]
"""Takes the REPL and the argument as typed."""


class Command(NamedTuple):
    """A slash command: its name, its arguments, its help text, an example, its function, and its group in the help."""

    name: str
    usage: str
    help: str
    example: str
    run: CommandFunction
    group: str


COMMANDS: dict[str, Command] = {}
GROUPS = {"conversation": "Chat", "memory": "Memory", "facts": "Memory", "sessions": "Sessions", "settings": "Settings"}
"""The groups of commands, by module. Commands of other modules are in `OTHER`."""
OTHER = "More"


def by_group() -> dict[str, list[Command]]:
    """The commands of each group, in the order of the help."""
    titles = dict.fromkeys([*GROUPS.values(), OTHER])
    groups = {title: [one for one in COMMANDS.values() if one.group == title] for title in titles}
    return {title: commands for title, commands in groups.items() if commands}


def command(name: str, usage: str = "", example: str = "") -> Callable[[CommandFunction], CommandFunction]:
    """Register a function as the command `/name`. The first line of its docstring is the help text.

    `example` is a command line that the help shows.
    """

    def register(function: CommandFunction) -> CommandFunction:
        help = (inspect.getdoc(function) or "").splitlines()[0]
        group = GROUPS.get(function.__module__.rpartition(".")[2], OTHER)
        COMMANDS[name] = Command(name, usage, help, example, function, group)
        return function

    return register


def is_command(line: str) -> bool:
    """Whether a line is a command: a single line that begins with one slash."""
    return line.startswith("/") and not line.startswith("//") and "\n" not in line


def unescape(line: str) -> str:
    """A message as it is sent: `//text` stands for a message that begins with a slash."""
    return line[1:] if line.startswith("//") and "\n" not in line else line


def run_command(repl: ReplContext, line: str) -> None:
    """Run a command line. Raises UsageError for an unknown command, with the nearest one."""
    name, _, argument = line[1:].strip().partition(" ")
    find_command(name).run(repl, argument.strip())


def find_command(name: str) -> Command:
    """The command with a name, or with a name that only it begins with. Raises UsageError, with similar commands."""
    name = name.lower()
    if name in COMMANDS:
        return COMMANDS[name]
    begun = sorted(known for known in COMMANDS if name and known.startswith(name))
    if len(begun) == 1:
        return COMMANDS[begun[0]]
    if begun:
        raise UsageError(f"/{name} may be {', '.join(f'/{known}' for known in begun)}.", "Type one more letter.")
    from difflib import get_close_matches  # imported lazily: slow

    near = get_close_matches(name, COMMANDS, 1, 0.5)
    hint = f"Did you mean /{near[0]}?" if near else "/help lists them; //text sends a message that begins with /."
    raise UsageError(f"Unknown command /{name}.", hint)


def parse_toggle(text: str, current: bool) -> bool:
    """The value that `on` or `off` gives a switch. An empty text toggles it. Raises UsageError."""
    if text.lower() not in ("", "on", "off"):
        raise UsageError(f"Expected on or off, not {text!r}.")
    return text.lower() == "on" if text else not current


def parse_number(text: str, what: str = "turn number", hint: str = "/context shows the numbers.") -> int:
    """A number of at least 1. Raises UsageError, which says what was expected."""
    try:
        number = int(text.removeprefix("#"))
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"{text!r} is not a {what}." if text else f"Missing {what}.", hint)
    return number
