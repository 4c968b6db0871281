"""Waiting for another program that uses the terminal: an editor or a pager."""

from __future__ import annotations

import contextlib
import subprocess

from chatmem.process import ignore_interrupts

END_SECONDS = 2
"""Seconds that the program has to end itself when this process is told to end."""


def wait_for_program(process: subprocess.Popen[bytes]) -> int:
    """Wait for a program, and return its exit code. Ctrl-C is for the program alone.

    If this process is told to end, the program is ended first: it knows how to leave the terminal.
    """
    with ignore_interrupts():
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            raise
