"""Slash commands: one decorated function each; its docstring is its help."""

from chatmem.repl.commands import memory, sessions, settings, talk
from chatmem.repl.commands.base import TABLE, Command, command, is_command, number, plain, run

__all__ = [
    "TABLE",
    "Command",
    "command",
    "is_command",
    "memory",
    "number",
    "plain",
    "run",
    "sessions",
    "settings",
    "talk",
]
