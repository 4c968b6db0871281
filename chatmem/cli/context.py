"""chatmem context and compare: what would be sent next, and why; the strategies side by side."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from chatmem.chat import Chat
from chatmem.cli.door import Here, command
from chatmem.cli.options import Json, MaybeName, Memory, Model, System
from chatmem.memory import spec_of
from chatmem.screen import panel

Ask = Annotated[
    str | None, typer.Option("--ask", metavar="TEXT", help="The question that would be asked.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "context")(context)
    command(app, "compare")(compare)


def context(
    here: Here,
    name: MaybeName = None,
    ask: Ask = None,
    memory: Memory = None,
    model: Model = None,
    system: System = None,
    json_: Json = False,
) -> None:
    """Show what would be sent next, byte for byte, and the reason for every message kept or left out."""
    one = _look(here, name, memory, model, system)
    view = one.plan(ask)
    if not json_:
        panel.context(here.terminal, view, one.session)
        return
    body: dict[str, Any] = {"session": one.name, "strategy": spec_of(view.strategy), "budget": view.budget}
    body |= {"tokens": view.tokens, "counting": view.counter.how, "messages": list(view.messages)}
    body |= {"notices": list(view.notices), "decisions": [d._asdict() for d in view.decisions()]}
    here.terminal.raw(json.dumps(body, ensure_ascii=False, indent=1) + "\n")


def compare(
    here: Here,
    name: MaybeName = None,
    ask: Ask = None,
    model: Model = None,
    system: System = None,
    json_: Json = False,
) -> None:
    """Compare the strategies on a session: what each sends, reuses of the prompt cache, and keeps of the facts."""
    one = _look(here, name, None, model, system)
    settings = here.assembly.configured(one.session.settings).settings
    chosen = settings.strategy
    rows = one.compare(ask, [chosen, *(s for s in settings.strategies if s.name != chosen.name)])
    if not rows:
        one.plan(ask)  # says what does not fit
    if json_:
        here.terminal.raw(json.dumps([row.record() for row in rows], ensure_ascii=False, indent=1) + "\n")
    else:
        panel.comparison(here.terminal, rows)


def _look(here: Here, name: str | None, memory: str | None, model: str | None, system: str | None) -> Chat:
    """The chat on a session that is only looked at: nothing is stored."""
    here.with_flags(memory=memory, model=model, system=system)
    here.assembly.offline = True
    here.assembly.say = lambda line: None
    store = here.assembly.store
    return here.assembly.chat(store.find(name) if name else here.latest(), look=True)
