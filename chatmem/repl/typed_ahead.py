"""What was typed while no prompt was there: the keys behind the bytes, and the text behind the keys."""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

_NEW_LINES = (Keys.ControlM, Keys.ControlJ)


def key_presses(typed: bytes) -> list[KeyPress]:
    """The keys that bytes of the terminal stand for."""
    keys: list[KeyPress] = []
    parser = Vt100Parser(keys.append)
    parser.feed(typed.decode("utf-8", "surrogateescape"))
    parser.flush()
    return keys


def typed_text(keys: Iterable[KeyPress]) -> str:
    """The text that keys would have entered. Keys that move or control something are left out."""
    text = ""
    for press in keys:
        if press.key is Keys.BracketedPaste:
            text += press.data.replace("\r\n", "\n").replace("\r", "\n")
        elif press.key in _NEW_LINES:
            text += "\n"
        elif press.key is Keys.ControlH:
            text = text[:-1]
        elif not isinstance(press.key, Keys):
            text += press.data
    return text.strip("\n")
