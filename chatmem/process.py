"""Switches that affect the whole process: signals, garbage collection, thread switching, environment variables."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from chatmem.errors import Terminated

_SWITCH_INTERVAL = sys.getswitchinterval()
_environment_lock = threading.Lock()


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
    """Turn SIGTERM and SIGHUP into a `Terminated` exception, so that what arrived is saved."""

    def terminate(number: int, frame: object) -> None:
        # A closing terminal may send SIGHUP twice. A second SIGTERM kills.
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


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
