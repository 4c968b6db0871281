"""The command line: one file per group of commands. Only the file of the command that runs is imported."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading

import typer

from chatmem.cli.fast_params import FastParamsGroup

GROUPS = {
    "chat": ("chat",),
    "ask": ("ask",),
    "sessions": ("sessions",),
    "export": ("export", "import"),
    "context": ("context", "compare"),
    "models": ("models", "doctor"),
    "config": ("config",),
}
"""The modules of commands, in the order of the help, and the commands in each."""


def build_app(arguments: list[str]) -> typer.Typer:
    """The command line for these arguments: with the module of the first one, or with all modules."""
    app = typer.Typer(
        name="chatmem",
        cls=FastParamsGroup,
        help="A terminal chat whose memory you can see, steer and trust.",
        epilog="Most used: chatmem chat -s work · chatmem sessions list · chatmem export",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_version)
    needed = [module for module, commands in GROUPS.items() if arguments and arguments[0] in commands]
    for module in needed or GROUPS:
        importlib.import_module(f"chatmem.cli.{module}").register(app)
    return app


def _version(version: bool = typer.Option(False, "--version", "-V", help="Show the version.")) -> None:
    if version:
        from chatmem import __version__

        typer.echo(f"chatmem {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command. Garbage collection starts with the command: imports create no garbage."""
    gc.disable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    try:
        build_app(sys.argv[1:])(prog_name="chatmem")
    except KeyboardInterrupt:  # before the command could handle it
        sys.exit(130)
    except OSError as error:
        sys.exit(f"Cannot write the output: {error.strerror}.")
    except SystemExit as error:
        _exit_at_once(error.code)
        raise


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
