"""The front door: one file per command group, and only the one that is asked for is opened."""

from __future__ import annotations

import gc
import importlib
import os
import sys

import typer

from chatmem.cli.unhurried import UnhurriedGroup

GROUPS = {
    "chat": ("chat",),
    "ask": ("ask",),
    "sessions": ("sessions",),
    "export": ("export", "import"),
    "context": ("context", "compare"),
    "models": ("models", "doctor"),
    "config": ("config",),
}
"""The files of commands, in the order in which help lists them, and the commands in each."""


def front_door(words: list[str]) -> typer.Typer:
    """The command line for these words: with the group that the first one names, or with all of them."""
    app = typer.Typer(
        name="chatmem",
        cls=UnhurriedGroup,
        help="A terminal chat whose memory you can see, steer and trust.",
        epilog="Most used: chatmem chat -s work · chatmem sessions list · chatmem export",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_version)
    named = [file for file, commands in GROUPS.items() if words and words[0] in commands]
    for file in named or GROUPS:
        importlib.import_module(f"chatmem.cli.{file}").register(app)
    return app


def _version(version: bool = typer.Option(False, "--version", "-V", help="Show the version.")) -> None:
    if version:
        from chatmem import __version__

        typer.echo(f"chatmem {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command. The collector rests until it is running: imports make no garbage."""
    gc.disable()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    try:
        front_door(sys.argv[1:])(prog_name="chatmem")
    except KeyboardInterrupt:  # before a command could catch it
        sys.exit(130)
    except OSError as error:
        sys.exit(f"The answer could not be written: {error.strerror}.")
