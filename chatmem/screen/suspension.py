"""Ctrl-Z while something on the screen is still ours: it is taken away before the shell's lines come."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def suspension(leave: Callable[[], None], back: Callable[[], None]) -> Iterator[None]:
    """Call `leave` before Ctrl-Z stops the process, and `back` when `fg` lets it go on. Nested, the inner leaves first.

    Where there is no Ctrl-Z, or whoever started us ignores it, nothing is done.
    """
    number = getattr(signal, "SIGTSTP", None)
    before = signal.getsignal(number) if number else signal.SIG_IGN
    if number is None or before in (signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        leave()
        try:
            if callable(before):
                before(signum, frame)
            else:
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)  # here it stops, and from here it goes on
                signal.signal(signum, stop)
        finally:
            back()

    signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)
