"""The Typer application. Only the file of the command that runs is imported."""

from __future__ import annotations

import importlib

import typer

from chatmem.cli.command import COMMON_HELP
from chatmem.cli.fast_params import FastParamsGroup

GROUPS = {
    "chat": ("chat",),
    "ask": ("ask",),
    "sessions": ("sessions",),
    "export": ("export", "import"),
    "context": ("context", "compare"),
    "templates": ("templates",),
    "facts": ("facts",),
    "recall": ("recall",),
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
        epilog=f"{COMMON_HELP}\n\nMost used: chatmem chat -s work · chatmem sessions list · chatmem export",
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
