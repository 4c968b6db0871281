"""Commands for sessions and their branches."""

from __future__ import annotations

import datetime
import itertools

from chatmem.chat.usage import Statistics
from chatmem.errors import Action, SessionNotFoundError, UsageError
from chatmem.history import names
from chatmem.recall import recall as find_passages
from chatmem.repl.commands.base import command, parse_number
from chatmem.repl.context import ReplContext
from chatmem.repl.picker import pick_session
from chatmem.stores.search import Query
from chatmem.terminal.conversation_view import print_hits, print_last_turn, print_recalled, print_turn
from chatmem.terminal.pager import paged
from chatmem.terminal.stats import print_stats, print_usage
from chatmem.terminal.tables import print_sessions, relative_time
from chatmem.text import truncate

DEFAULT_LIST_LENGTH = 10
MAX_HITS = 50
MAX_RECALLED = 8


@command("new", "[NAME]", "/new trip")
def new(repl: ReplContext, argument: str) -> None:
    """Start a new session."""
    store = repl.chat.store
    if argument and store.lookup(names.validate(argument)):
        raise UsageError(f"There is already a session {argument!r}.", f"/open {argument} continues it.")
    repl.open_session(names.validate(argument) if argument else store.unused_name())


@command("open", "[NAME]", "/open work")
def open(repl: ReplContext, argument: str) -> None:
    """Continue another session; without a name, choose one from all."""
    store = repl.chat.store
    if not argument:
        picked = pick_session(store, repl.terminal, repl.prompt.ask, repl.chat.name if repl.chat.exists else "")
        if picked:
            repl.open_session(picked.name or store.unused_name(), picked.head)
            if picked.question:
                repl.ask(picked.question)
        return
    try:
        repl.open_session(store.find(argument))
    except SessionNotFoundError as error:
        hint = error.hint or "/open chooses from all, /new NAME starts one."
        raise SessionNotFoundError(error.message, hint) from error


@command("sessions", "[N]", "/sessions 20")
def sessions(repl: ReplContext, argument: str) -> None:
    """List the N most recent sessions, by default ten."""
    count = parse_number(argument, "number of sessions", "") if argument else DEFAULT_LIST_LENGTH
    print_sessions(repl.terminal, repl.chat.store.recent_sessions(count))


@command("search", "TEXT", '/search visa, /search "boarding pass"')
def search(repl: ReplContext, argument: str) -> None:
    """Search all sessions for words, or for a "whole phrase"."""
    if not argument:
        raise UsageError("Missing words to search for.", "/search visa finds them in all sessions.")
    query = Query.parse(argument)
    hits = itertools.islice(repl.chat.store.search(query), MAX_HITS)
    with paged(repl.terminal):
        found = print_hits(repl.terminal, hits, query)
    if not found:
        repl.terminal.info("Nothing found.")
    elif found == MAX_HITS:
        repl.terminal.info(f"These are the {MAX_HITS} newest. chatmem sessions search -n N shows more.")


@command("recall", "QUESTION", "/recall When did I plan the trip?")
def recall(repl: ReplContext, argument: str) -> None:
    """Find where something was said in all sessions; open it there, or quote it in the next question."""
    if not argument:
        raise UsageError("Missing question.", "/recall When did I plan the trip?")
    found = find_passages(repl.chat.store, argument, MAX_RECALLED, datetime.datetime.now().astimezone().date())
    if not found:
        repl.terminal.info("Nothing found.")
        return
    print_recalled(repl.terminal, found, argument, numbered=True)
    answer = repl.prompt.ask("N opens the session there, qN quotes it in your next question, Enter leaves: ").strip()
    if not answer:
        return
    number = parse_number(answer.lower().removeprefix("q"), "passage number", "")
    if number > len(found):
        raise UsageError(f"Passage {number} does not exist.")
    passage = found[number - 1]
    if answer.lower().startswith("q"):
        repl.prompt.prefill(f"[{passage.source}, {passage.role}:] “{' '.join(passage.text.split())}”\n")
        return
    repl.open_session(passage.session)
    if passage.turn:
        repl.terminal.info(f"Turn {passage.turn}:")
        print_turn(repl.terminal, repl.chat.turn(passage.turn), passage.text)


