"""chatmem chat: the interactive chat; with piped input, one line is one turn."""

from __future__ import annotations

from typing import Annotated

import typer

from chatmem.cli.command import command
from chatmem.cli.options import Continue, Memory, Model, NoFacts, Parameter, Session, System, Template
from chatmem.cli.runner import CommandContext
from chatmem.cli.start_chat import start_chat


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "chat")(chat)


def chat(
    context: CommandContext,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="A first question, asked at once.", show_default=False)
    ] = None,
    session: Session = None,
    continue_: Continue = False,
    model: Model = None,
    memory: Memory = None,
    system: System = None,
    no_facts: NoFacts = False,
    template: Template = None,
    param: Parameter = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Do not save this chat.", show_default=False)] = False,
) -> None:
    """Chat with a model in the terminal. With piped input, one line is one turn.

    The session stores the model, memory, system prompt and profile that are given here.
    """
    start_chat(context, text, session, continue_, model, memory, system, no_facts, template, param, ephemeral)
