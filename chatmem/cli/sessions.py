"""chatmem sessions: what is kept, and what may be done with it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from chatmem.cli.door import Here, command
from chatmem.cli.options import Json, MaybeName
from chatmem.formats.json import message_record
from chatmem.screen.listing import conversation, table

app = typer.Typer(help="List, show and look after sessions.", no_args_is_help=True, rich_markup_mode=None)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="sessions")


@command(app, "list")
def list_(
    here: Here,
    sort: Annotated[Literal["used", "name", "created", "turns"], typer.Option("--sort", help="By what.")] = "used",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="At most this many.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """List the sessions, the one used last first."""
    outlines = here.assembly.store.outlines()
    if sort != "used":
        outlines.sort(key=lambda o: o.name.casefold() if sort == "name" else getattr(o, sort), reverse=sort != "name")
    outlines = outlines[:limit]
    if json_:
        here.terminal.raw(json.dumps([o.record() for o in outlines], ensure_ascii=False, indent=1) + "\n")
    elif outlines:
        table(here.terminal, outlines)
    else:
        here.terminal.note("There is no session yet. Begin one: chatmem chat")


@command(app, "show")
def show(here: Here, name: MaybeName = None, json_: Json = False) -> None:
    """Show a conversation."""
    from chatmem.cli.chat import latest

    session = here.assembly.store.session(name or latest(here))
    if json_:
        body: dict[str, Any] = {
            "name": session.name,
            "id": session.id,
            "title": session.title,
            "created": session.created,
        }
        body["messages"] = [message_record(session, m) for m in session.path]
        here.terminal.raw(json.dumps(body, ensure_ascii=False, indent=1) + "\n")
    else:
        conversation(here.terminal, session)
    if session.damaged:
        here.terminal.note(
            f"{session.damaged} damaged records were skipped: chatmem sessions check {session.name!r}", "warn"
        )
