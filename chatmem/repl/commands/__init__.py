"""Slash commands: one decorated function each. Its docstring is its help text."""

from chatmem.repl.commands import conversation, memory, sessions, settings
from chatmem.repl.commands.base import COMMANDS, Command, command, is_command, parse_number, run_command, unescape

__all__ = [
    "COMMANDS",
    "Command",
    "command",
    "conversation",
    "is_command",
    "memory",
    "parse_number",
    "run_command",
    "sessions",
    "settings",
    "unescape",
]
