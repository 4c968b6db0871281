"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from chatmem.errors import ChatmemError


def session_names(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The sessions whose name starts with what was typed, with their titles, for shell completion."""
    from chatmem.app import App

    flags = {name: value for name in ("store", "user", "profile") if (value := ctx.params.get(name))}
    try:
        sessions = App(flags).store.list_sessions()
    except ChatmemError:
        return
    for session in sessions:
        if session.name.startswith(incomplete):
            yield session.name, session.title


def memory_specs(incomplete: str) -> list[tuple[str, str]]:
    """The memory strategies with their help, for shell completion."""
    from chatmem.memory.strategies import STRATEGIES

    found = ((name, (strategy.__doc__ or "").splitlines()[0]) for name, strategy in STRATEGIES.items())
    return [(name, help) for name, help in found if name.startswith(incomplete)]


def template_names(incomplete: str) -> list[str]:
    """The templates whose name starts with what was typed, for shell completion."""
    from chatmem.paths import Paths
    from chatmem.templates import Templates

    return [name for name in Templates(Paths.from_environment().config).names() if name.startswith(incomplete)]


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The session.", autocompletion=session_names, show_default=False)
]
MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The session. Default: the most recent one.",
        autocompletion=session_names,
        show_default=False,
    ),
]
AllOrName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The session. Default: all sessions.", autocompletion=session_names, show_default=False
    ),
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The new name.", show_default=False)]
Session = Annotated[
    str | None,
    typer.Option(
        "--session",
        "-s",
        metavar="NAME",
        help="The session to continue or start.",
        autocompletion=session_names,
        show_default=False,
    ),
]
Continue = Annotated[
    bool, typer.Option("--continue", "-c", help="Continue the most recent session.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="The model to use; offline is built in.", show_default=False),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SPEC",
        help="buffer, window:6, token-trim:4000, summary:4000,recall_tokens=0",
        autocompletion=memory_specs,
        show_default=False,
    ),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT|@FILE", help="The system prompt.", show_default=False)
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        metavar="NAME",
        help="A template: see chatmem templates.",
        autocompletion=template_names,
        show_default=False,
    ),
]
Parameter = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="A variable of the template.", show_default=False),
]
NoFacts = Annotated[
    bool, typer.Option("--no-facts", help="Do not tell the model the facts about you.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.", show_default=False)]
Purge = Annotated[
    bool, typer.Option("--purge", help="Delete permanently instead of moving to the trash.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
