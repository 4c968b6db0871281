"""The table of all slash commands. Imported when a command is typed: their modules need more than the prompt does."""

from chatmem.repl.commands import conversation, facts, memory, sessions, settings
from chatmem.repl.commands.base import COMMANDS, by_group, run_command

__all__ = ["COMMANDS", "by_group", "conversation", "facts", "memory", "run_command", "sessions", "settings"]
