"""Key sequences that prompt-toolkit does not know.

Its table of sequences is the only place to add one, but it is not documented as an extension point. Tried with
prompt-toolkit 3.0.50 to 3.0.53. Without the entries, Shift-Enter does nothing; Alt-Enter works everywhere. A report of
the terminal's focus that arrives late would be typed as text.
"""

from __future__ import annotations

from prompt_toolkit.input import ansi_escape_sequences
from prompt_toolkit.keys import Keys

SHIFT_ENTER = ("\x1b[13;2u", "\x1b[27;2;13~")
"""What terminals send for Shift-Enter, if they tell it from Enter."""


FOCUS_EVENTS = ("\x1b[I", "\x1b[O")
"""What terminals send when they gain or lose the focus, if they were asked to."""


def add_key_sequences() -> None:
    """Make Shift-Enter the same as Alt-Enter, and ignore reports of the focus."""
    table = getattr(ansi_escape_sequences, "ANSI_SEQUENCES", None)
    if isinstance(table, dict):
        table.update(dict.fromkeys(SHIFT_ENTER, (Keys.Escape, Keys.ControlM)))
        table.update(dict.fromkeys(FOCUS_EVENTS, Keys.Ignore))
