"""What a slash command is, and how a line becomes one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from chatmem.errors import WrongUse

if TYPE_CHECKING:
    from chatmem.repl.loop import Room


class Command(NamedTuple):
    """A command as it is typed, what it does, and in which words it takes what."""

    name: str
    usage: str
    help: str
    run: Callable[[Room, str], None]


TABLE: dict[str, Command] = {}


def command(name: str, usage: str = "") -> Callable[[Callable[[Room, str], None]], Callable[[Room, str], None]]:
    """Make `function(room, argument)` the command `/name`."""

    def register(function: Callable[[Room, str], None]) -> Callable[[Room, str], None]:
        help = (inspect.getdoc(function) or "").splitlines()[0]
        TABLE[name] = Command(name, usage, help, function)
        return function

    return register


def is_command(line: str) -> bool:
    """Whether a line is a command: it begins with one slash, and is one line (a pasted line with its end never is)."""
    return line.startswith("/") and not line.startswith("//") and "\n" not in line


def plain(line: str) -> str:
    """A message as it is sent: `//text` stands for a message that begins with a slash."""
    return line[1:] if line.startswith("//") and "\n" not in line else line


def run(room: Room, line: str) -> None:
    """Run a command line. Raises WrongUse for an unknown one, with the nearest there is."""
    name, _, argument = line[1:].strip().partition(" ")
    found = TABLE.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name, TABLE, 1, 0.5)
        raise WrongUse(
            f"There is no command /{name}.",
            f"Did you mean /{near[0]}?"
            if near
            else "/help shows them; //text sends a message that begins with a slash.",
        )
    found.run(room, argument.strip())


def switched(text: str, now: bool) -> bool:
    """What `on` or `off` makes of a switch; nothing turns it over. Raises WrongUse."""
    if text.lower() not in ("", "on", "off"):
        raise WrongUse(f"It is on or off, not {text!r}.")
    return text.lower() == "on" if text else not now


def number(text: str, what: str = "turn's number", hint: str = "/context shows the numbers.") -> int:
    """A number of at least 1, as typed. Raises WrongUse, which says what it should have been."""
    try:
        found = int(text.removeprefix("#"))
    except ValueError:
        found = 0
    if found < 1:
        raise WrongUse(f"{text!r} is no {what}." if text else "Which turn?", hint)
    return found
