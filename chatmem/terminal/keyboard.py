"""The keyboard of the terminal while no prompt reads it: keys are not shown and not lost, and Ctrl-C still interrupts.

Enter stays Enter and a paste stays marked as one, so that the next prompt takes each typed line as its own message.
Nothing slow is imported here, because a chat calls `hold` first of all.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

_BRACKETED_PASTE = "\x1b[?2004"
_FOCUS_EVENTS = "\x1b[?1004"
FOCUS_LOST, FOCUS_GAINED = b"\x1b[O", b"\x1b[I"
MAX_TYPED_AHEAD = 1 << 24
"""Bytes that are read at once."""
PASTE_SECONDS = 0.5
"""Seconds to wait for the next bytes of a paste."""

_before: list[Any] | None = None
"""The modes of the terminal before `hold`. None if the keyboard is not held."""
_early = b""
"""What was typed before `hold`."""


def hold() -> None:
    """Keep everything that is typed for the next prompt. Does nothing without a capable terminal."""
    global _before, _early
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
    _write(_BRACKETED_PASTE + "h")
    _early += _read().replace(b"\n", b"\r").replace(b"\0", b"")  # until now, Enter was a line feed


def is_held() -> bool:
    return _before is not None


def release() -> None:
    """Return the keyboard in the modes that it had before `hold`."""
    global _before
    if _before is None:
        return
    import termios

    _write(_BRACKETED_PASTE + "l")
    with contextlib.suppress(OSError, ValueError, termios.error):
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, _before)
    _before = None


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Release the keyboard for a block that runs another program, or reads a line itself."""
    global _early
    was_held = _before is not None
    if was_held:
        _early += _read()
    release()
    try:
        yield
    finally:
        if was_held:
            hold()


def prompt_ended() -> None:
    """Mark pastes again: a prompt of prompt-toolkit turns that off when it ends."""
    if _before is not None:
        _write(_BRACKETED_PASTE + "h")


def typed_early() -> bytes:
    """Take what was typed before the keyboard was held. What was typed later, the next prompt reads."""
    global _early
    typed, _early = _early, b""
    return typed


def typed_ahead() -> bytes:
    """Take everything that was typed since the last prompt ended."""
    return typed_early() + (_read() if _before is not None else b"")


def watch_focus(on: bool) -> None:
    """Let the terminal report, among the keys, when it loses or gains the focus."""
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
    """What can be read without waiting. A paste that has begun is read to its end."""
    data = b""
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdin.fileno()
        while len(data) < MAX_TYPED_AHEAD:
            is_pasting = data.rfind(b"\x1b[200~") > data.rfind(b"\x1b[201~")
            if not select.select([descriptor], [], [], PASTE_SECONDS if is_pasting else 0)[0]:
                break
            read = os.read(descriptor, 4096)
            if not read:
                break
            data += read
    return data


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text)
        sys.stdout.flush()
