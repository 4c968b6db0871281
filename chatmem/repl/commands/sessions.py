"""Commands for sessions and their branches."""

from __future__ import annotations

from chatmem.errors import SessionNotFoundError, UsageError
from chatmem.history import names
from chatmem.repl.commands.base import command, parse_number
from chatmem.repl.context import ReplContext
from chatmem.terminal.conversation_view import print_last_turn
from chatmem.terminal.stats import Statistics, print_stats
from chatmem.terminal.tables import print_sessions, relative_time
from chatmem.text import truncate

DEFAULT_LIST_LENGTH = 10


@command("new", "[NAME]")
def new(repl: ReplContext, argument: str) -> None:
    """Start a new session."""
    store = repl.chat.store
    if argument and store.lookup(names.validate(argument)):
        raise UsageError(f"There is already a session {argument!r}.", f"/open {argument} continues it.")
    repl.open_session(names.validate(argument) if argument else store.unused_name())


@command("open", "NAME")
def open(repl: ReplContext, argument: str) -> None:
    """Continue another session."""
    if not argument:
        raise UsageError("Missing session name.", "/sessions lists them.")
    try:
        repl.open_session(repl.chat.store.find(argument))
    except SessionNotFoundError as error:
        hint = error.hint or "/sessions lists them, /new NAME starts one."
        raise SessionNotFoundError(error.message, hint) from error


@command("sessions", "[N]")
def sessions(repl: ReplContext, argument: str) -> None:
    """List the N most recent sessions, by default ten."""
    count = parse_number(argument, "number of sessions", "") if argument else DEFAULT_LIST_LENGTH
    print_sessions(repl.terminal, repl.chat.store.recent_sessions(count))


@command("title", "[TEXT]")
def title(repl: ReplContext, argument: str) -> None:
    """Show or set the title of the session; - resets it."""
    if argument:
        repl.chat.update_settings(title=None if argument == "-" else argument)
    repl.terminal.info(f"Title: {repl.chat.session.title or '(none)'}")


@command("fork", "[NAME]")
def fork(repl: ReplContext, argument: str) -> None:
    """Copy this conversation to a new session, and continue there."""
    store = repl.chat.store
    if not repl.chat.session.path:
        raise UsageError("There is nothing to copy yet.", "/new starts another session.")
    name = names.validate(argument) if argument else store.unused_name(repl.chat.name)
    store.fork(repl.chat.name, name)
    repl.open_session(name)


@command("branches", "[N]")
def branches(repl: ReplContext, argument: str) -> None:
    """List the branches of this session, or continue with branch N."""
    session = repl.chat.session
    leaves = session.leaves()
    if argument:
        number = parse_number(argument, "branch number", "/branches lists them.")
        if number > len(leaves):
            raise UsageError(f"Branch {number} does not exist.")
        repl.chat.checkout(leaves[number - 1].id)
        print_last_turn(repl.terminal, repl.chat.session)
        return
    for number, leaf in enumerate(leaves, 1):
        mark = "●" if leaf.id == session.head else "○"
        question = leaf if leaf.role == "user" else session.messages.get(leaf.parent or "", leaf)
        messages = (question, leaf) if question is not leaf else (leaf,)
        texts = [truncate(" ".join(message.content.split()), 40) for message in messages]
        model = f" · {leaf.model}" if leaf.model else ""
        repl.terminal.info(f"{mark} {number} · {relative_time(leaf.time)}{model} · {' → '.join(texts)}")
    if not leaves:
        repl.terminal.info("This session has no branches.")


@command("stats")
def stats(repl: ReplContext, argument: str) -> None:
    """Show turns, tokens and cost of this session."""
    print_stats(repl.terminal, Statistics.collect([repl.chat.session], repl.app.config.settings.prices))
