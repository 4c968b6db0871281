"""chatmem ask: one question, one answer, for people and for scripts."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from chatmem import names
from chatmem.cli.door import Here, command
from chatmem.cli.options import Continue, Json, Memory, Model, Session, System
from chatmem.errors import ReplyIncomplete, WrongUse
from chatmem.screen.reply import print_reply
from chatmem.screen.terminal import Terminal, is_tty
from chatmem.stores.memory import MemoryStore

LARGEST = 64 << 20
"""The most bytes taken from stdin."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "ask")(ask)


def ask(
    here: Here,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The question; what is piped in is appended.", show_default=False),
    ] = None,
    session: Session = None,
    continue_: Continue = False,
    model: Model = None,
    memory: Memory = None,
    system: System = None,
    json_: Json = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Print the reply as it comes, also on a terminal.", show_default=False),
    ] = False,
) -> None:
    """Ask one question. Without -s or -c nothing is kept."""
    question = _question(text)
    given = here.with_flags(model=model, memory=memory, system=system)
    name = session if session is not None else here.latest() if continue_ else None
    store = here.assembly.store if name is not None else MemoryStore(here.terminal.note)
    creates = name is None or names.key(name) not in {names.key(n) for n in here.taken(store)}
    one = here.assembly.chat(names.checked("ask" if name is None else name), given if creates else {}, store)
    pieces = one.say(question)
    try:
        if json_:
            for piece in pieces:
                if piece.notice:
                    here.terminal.note(piece.notice)
        else:
            print_reply(_Raw(here.terminal.out, here.terminal.err) if raw else here.terminal, pieces)
    except ReplyIncomplete as error:
        here.terminal.error(error)
        here.exit_code = error.exit_code
    finally:
        pieces.close()
    reply = one.reply
    if json_ and reply:
        answer: dict[str, Any] = {"session": one.name if name else None, "model": reply.model, "content": reply.content}
        answer |= {"status": reply.status, "usage": reply.usage.record() if reply.usage else None}
        here.terminal.raw(json.dumps(answer, ensure_ascii=False) + "\n")
    if one.not_saved and name:
        here.exit_code = 7
    elif reply and reply.status != "complete":
        here.exit_code = 6
    if name and here.exit_code == 0:
        one.finish_fold(here.settings.fold.wait)
    one.close()


class _Raw(Terminal):
    """A terminal that shows the reply's bytes as they are."""

    @property
    def interactive(self) -> bool:
        return False

    def answer(self, text: str, end: str = "\n") -> None:
        self.raw(text + end)


def _question(text: str | None) -> str:
    """The question: the argument, what is piped in, or the one above the other."""
    piped = ""
    if not is_tty(sys.stdin):
        data = sys.stdin.buffer.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise WrongUse(f"Over {LARGEST >> 20} MB came in.", "That fits no model.")
        piped = data.decode("utf-8", "replace").replace("\r\n", "\n")
        piped = piped[:-1] if piped.endswith("\n") else piped
    if text and text != "-" and piped.strip():
        return f"{text}\n\n{piped}"
    question = piped if piped.strip() else text or ""
    if not question.strip() or question == "-":
        raise WrongUse("There is no question.", "chatmem ask 'TEXT', or pipe it in.")
    return question
