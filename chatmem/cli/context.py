"""chatmem context and compare: what would be sent next and why, and the strategies side by side."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from chatmem.chat.chat import Chat
from chatmem.cli.command import command
from chatmem.cli.options import Json, MaybeName, Memory, Model, NoFacts, System
from chatmem.cli.runner import CommandContext
from chatmem.errors import UsageError, ignore_notices
from chatmem.memory.strategies import format_spec
from chatmem.terminal.context_view import print_comparison, print_context
from chatmem.terminal.pager import paged
from chatmem.terminal.terminal import is_tty

Ask = Annotated[
    str | None, typer.Option("--ask", metavar="TEXT", help="The question that would be asked.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "context")(show_context)
    command(app, "compare")(compare)


def show_context(
    context: CommandContext,
    name: MaybeName = None,
    ask: Ask = None,
    memory: Memory = None,
    model: Model = None,
    system: System = None,
    no_facts: NoFacts = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Show every turn on a line of its own.", show_default=False)
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="A screen with keys to pin and exclude.", show_default=False),
    ] = False,
    json_: Json = False,
) -> None:
    """Show what would be sent next, and why. --json prints the exact messages."""
    if interactive:
        _show_screen(context, name, ask, {"memory": memory, "model": model, "system": system, "no_facts": no_facts})
        return
    chat = _open_read_only(context, name, no_facts, memory=memory, model=model, system=system)
    plan = chat.plan(ask)
    if not json_:
        with paged(context.terminal):
            print_context(context.terminal, plan, chat.session, every_turn=all_)
        return
    body: dict[str, Any] = {"session": chat.name, "strategy": format_spec(plan.strategy), "budget": plan.budget}
    body |= {"tokens": plan.tokens, "counting": plan.counter.method, "messages": list(plan.messages)}
    body |= {"notices": [notice.text for notice in plan.notices]}
    body |= {"decisions": [decision._asdict() for decision in plan.decisions()]}
    context.terminal.json(body)


def _show_screen(context: CommandContext, name: str | None, ask: str | None, flags: dict[str, Any]) -> None:
    terminal = context.terminal
    if not (is_tty(sys.stdin) and terminal.interactive) or terminal.plain:
        raise UsageError("--interactive needs a terminal with cursor movement.", "Leave it out to print the context.")
    from chatmem.repl.context_screen import show_context_screen  # imported lazily: slow
    from chatmem.repl.editor import edit_text

    context.apply_flags(**flags)
    context.app.offline = True
    store = context.app.store
    chat = context.app.chat(store.find(name) if name else context.latest())
    try:
        show_context_screen(chat, terminal, edit_text, ask or "")
    finally:
        chat.close()


def compare(
    context: CommandContext,
    name: MaybeName = None,
    ask: Ask = None,
    model: Model = None,
    system: System = None,
    no_facts: NoFacts = False,
    json_: Json = False,
) -> None:
    """Compare the strategies on a session: what each sends, how well prompts are cached, which facts are kept."""
    chat = _open_read_only(context, name, no_facts, model=model, system=system)
    settings = context.app.settings_for(chat.session.settings).settings
    current = settings.strategy
    rows = chat.compare(ask, [current, *(s for s in settings.strategies if s.name != current.name)])
    if not rows:
        chat.plan(ask)  # raises the error that says what does not fit
    if json_:
        context.terminal.json([row.record() for row in rows])
    else:
        print_comparison(context.terminal, rows)


def _open_read_only(context: CommandContext, name: str | None, no_facts: bool, **flags: str | None) -> Chat:
    """The chat on a session, without storing anything in it."""
    context.apply_flags(no_facts, None, **flags)
    context.app.offline = True
    context.app.notify = ignore_notices
    store = context.app.store
    return context.app.chat(store.find(name) if name else context.latest(), read_only=True)
