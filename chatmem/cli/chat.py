"""chatmem chat: sit down and talk; or, with something piped in, one line one turn."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Annotated

import typer

from chatmem import names
from chatmem.chat import Chat
from chatmem.cli.door import Here, command
from chatmem.cli.options import Continue, Memory, Model, Session, System
from chatmem.errors import ChatmemError
from chatmem.screen.reply import print_reply
from chatmem.screen.terminal import is_tty
from chatmem.stores.memory import MemoryStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "chat")(chat)


def chat(
    here: Here,
    session: Session = None,
    continue_: Continue = False,
    model: Model = None,
    memory: Memory = None,
    system: System = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing.", show_default=False)] = False,
) -> None:
    """Chat with a model in the terminal; piped in, one line is one turn.

    A session remembers the model, memory, system prompt and profile it was given here.
    """
    wanted = here.with_flags(model=model, memory=memory, system=system)
    if "profile" in here.flags:
        wanted["profile"] = here.flags["profile"]
    here.assembly.offline = True
    store = MemoryStore(here.terminal.note) if ephemeral else here.assembly.store
    if session is not None:
        name = session
    else:
        name = here.latest() if continue_ and not ephemeral else names.fresh(here.taken(store))
    name = names.checked(name)
    if store.kept and here.settings.sessions.expire:
        from chatmem.cli.sessions import expire

        expire(here, but=name)
    one = here.assembly.chat(name, wanted, store)
    for stored in wanted:  # from here on they are the session's own, and may be changed in it
        del here.flags[stored]
    if is_tty(sys.stdin) and is_tty(sys.stdout):
        gc.disable()
        from chatmem.repl.loop import Room  # only who sits down needs the prompt

        gc.enable()
        here.exit_code = Room(one, here.assembly, here.terminal).run()
    else:
        piped(here, one)


def piped(here: Here, one: Chat) -> None:
    """One line of the input is one turn, its reply plain text. A failed line does not end it; the first code stays."""
    failures: list[int] = []
    try:
        for raw in sys.stdin.buffer:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line.strip():
                continue
            try:
                with contextlib.closing(one.say(line)) as pieces:
                    print_reply(here.terminal, pieces)
            except ChatmemError as error:
                here.terminal.error(error)
                failures.append(error.exit_code)
            if one.not_saved:
                failures.insert(0, 7) if 7 not in failures else None
            elif one.reply and one.reply.status != "complete":
                failures.append(6)
        one.finish_fold(here.settings.fold.wait)
    finally:
        one.close()
    here.exit_code = failures[0] if failures else 0
