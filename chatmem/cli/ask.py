"""chatmem ask: one question, one answer, for people and scripts."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from chatmem.cli.command import command
from chatmem.cli.options import Continue, Json, Memory, Model, NoFacts, Parameter, Session, System, Template
from chatmem.cli.runner import CommandContext
from chatmem.errors import IncompleteReplyError, UsageError
from chatmem.history.names import validate
from chatmem.input_files import read_stream
from chatmem.stores.memory import MemoryStore
from chatmem.terminal.reply import print_reply
from chatmem.terminal.terminal import Terminal, is_tty

MAX_INPUT_BYTES = 64 << 20
"""The most bytes that are read from stdin."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "ask")(ask)


def ask(
    context: CommandContext,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The question. Piped input is appended.", show_default=False),
    ] = None,
    session: Session = None,
    continue_: Continue = False,
    model: Model = None,
    memory: Memory = None,
    system: System = None,
    no_facts: NoFacts = False,
    template: Template = None,
    param: Parameter = None,
    json_: Json = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Print the reply unformatted, even on a terminal.", show_default=False),
    ] = False,
) -> None:
    """Ask one question. Nothing is saved without -s or -c."""
    context.errors_as_json = json_
    question = _read_question(text)
    filled = context.fill_template(template, param, question)
    question = filled.question if filled else question
    if not question.strip():
        raise UsageError("Missing question.", "Run chatmem ask 'TEXT', or pipe it in.")
    given = context.apply_flags(no_facts, filled, model=model, memory=memory, system=system)
    context.flags["titles"] = "off"  # the program ends before one is made
    terminal = context.terminal
    name = session if session is not None else context.latest() if continue_ else None
    store = context.app.store if name is not None else MemoryStore(terminal.notify)
    is_new = name is None or not context.exists(store, name)
    chat = context.app.chat(validate("ask" if name is None else name), given if is_new else {}, store)
    chunks = chat.send(question)
    try:
        if json_:
            for chunk in chunks:
                if chunk.notice:
                    terminal.notice(chunk.notice)
        else:
            print_reply(_RawTerminal.like(terminal) if raw else terminal, chunks)
    except IncompleteReplyError as error:
        if chat.last_reply:
            terminal.error(error)
        else:
            context.print_error(error)
        context.exit_code = error.exit_code
    finally:
        chunks.close()
    reply = chat.last_reply
    if json_ and reply:
        answer: dict[str, Any] = {"session": chat.name if name else None, "model": reply.model}
        answer |= {"content": reply.content, "status": reply.status}
        answer |= {"usage": reply.usage.record() if reply.usage else None}
        terminal.json(answer, indent=None)
    if reply and reply.status != "complete":
        context.exit_code = 6
    if name and context.exit_code == 0 and not chat.save_error:
        chat.wait_for_summary(context.settings.summaries.wait)
    chat.close()
    if chat.save_error and name:
        context.exit_code = 7


class _RawTerminal(Terminal):
    """A terminal that prints replies unformatted and unsanitized."""

    @classmethod
    def like(cls, terminal: Terminal) -> _RawTerminal:
        return cls(terminal.out, terminal.err, describe_action=terminal.describe_action)

    @property
    def interactive(self) -> bool:
        return False

    def write(self, text: str, end: str = "\n") -> None:
        self.raw(text + end)


def _read_question(text: str | None) -> str:
    """The question: the argument, the piped input, or both separated by a blank line. Empty if there is neither."""
    piped = ""
    if not is_tty(sys.stdin):
        piped = read_stream(sys.stdin.buffer, MAX_INPUT_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
        piped = piped[:-1] if piped.endswith("\n") else piped
    if text and text != "-" and piped.strip():
        return f"{text}\n\n{piped}"
    question = piped if piped.strip() else text or ""
    return "" if question == "-" else question
