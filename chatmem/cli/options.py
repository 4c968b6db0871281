"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from chatmem.errors import ChatmemError


def session_names(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The sessions whose name begins with what was typed, with their titles, for the shell's completion."""
    from chatmem.assemble import Assembly

    flags = {name: value for name in ("store", "user", "profile") if (value := ctx.params.get(name))}
    try:
        outlines = Assembly(flags).store.outlines()
    except ChatmemError:
        return
    for outline in outlines:
        if outline.name.startswith(incomplete):
            yield outline.name, outline.title


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The session.", autocompletion=session_names, show_default=False)
]
MaybeName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The session; without it, the one used last.",
        autocompletion=session_names,
        show_default=False,
    ),
]
AllOrName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The session; without it, all.", autocompletion=session_names, show_default=False
    ),
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The new name.", show_default=False)]
Session = Annotated[
    str | None,
    typer.Option(
        "--session",
        "-s",
        metavar="NAME",
        help="The session to go on with, or to begin.",
        autocompletion=session_names,
        show_default=False,
    ),
]
Continue = Annotated[
    bool, typer.Option("--continue", "-c", help="Go on with the session used last.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="The model to ask; offline is built in.", show_default=False),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SPEC",
        help="buffer, window:6, token-trim:4000, summary:4000,recall_tokens=0",
        show_default=False,
    ),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT|@FILE", help="The system prompt.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.", show_default=False)]
Purge = Annotated[bool, typer.Option("--purge", help="Erase instead of moving into the trash.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
