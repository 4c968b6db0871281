"""Key sequences that prompt-toolkit does not know.

Its table of sequences is the only place to add one, but it is not documented as an extension point. Tried with
prompt-toolkit 3.0.50 to 3.0.53. Without the entries, Shift-Enter does nothing; Alt-Enter works everywhere.
"""

from __future__ import annotations

from prompt_toolkit.input import ansi_escape_sequences
from prompt_toolkit.keys import Keys

SHIFT_ENTER = ("\x1b[13;2u", "\x1b[27;2;13~")
"""What terminals send for Shift-Enter, if they tell it from Enter."""


def add_shift_enter() -> None:
    """Make Shift-Enter the same as Alt-Enter."""
    table = getattr(ansi_escape_sequences, "ANSI_SEQUENCES", None)
    if isinstance(table, dict):
        for sequence in SHIFT_ENTER:
            table[sequence] = (Keys.Escape, Keys.ControlM)
