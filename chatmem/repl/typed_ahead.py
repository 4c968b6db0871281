"""What was typed while no prompt was there: the keys behind the bytes, and the text behind the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress, KeyPressEvent
from prompt_toolkit.keys import Keys

from chatmem.terminal import keyboard

_NEW_LINES = (Keys.ControlM, Keys.ControlJ)


def key_presses(typed: bytes) -> list[KeyPress]:
    """The keys that bytes of the terminal stand for."""
    keys: list[KeyPress] = []
    parser = Vt100Parser(keys.append)
    parser.feed(typed.decode("utf-8", "surrogateescape"))
    parser.flush()
    return keys


def hand_over(input: Input) -> None:
    """Give what was read of the keyboard to the prompt or screen that reads it next, which may end within a paste."""
    if typed := keyboard.typed_early():
        store_typeahead(input, key_presses(typed))
    begun = keyboard.unfinished_paste()
    if begun:
        from prompt_toolkit.input.vt100 import Vt100Input  # only where the keyboard is held

        assert isinstance(input, Vt100Input)
        input.vt100_parser.feed(begun.decode("utf-8", "surrogateescape"))


def pasted_text(press: KeyPress | KeyPressEvent) -> str:
    """What was pasted, with the line breaks of text."""
    return press.data.replace("\r\n", "\n").replace("\r", "\n")


def typed_text(keys: Iterable[KeyPress], paste: Callable[[str], str]) -> str:
    """The text that keys would have entered. Keys that move or control something are left out.

    `paste` returns what a prompt shows for a text that was pasted.
    """
    text = ""
    for press in keys:
        if press.key is Keys.BracketedPaste:
            text += paste(pasted_text(press))
        elif press.key in _NEW_LINES:
            text += "\n"
        elif press.key is Keys.ControlH:
            text = text[:-1]
        elif not isinstance(press.key, Keys):
            text += press.data
    return text.strip("\n")
