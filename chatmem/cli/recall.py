"""chatmem recall: where something was said, in all sessions."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from chatmem.cli.command import command
from chatmem.cli.options import Json
from chatmem.cli.runner import CommandContext
from chatmem.errors import SessionNotFoundError
from chatmem.recall import recall as find
from chatmem.terminal.conversation_view import print_recalled


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "recall")(recall)


def recall(
    context: CommandContext,
    text: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="A question, such as 'when did I fly?'.", show_default=False)
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many passages.")] = 8,
    json_: Json = False,
) -> None:
    """Find where something was said, in all sessions."""
    question = " ".join(text)
    found = find(context.app.store, question, limit, datetime.datetime.now().astimezone().date())
    if json_:
        context.terminal.json([one.record() for one in found])
    else:
        print_recalled(context.terminal, found, question)
    if not found:
        context.exit_code = SessionNotFoundError.exit_code
        if not json_:
            context.terminal.info("Nothing found.")
