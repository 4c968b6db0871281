"""The front door: one file per command group."""

from __future__ import annotations

import gc
import os
import sys

import typer

from chatmem.cli import ask, chat, config, context, export, models, sessions

CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="chatmem",
    help="A terminal chat whose memory you can see, steer and trust.",
    epilog="Most used: chatmem chat -s work · chatmem sessions list · chatmem export",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    rich_markup_mode=None,
)
for group in (chat, ask, sessions, export, context, models, config):
    group.register(app)


@app.callback(invoke_without_command=True)
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
        app(prog_name="chatmem")
    except KeyboardInterrupt:  # before a command could catch it
        sys.exit(130)
    except OSError as error:
        sys.exit(f"The answer could not be written: {error.strerror}.")
