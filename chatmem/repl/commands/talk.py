"""The conversation itself: again, in other words, taken back, carried elsewhere."""

from __future__ import annotations

import contextlib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from chatmem.errors import NotSaved, WrongUse
from chatmem.names import counted
from chatmem.paths import write_new
from chatmem.repl.commands.base import TABLE, command, number
from chatmem.repl.commands.settings import warn_of_model
from chatmem.screen.terminal import at_words

if TYPE_CHECKING:
    from chatmem.repl.loop import Room


@command("help", "[COMMAND]")
def help(room: Room, argument: str) -> None:
    """Show the commands, or one of them."""
    wanted = argument.lstrip("/").lower()
    chosen = [c for c in TABLE.values() if not wanted or c.name == wanted]
    if not chosen:
        near = get_close_matches(wanted, TABLE, 1, 0.5)
        raise WrongUse(
            f"There is no command {argument!r}.", f"Did you mean /{near[0]}?" if near else "/help shows them."
        )
    width = max(len(f"/{c.name} {c.usage}") for c in chosen)
    for one in sorted(chosen, key=lambda c: c.name):
        help = at_words(one.help, max(20, room.terminal.width - width - 2)).split("\n")
        for index, line in enumerate(help):
            head = f"/{one.name} {one.usage}" if index == 0 else ""
            room.terminal.aside(f"{head.ljust(width)}  {line}")
    if not argument:
        room.terminal.note("Ctrl-R searches what you typed before, Ctrl-X Ctrl-E opens your editor, Ctrl-D leaves.")
        room.terminal.note("@path attaches a text file; //text sends a message that begins with a slash.")


@command("exit")
def exit(room: Room, argument: str) -> None:
    """Leave, as Ctrl-D does."""
    room.over = room.may_leave()


@command("retry", "[MODEL]")
def retry(room: Room, argument: str) -> None:
    """Ask the last question again, of another model if you name one; the old reply stays on its branch."""
    with room.chat.using(model=argument) if argument else contextlib.nullcontext():
        if argument:
            warn_of_model(room)
        room.show_question(room.chat.turn().question.content)
        room.show(room.chat.retry())


@command("edit", "[N]")
def edit(room: Room, argument: str) -> None:
    """Put question N, the last one without a number, into other words and ask it; the old one stays on its branch."""
    turn = room.chat.turn(number(argument) if argument else None)
    text = room.prompt.edited(turn.question.content).rstrip("\n")
    if not text.strip() or text == turn.question.content:
        room.terminal.note("Nothing changed.")
        return
    room.show_question(text)
    room.show(room.chat.retry(turn.number, text))


@command("undo", "[N]")
def undo(room: Room, argument: str) -> None:
    """Take back the last turn, or the last N; they stay on their branch."""
    count, there = number(argument) if argument else 1, len(room.chat.session.turns)
    if there and count > there:
        raise WrongUse(
            f"Only {counted(there, 'turn')} can be taken back.",
            "/undo alone takes back the last one.",
        )
    gone = room.chat.undo(count)
    title = " ".join(gone.question.content.split())[:40]
    room.terminal.note(f"Taken back: turn {gone.number} (“{title}”) and what followed. /branches shows it.")


@command("clear")
def clear(room: Room, argument: str) -> None:
    """Begin a new view in the same session: nothing before it is sent; it stays on its branch."""
    room.chat.move(None)
    room.terminal.note("A new view: the model sees nothing of what was before. /branches leads back.")


@command("copy", "[N]")
def copy(room: Room, argument: str) -> None:
    """Copy the last reply, or its code block N, to the clipboard (OSC 52, also over SSH)."""
    reply = next((m for m in reversed(room.chat.session.path) if m.role == "assistant"), None)
    if reply is None:
        raise WrongUse("There is no reply yet.")
    text = reply.content
    if argument:
        from markdown_it import MarkdownIt

        blocks = [t.content for t in MarkdownIt().parse(text) if t.type in ("fence", "code_block")]
        if number(argument, "code block's number", "") > len(blocks):
            raise WrongUse(
                f"The last reply has {counted(len(blocks), 'code block')}.", "/copy alone copies the whole reply."
            )
        text = blocks[number(argument) - 1]
    room.terminal.copy(text)
    room.terminal.note(f"Copied {len(text):,} characters.")


@command("save", "PATH")
def save(room: Room, argument: str) -> None:
    """Write the whole session to a file elsewhere, as JSON, also when its own place cannot be written."""
    _write(room, argument or "", "json")


@command("export", "PATH")
def export(room: Room, argument: str) -> None:
    """Write the conversation to a file, in the format that its ending names (.md, .json)."""
    _write(room, argument, None)


def _write(room: Room, path: str, form: str | None) -> None:
    if not path:
        raise WrongUse("Where to?", "Name a file that is not there yet.")
    from chatmem.formats import named  # a dozen modules, which the prompt need not wait for

    target = Path(path).expanduser()
    try:
        chosen = named(form, path)
        assert chosen.write is not None
        write_new(target, chosen.write(room.chat.session, room.chat.records()).encode("utf-8", "replace"))
    except FileExistsError:
        raise WrongUse(f"There is already a file {path!r}.", "Choose another name.") from None
    except OSError as error:
        raise NotSaved(f"{path!r} could not be written: {error.strerror}.", "Choose another place.") from error
    room.terminal.note(f"Wrote {target} ({chosen.name}).")
