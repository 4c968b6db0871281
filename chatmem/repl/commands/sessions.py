"""Sessions and their branches: from one to another without leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatmem import names
from chatmem.errors import NoSuchSession, WrongUse
from chatmem.repl.commands.base import command, number
from chatmem.screen import listing

if TYPE_CHECKING:
    from chatmem.repl.loop import Room


@command("new", "[NAME]")
def new(room: Room, argument: str) -> None:
    """Begin another session."""
    taken = room.chat.store.names()
    if argument and names.key(names.checked(argument)) in map(names.key, taken):
        raise WrongUse(f"There is already a session {argument!r}.", f"/open {argument} goes on with it.")
    room.open(names.checked(argument) if argument else names.fresh(taken))


@command("open", "NAME")
def open(room: Room, argument: str) -> None:
    """Go on with another session."""
    if not argument:
        raise WrongUse("Which session?", "/sessions lists them.")
    try:
        room.open(room.chat.store.find(argument))
    except NoSuchSession as error:
        near = error.hint if error.hint.startswith("Did") else "/sessions lists them, /new NAME begins one."
        raise NoSuchSession(error.message, near) from error


@command("sessions", "[N]")
def sessions(room: Room, argument: str) -> None:
    """List the sessions used last, ten without a number."""
    most = number(argument, "number of sessions", "") if argument else 10
    listing.table(room.terminal, room.chat.store.outlines()[:most])


@command("title", "[TEXT]")
def title(room: Room, argument: str) -> None:
    """Give the session a title; - takes it back."""
    if argument:
        room.chat.set(title=None if argument == "-" else argument)
    room.terminal.note(f"Title: {room.chat.session.title or '(none)'}")


@command("fork", "[NAME]")
def fork(room: Room, argument: str) -> None:
    """Copy this conversation into a session of its own, and go on there."""
    store = room.chat.store
    if not room.chat.session.path:
        raise WrongUse("There is nothing to copy yet.", "/new begins another session.")
    name = names.checked(argument) if argument else names.fresh(store.names(), room.chat.name)
    store.fork(room.chat.name, name)
    room.open(name)


@command("branches", "[N]")
def branches(room: Room, argument: str) -> None:
    """Show the branches of this session, or go on with branch N."""
    session = room.chat.session
    leaves = session.leaves()
    if argument:
        chosen = number(argument, "branch's number", "/branches shows them.")
        if chosen > len(leaves):
            raise WrongUse(f"There are branches 1 to {len(leaves)}." if leaves else "There is no branch yet.")
        room.chat.move(leaves[chosen - 1].id)
        listing.last_turns(room.terminal, room.chat.session)
        return
    for index, leaf in enumerate(leaves, 1):
        here = "●" if leaf.id == session.head else "○"
        first = leaf if leaf.role == "user" else session.messages.get(leaf.parent or "", leaf)
        texts = [
            names.shortened(" ".join(m.content.split()), 40) for m in ((first, leaf) if first is not leaf else (leaf,))
        ]
        model = f" · {leaf.model}" if leaf.model else ""
        room.terminal.note(f"{here} {index} · {listing.ago(leaf.time)}{model} · {' → '.join(texts)}")
    if not leaves:
        room.terminal.note("There is no branch yet.")


@command("stats")
def stats(room: Room, argument: str) -> None:
    """Show what this session holds: turns, tokens, money."""
    listing.statistics(room.terminal, [room.chat.session], room.assembly.config.settings.prices)
