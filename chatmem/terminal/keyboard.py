"""The keyboard of the terminal while no prompt reads it: keys are not shown and not lost, and Ctrl-C still interrupts.

Enter stays Enter and a paste stays marked as one, so that the next prompt takes each typed line as its own message.
Nothing slow is imported here, because a chat calls `hold` first of all.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import Any

_BRACKETED_PASTE = "\x1b[?2004"
_FOCUS_EVENTS = "\x1b[?1004"
FOCUS_LOST, FOCUS_GAINED = b"\x1b[O", b"\x1b[I"
MAX_TYPED_AHEAD = 1 << 24
"""Bytes that are read at once."""

_PASTE_START, _PASTE_END = b"\x1b[200~", b"\x1b[201~"
_UNFINISHED_SEQUENCE = rb"\x1b\[[0-9;]*\Z"
_SEQUENCE = rb"\x1b(?:\[[0-9;]*[@-~]?|O[@-~]|[ -~])?"
_before: list[Any] | None = None
"""The modes of the terminal before `hold`. None if the keyboard is not held."""
_typed = b""
"""What was read and not taken yet."""
_watches_focus = False


def hold() -> None:
    """Keep everything that is typed for the next prompt. Does nothing without a capable terminal."""
    global _before, _typed
    if _before is not None or not _is_capable():
        return
    import termios

    try:
        _before = termios.tcgetattr(sys.stdin.fileno())
        quiet: list[Any] = termios.tcgetattr(sys.stdin.fileno())
        quiet[0] &= ~termios.ICRNL
        quiet[3] = quiet[3] & ~(termios.ECHO | termios.ICANON) | termios.NOFLSH
        quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, quiet)
    except termios.error:
        _before = None
        return
    _write(_BRACKETED_PASTE + "h" + (_FOCUS_EVENTS + "h") * _watches_focus)
    _typed += _read().replace(b"\n", b"\r").replace(b"\0", b"")  # until now, Enter was a line feed


def is_held() -> bool:
    return _before is not None


def release() -> None:
    """Return the keyboard in the modes that it had before `hold`."""
    global _before
    if _before is None:
        return
    _write(_BRACKETED_PASTE + "l" + (_FOCUS_EVENTS + "l") * _watches_focus)
    _set_modes(_before)
    _before = None


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Release the keyboard for a block that runs another program, or reads a line itself."""
    global _typed
    modes = _before
    if modes is not None:
        _typed += _read()
    release()
    try:
        yield
    finally:
        if modes is not None:
            _set_modes(modes)  # the other program may have left its own
            hold()


def prompt_ended() -> None:
    """Mark pastes again: a prompt of prompt-toolkit turns that off when it ends."""
    if _before is not None:
        _write(_BRACKETED_PASTE + "h")


def typed_early() -> bytes:
    """Take what was read up to now, except for a paste whose end has not arrived. The next prompt reads the rest."""
    global _typed
    start = _typed.rfind(_PASTE_START)
    if start < 0 or _typed.find(_PASTE_END, start) >= 0:
        unfinished = re.search(_UNFINISHED_SEQUENCE, _typed) if _typed else None
        start = unfinished.start() if unfinished else len(_typed)
    typed, _typed = _typed[:start], _typed[start:]
    return typed


def typed_ahead() -> bytes:
    """Take everything that was typed since the last prompt ended, except for a paste whose end has not arrived."""
    global _typed
    if _before is not None:
        _typed += _read()
    return typed_early()


def unfinished_paste() -> bytes:
    """Take the beginning of a paste whose end has not arrived. Whoever takes it reads the rest from the terminal."""
    global _typed
    typed, _typed = _typed, b""
    return typed


def typed_line() -> str:
    """What was typed since the last prompt ended, as one line with ⏎ for Enter. It is not taken, and may be hostile."""
    global _typed
    if _before is not None:
        _typed += _read()
    text = ""
    for character in re.sub(_SEQUENCE, b"", _typed).decode("utf-8", "replace"):
        if character in "\b\x7f":
            text = text[:-1]
        elif character.isprintable() or character in "\r\n":
            text += "⏎ " if character in "\r\n" else character
    return text


def watch_focus(on: bool) -> None:
    """Let the terminal report, among the keys, when it loses or gains the focus."""
    global _watches_focus
    _watches_focus = on
    if _before is not None:
        _write(_FOCUS_EVENTS + ("h" if on else "l"))


def _is_capable() -> bool:
    if os.name != "posix" or os.environ.get("TERM", "") in ("", "dumb"):
        return False
    try:
        return sys.stdin.isatty() and sys.stdout.isatty()
    except ValueError:  # closed
        return False


def _read() -> bytes:
    """What can be read without waiting."""
    data = b""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdin.fileno()
        while len(data) < MAX_TYPED_AHEAD:
            if not select.select([descriptor], [], [], 0)[0]:
                break
            read = os.read(descriptor, 4096)
            if not read:
                break
            data += read
    return data


def _set_modes(modes: list[Any]) -> None:
    import termios

    with contextlib.suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text)
        sys.stdout.flush()
