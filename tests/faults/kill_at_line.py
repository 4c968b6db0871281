"""Kills this process between two lines of the program."""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import struct
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import chatmem

PACKAGE = str(Path(chatmem.__file__).parent)


def kill_at_line(number: int, counter: str) -> None:
    """Kill this process before line `number` of the program, counted over all threads. 0 means never.

    The count is kept in the file `counter`, where it can be read when the process is dead.
    """
    with Path(counter).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 8)
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            line = next(lines)
            struct.pack_into("Q", memory, 0, line)
            if line == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
