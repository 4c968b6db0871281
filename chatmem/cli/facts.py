"""chatmem facts: short facts about the user, which the model is told in every session."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from chatmem.cli.command import command
from chatmem.cli.fast_params import FastParamsGroup
from chatmem.cli.options import Json
from chatmem.cli.runner import CommandContext
from chatmem.terminal.tables import print_facts

app = typer.Typer(
    cls=FastParamsGroup,
    help="Keep facts about you that every session is told.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Number = Annotated[int, typer.Argument(metavar="N", min=1, help="Its number in the list.", show_default=False)]


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="facts")


@command(app, "list")
def list_(context: CommandContext, json_: Json = False) -> None:
    """List the facts, with the session and turn that each comes from."""
    facts = context.app.facts.facts()
    if json_:
        context.terminal.json([fact.record() for fact in facts])
    elif facts:
        print_facts(context.terminal, facts)
    else:
        context.terminal.info("There are no facts yet. chatmem facts add 'I am vegetarian.' adds one.")


@command(app, "add")
def add(
    context: CommandContext,
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help="The fact, in a few words.", show_default=False)],
) -> None:
    """Add a fact. Sessions are told it from their next turn on."""
    fact = context.app.facts.add(" ".join(text))
    context.terminal.info(f"Remembered: {fact.text}")


@command(app, "edit")
def edit(
    context: CommandContext,
    number: Number,
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help="The new text.", show_default=False)],
) -> None:
    """Replace a fact."""
    fact = context.app.facts.replace(number, " ".join(text))
    context.terminal.info(f"Remembered: {fact.text}")


@command(app, "rm")
def remove(context: CommandContext, number: Number) -> None:
    """Remove a fact. Its record stays in the store."""
    fact = context.app.facts.remove(number)
    context.terminal.info(f"No longer remembered: {fact.text}")


@command(app, "export")
def export(
    context: CommandContext,
    format_: Annotated[
        Literal["text", "json"], typer.Option("--format", "-f", metavar="FORMAT", help="text or json.")
    ] = "text",
) -> None:
    """Print the facts as text, one per line, or as JSON."""
    facts = context.app.facts.facts()
    if format_ == "json":
        context.terminal.json([fact.record() for fact in facts])
    else:
        for fact in facts:
            context.terminal.write(fact.text)
