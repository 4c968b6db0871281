"""Switches that affect the whole process: signals, garbage collection, thread switching, environment variables."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from chatmem.errors import Terminated

_SWITCH_INTERVAL = sys.getswitchinterval()
_environment_lock = threading.Lock()
TERMINATION_SECONDS = 4.0
"""Seconds after which a signal that has not ended the process is sent again, and then the process is ended."""
REPEAT_SECONDS = 0.02


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the block ends, so that they cannot interrupt a save.

    Does nothing outside the main thread, which is the only one that receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = [n for name in ("SIGINT", "SIGTERM", "SIGHUP") if (n := getattr(signal, name, None))]
    previous = {number: signal.signal(number, lambda n, frame: received.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(received):
            signal.raise_signal(number)


def raise_on_termination() -> None:
    """Turn SIGTERM and SIGHUP into a `Terminated` exception, so that what arrived is saved.

    Python discards an exception that is raised during an import or in a destructor, and so may a library. The signal is
    then sent again. A process that still does not end is ended: what was acknowledged is stored.
    """

    def terminate(number: int, frame: object) -> None:
        if not _Termination.number:
            threading.Thread(target=_insist, args=(number,), daemon=True, name="termination").start()
        elif number != _Termination.number or (number != signal.SIGTERM and not _Termination.is_repeated):
            return  # a closing terminal may send SIGHUP twice, and SIGTERM as well
        _Termination.number, _Termination.is_repeated = number, False
        raise Terminated(number)

    sys.unraisablehook = _repeat_lost_signal
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


class _Termination:
    """The signal that ends this process, 0 for none, and whether this process sent it again."""

    number = 0
    is_repeated = False


def _insist(number: int) -> None:
    """End the process if the exception for a signal does not do that in time."""
    time.sleep(TERMINATION_SECONDS)
    _send_again(number)
    time.sleep(TERMINATION_SECONDS)
    os._exit(128 + number)


def _repeat_lost_signal(lost: sys.UnraisableHookArgs) -> None:
    """Send the signal again whose exception Python has discarded. Anything else is reported as usual."""
    if isinstance(lost.exc_value, Terminated | KeyboardInterrupt):
        number = lost.exc_value.exit_code - 128 if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        timer = threading.Timer(REPEAT_SECONDS, _send_again, (number,))
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(lost)


def _send_again(number: int) -> None:
    _Termination.is_repeated = True
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C in a block that waits for another program of the terminal, which handles it. In the main thread."""
    wakeup = signal.set_wakeup_fd(-1)  # an event loop would be told of the signal as well
    previous = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


@contextlib.contextmanager
def on_suspend(before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Call `before` when Ctrl-Z suspends the process, and `after` when it resumes. Blocks may be nested.

    Does nothing on platforms without SIGTSTP, if SIGTSTP is ignored, or outside the main thread.
    """
    number = getattr(signal, "SIGTSTP", None)
    previous = signal.getsignal(number) if number else signal.SIG_IGN
    main_thread = threading.current_thread() is threading.main_thread()
    if number is None or previous in (signal.SIG_IGN, None) or not main_thread:
        yield
        return

    def suspend(signum: int, frame: FrameType | None) -> None:
        installed = signal.getsignal(signum)  # this function, or that of a nested block
        before()
        try:
            if callable(previous):
                previous(signum, frame)
            else:
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)  # the process stops here, and continues here
                signal.signal(signum, installed)
        finally:
            after()

    signal.signal(number, suspend)
    try:
        yield
    finally:
        signal.signal(number, previous)


@contextlib.contextmanager
def pause_gc() -> Iterator[None]:
    """Run a block that creates many objects and no garbage without the garbage collector."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def freeze_gc() -> None:
    """Exclude everything that exists now, such as imported modules, from later garbage collections."""
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def switch_threads_often() -> Iterator[None]:
    """Let other threads run ten times as often, so that typing stays responsive during imports in a thread."""
    sys.setswitchinterval(_SWITCH_INTERVAL / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(_SWITCH_INTERVAL)


@contextlib.contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """Set an environment variable, or unset it with None, for libraries that offer no other way."""
    with _environment_lock:
        previous = os.environ.get(name)
        _set_variable(name, value)
        try:
            yield
        finally:
            _set_variable(name, previous)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
