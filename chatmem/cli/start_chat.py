"""Starting a chat: on a terminal the REPL; with piped input, one line is one turn."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from typing import IO

from chatmem.chat.chat import Chat
from chatmem.chat.fact_book import FactBook
from chatmem.cli.runner import CommandContext
from chatmem.errors import ChatmemError, StorageError
from chatmem.history.names import validate
from chatmem.process import pause_gc
from chatmem.stores.memory import MemoryStore
from chatmem.terminal import keyboard
from chatmem.terminal.reply import print_reply
from chatmem.terminal.terminal import is_tty


def start_chat(
    context: CommandContext,
    text: str | None = None,
    session: str | None = None,
    continue_: bool = False,
    model: str | None = None,
    memory: str | None = None,
    system: str | None = None,
    no_facts: bool = False,
    template: str | None = None,
    param: list[str] | None = None,
    ephemeral: bool = False,
) -> None:
    """Chat until the user leaves, or until the piped input ends. The parameters are those of `chatmem chat`."""
    is_terminal = is_tty(sys.stdin) and is_tty(sys.stdout)
    filled = context.fill_template(template, param, text or "", _ask if is_terminal else None)
    question = filled.question if filled else text
    settings = context.apply_flags(no_facts, filled, model=model, memory=memory, system=system)
    if "profile" in context.flags:
        settings["profile"] = context.flags["profile"]
    context.app.offline = True
    store = MemoryStore(context.terminal.notify) if ephemeral else context.app.store
    if session is not None:
        name = session
    elif continue_ and not ephemeral:
        name = context.latest()
    else:
        name = context.unused_name(store)
    name = validate(name)
    if store.persistent and context.settings.sessions.expire:
        from chatmem.cli.sessions import expire_sessions

        expire_sessions(context, except_for=name)
    conversation = context.app.chat(name, settings, store, facts=FactBook(None) if ephemeral else None)
    for stored in settings:  # from now on they are settings of the session, which can be changed there
        context.flags.pop(stored, None)
    if is_terminal:
        run_repl(context, conversation, question)
    else:
        run_piped(context, conversation, question)


def _ask(question: str) -> str:
    """A line that the user types before the chat begins. Empty for Ctrl-D."""
    with keyboard.released(), contextlib.suppress(EOFError):
        return input(question)
    return ""


def run_repl(context: CommandContext, conversation: Chat, text: str | None = None) -> None:
    """Chat on a terminal, after a first question if there is one."""
    with pause_gc():
        from chatmem.repl.repl import Repl  # imported lazily: slow
    context.exit_code = Repl(conversation, context.app, context.terminal).run(text)


def pick_chat(context: CommandContext) -> None:
    """Let the user choose the session to continue. Without any session, a new one starts."""
    store = context.app.store
    if store.is_empty():
        start_chat(context)
        return
    from chatmem.repl.picker import pick_session  # imported lazily: slow

    picked = pick_session(store, context.terminal, _ask)
    if picked and not picked.name:
        start_chat(context, picked.question)
    elif picked:
        context.app.offline = True
        conversation = context.app.chat(picked.name)
        if picked.head and picked.head != conversation.session.head:
            conversation.checkout(picked.head)
        run_repl(context, conversation)


def run_piped(context: CommandContext, conversation: Chat, text: str | None = None) -> None:
    """Send `text`, then each line of stdin, as a turn. A failed line does not end the run.

    The exit code is 7 if something is not saved in the end, otherwise that of the first failure.
    """
    context.flags["titles"] = "off"  # the program ends before one is made
    failures: list[int] = []
    try:
        for line in filter(str.strip, itertools.chain([text or ""], _lines(sys.stdin.buffer))):
            try:
                with contextlib.closing(conversation.send(line)) as chunks:
                    print_reply(context.terminal, chunks)
            except ChatmemError as error:
                context.terminal.error(error)
                failures.append(error.exit_code)
            if conversation.last_reply and conversation.last_reply.status != "complete":
                failures.append(6)
        conversation.wait_for_summary(context.settings.summaries.wait)
    finally:
        conversation.close()
    if conversation.save_error or StorageError.exit_code in failures:
        context.exit_code = StorageError.exit_code
    else:
        context.exit_code = failures[0] if failures else 0


def _lines(stream: IO[bytes]) -> Iterator[str]:
    return (data.decode("utf-8", "replace").rstrip("\r\n") for data in stream)
