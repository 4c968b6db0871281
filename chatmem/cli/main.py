"""Running the command line. The plain forms of `chat` start without Typer, which takes a quarter of the time."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from chatmem.process import raise_on_termination
from chatmem.terminal import keyboard


def plain_chat_options(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What Typer makes of `chat` with at most TEXT, `-c`, `-s NAME` and `-t NAME`. None for the rest, left to Typer."""
    if "_CHATMEM_COMPLETE" in os.environ or arguments[:1] != ["chat"]:  # or a shell asks for completions
        return None
    options: dict[str, Any] = {}
    words = iter(arguments[1:])
    for word in words:
        if word in ("-c", "--continue"):
            name, value = "continue_", "yes"
        elif word in ("-s", "--session"):
            name, value = "session", next(words, "")
        elif word in ("-t", "--template"):
            name, value = "template", next(words, "")
        else:
            name, value = "text", word
        if name in options or not value or value.startswith("-"):
            return None
        options[name] = True if name == "continue_" else value
    return options


def main() -> None:
    """Run a command. Garbage collection starts with the command: imports create no garbage."""
    gc.disable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    try:
        raise_on_termination()
        _run(_with_command(sys.argv[1:]))
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


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with `chat` if they begin with an option that only `chat` has and other programs have as well."""
    return ["chat", *arguments] if arguments[:1] in (["-c"], ["--continue"], ["-s"], ["--session"]) else arguments


def _run(arguments: list[str]) -> None:
    picks = not arguments and sys.stdin.isatty() and sys.stdout.isatty()
    if picks or arguments[:1] == ["chat"]:
        keyboard.hold()
    options = {} if picks else plain_chat_options(arguments)
    if options is None:
        from chatmem.cli.typer_app import build_app

        build_app(arguments)(prog_name="chatmem")
        return
    from chatmem.cli.runner import run_command
    from chatmem.cli.start_chat import pick_chat, start_chat

    run_command(pick_chat if picks else start_chat, options)
    sys.exit()


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
