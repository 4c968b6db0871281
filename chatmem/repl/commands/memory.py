"""What the model is shown: seen, steered and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatmem.errors import WrongUse
from chatmem.memory import spec_of, table_of
from chatmem.repl.commands.base import command, number
from chatmem.screen import panel

if TYPE_CHECKING:
    from chatmem.repl.loop import Room


@command("context", "[QUESTION]")
def context(room: Room, argument: str) -> None:
    """Show what would be sent next, and why each turn is where it is."""
    room.chat.refresh()
    panel.context(room.terminal, room.chat.plan(argument or None), room.chat.session)


@command("compare", "[QUESTION]")
def compare(room: Room, argument: str) -> None:
    """Compare the memory strategies on this session."""
    room.chat.refresh()
    chosen, settings = room.chat.choice.strategy, room.assembly.configured(room.chat.session.settings).settings
    others = [s for s in settings.strategies if s.name != chosen.name]
    panel.comparison(room.terminal, room.chat.compare(argument or None, [chosen, *others]))


@command("memory", "[SPEC]")
def memory(room: Room, argument: str) -> None:
    """Show the memory strategy, or change it: buffer, window:6, token-trim:4000, summary:4000."""
    if argument:
        room.chat.set(memory=table_of(argument))
    strategy = room.chat.choice.strategy
    room.terminal.note(f"Memory: {spec_of(strategy)}. {(type(strategy).__doc__ or '').splitlines()[0]}")


@command("why", "[N]")
def why(room: Room, argument: str) -> None:
    """Explain what the model saw when it gave reply N, the last one without a number."""
    room.chat.refresh()
    panel.why(room.terminal, room.chat.session, room.chat.turn(number(argument) if argument else None).number)


@command("pin", "N")
def pin(room: Room, argument: str) -> None:
    """Always send turn N, word for word."""
    turn = room.chat.mark(number(argument), pinned=True)
    room.terminal.note(f"Turn {turn.number} is pinned: it is always sent. /unpin {turn.number} takes it back.")


@command("unpin", "N")
def unpin(room: Room, argument: str) -> None:
    """Treat turn N like any other again."""
    turn = room.chat.mark(number(argument), pinned=False)
    room.terminal.note(f"Turn {turn.number} is no longer pinned.")


@command("exclude", "N")
def exclude(room: Room, argument: str) -> None:
    """Never send turn N, but keep it."""
    turn = room.chat.mark(number(argument), excluded=True)
    room.terminal.note(f"Turn {turn.number} is kept, but never sent. /include {turn.number} takes it back.")


@command("include", "N")
def include(room: Room, argument: str) -> None:
    """Send turn N again like any other."""
    turn = room.chat.mark(number(argument), excluded=False)
    room.terminal.note(f"Turn {turn.number} may be sent again.")


@command("summary", "[edit|redo]")
def summary(room: Room, argument: str) -> None:
    """Show the notes on what is no longer sent; edit opens them, redo has them made anew."""
    room.chat.refresh()
    parts = room.chat.notes()
    places = room.chat.session.places
    if argument not in ("", "edit", "redo"):
        raise WrongUse(f"/summary knows edit and redo, not {argument!r}.")
    if not parts:
        room.terminal.note("There are no notes yet: they are made when turns fall out of the context (memory summary).")
    elif argument == "redo":
        room.chat.redo_notes()
        room.terminal.note("The notes are taken back; they are made anew when the next reply is there.")
    elif argument == "edit":
        for part in parts:
            room.terminal.note(f"The notes on turns {places[part.start] + 1} to {places[part.end] + 1}:")
            text = room.prompt.edited(part.text)
            if text.strip() != part.text.strip():
                room.chat.edit_notes(part, text.strip())
                room.terminal.note("Changed." if text.strip() else "Taken back: it is made anew.")
    else:
        for part in parts:
            span = f"turns {places[part.start] + 1} to {places[part.end] + 1}"
            room.terminal.note(f"◐ {span} · level {part.level}{' · edited' if part.edited else ''} · by {part.model}")
            room.terminal.answer(part.text)