@command("rename", "NAME", "/rename lisbon")
def rename(repl: ReplContext, argument: str) -> None:
    """Rename this session. Its title stays."""
    if not argument:
        raise UsageError("Missing new name.", "/title TEXT changes the title instead.")
    name = names.validate(argument)
    is_new = not repl.chat.exists
    repl.chat.rename(name)
    if is_new:  # otherwise the store has said it
        repl.terminal.info(f"This session is now {name!r}.")


@command("delete", "[NAME]", "/delete old-trip")
def delete(repl: ReplContext, argument: str) -> None:
    """Delete this session, or another one, and start a new one."""
    store = repl.chat.store
    name = store.find(argument) if argument else repl.chat.name
    if not argument and not repl.chat.exists:
        raise UsageError("This session has no messages yet.", "/delete NAME deletes another one.")
    if not repl.prompt.confirm(f"Delete {name!r}?"):
        repl.terminal.info("Nothing was changed.")
        return
    is_open = names.canonical_key(name) == names.canonical_key(repl.chat.name)
    if is_open:
        repl.chat.close()
    store.delete(name)
    repl.terminal.notify(f"{name!r} is {store.deleted_note}.", Action("restore", name) if store.has_trash else None)
    if is_open:
        repl.open_session(store.unused_name())


@command("title", "[TEXT]", "/title Trip to Lisbon")
def title(repl: ReplContext, argument: str) -> None:
    """Show or set the title of the session; - resets it."""
    if argument:
        repl.chat.update_settings(title=None if argument == "-" else argument)
    repl.terminal.info(f"Title: {repl.chat.session.title or '(none)'}")


@command("fork", "[NAME]", "/fork plan-b")
def fork(repl: ReplContext, argument: str) -> None:
    """Copy this conversation to a new session, and continue there."""
    store = repl.chat.store
    if not repl.chat.session.path:
        raise UsageError("There is nothing to copy yet.", "/new starts another session.")
    name = names.validate(argument) if argument else store.unused_name(repl.chat.name)
    store.fork(repl.chat.name, name)
    repl.open_session(name)


@command("branches", "[N]", "/branches 2")
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
    width = max(20, (repl.terminal.width - 40) // 2)
    for number, leaf in enumerate(leaves, 1):
        mark = "●" if leaf.id == session.head else "○"
        question = leaf if leaf.role == "user" else session.messages.get(leaf.parent or "", leaf)
        messages = (question, leaf) if question is not leaf else (leaf,)
        texts = [truncate(" ".join(message.content.split()), width) for message in messages]
        model = f" · {leaf.model}" if leaf.model else ""
        repl.terminal.info(f"{mark} {number} · {relative_time(leaf.time)}{model} · {' → '.join(texts)}")
    if not leaves:
        repl.terminal.info("This session has no branches.")


@command("stats")
def stats(repl: ReplContext, argument: str) -> None:
    """Show turns, tokens and cost of this session."""
    print_stats(repl.terminal, Statistics.collect([repl.chat.session], repl.app.config.settings.prices))


@command("usage")
def usage(repl: ReplContext, argument: str) -> None:
    """Show what the last reply and this session took, and what that cost."""
    settings = repl.app.config.settings
    print_usage(repl.terminal, repl.chat.session, settings.prices)
    today, limit = repl.app.spending.today(), settings.limits.per_day
    if today or limit is not None:
        of_limit = f" of ${limit:.2f}" if limit is not None else ""
        repl.terminal.info(f"Today, all sessions: ${today:.4f}{of_limit}")
