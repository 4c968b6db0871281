"""Running the command line. The plain forms of `chat` start without Typer, which takes a quarter of the time."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from chatmem.terminal import keyboard


def plain_chat_options(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What Typer makes of `chat`, `chat -c` and `chat -s NAME`. None for everything else, which is left to Typer."""
    if "_CHATMEM_COMPLETE" in os.environ:  # a shell asks for completions
        return None
    match list(arguments):
        case ["chat"]:
            return {}
        case ["chat", "-c" | "--continue"]:
            return {"continue_": True}
        case ["chat", "-s" | "--session", name] if name and not name.startswith("-"):
            return {"session": name}
    return None


def main() -> None:
    """Run a command. Garbage collection starts with the command: imports create no garbage."""
    gc.disable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    try:
        if sys.argv[1:2] == ["chat"]:
            keyboard.hold()
        options = plain_chat_options(sys.argv[1:])
        if options is not None:
            from chatmem.cli.runner import run_command
            from chatmem.cli.start_chat import start_chat

            run_command(start_chat, options)
            sys.exit()
        else:
            from chatmem.cli.typer_app import build_app

            build_app(sys.argv[1:])(prog_name="chatmem")
    except KeyboardInterrupt:  # before the command could handle it
        sys.exit(130)
    except OSError as error:
        sys.exit(f"Cannot write the output: {error.strerror}.")
    except SystemExit as error:
        keyboard.release()
        _exit_at_once(error.code)
        raise
    finally:
        keyboard.release()


def _exit_at_once(status: object) -> None:
    """End the process here if a background thread is still running.

    In a normal exit OpenSSL frees its tables. A thread that opens a connection at that moment crashes the process.
    """
    if threading.active_count() == 1 or not isinstance(status, int | None):
        return
    with contextlib.suppress(OSError, ValueError):  # the normal exit reports it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
