"""Registering a function as a Typer command, with the options that every command has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from chatmem.cli.fast_params import FastParamsCommand
from chatmem.cli.runner import run_command

StoreOption = Annotated[str | None, typer.Option("--store", metavar="URL", hidden=True)]
UserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", hidden=True)]
ProfileOption = Annotated[str | None, typer.Option("--profile", metavar="NAME", hidden=True)]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", hidden=True)]
DebugOption = Annotated[bool, typer.Option("--debug", hidden=True)]

COMMON_HELP = """\b
Options of every command:
  --store URL     file, or sqlite:///PATH, redis://, postgresql://, mongodb://
  --user NAME     Whose sessions to use (users are separated, not authenticated).
  --profile NAME  A [profiles.NAME] of the config.
  --no-wait       Exit with code 8 if the session is in use.
  --debug         Show tracebacks.
"""
"""Stands once in `chatmem --help` instead of in the help of each command."""
SHORT_COMMON_HELP = "Also: --store, --user, --profile, --no-wait, --debug (see chatmem --help)."

_COMMON_OPTIONS = {
    "store": StoreOption,
    "user": UserOption,
    "profile": ProfileOption,
    "no_wait": NoWaitOption,
    "debug": DebugOption,
}


def command(
    app: typer.Typer, name: str | None = None, **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register `function(context, …)` as a command that also has the common options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            common = {key: values.pop(key) for key in _COMMON_OPTIONS}
            run_command(function, values, **common)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=False if key in ("no_wait", "debug") else None,
            )
            for key, kind in _COMMON_OPTIONS.items()
        ]
        parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, cls=FastParamsCommand, epilog=SHORT_COMMON_HELP, **options)(run)
        return function

    return register
