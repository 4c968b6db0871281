"""Commands for the conversation itself: repeat, edit, undo, copy, export."""

from __future__ import annotations

import contextlib
from difflib import get_close_matches
from pathlib import Path

from chatmem.errors import StorageError, UsageError
from chatmem.paths import create_exclusive
from chatmem.repl.commands.base import COMMANDS, command, parse_number
from chatmem.repl.commands.settings import warn_if_not_listed
from chatmem.repl.context import ReplContext
from chatmem.terminal.terminal import wrap
from chatmem.text import pluralize


@command("help", "[COMMAND]")
def help(repl: ReplContext, argument: str) -> None:
    """List the commands, or explain one."""
    wanted = argument.lstrip("/").lower()
    chosen = [c for c in COMMANDS.values() if not wanted or c.name == wanted]
    if not chosen:
        near = get_close_matches(wanted, COMMANDS, 1, 0.5)
        hint = f"Did you mean /{near[0]}?" if near else "/help lists them."
        raise UsageError(f"Unknown command {argument!r}.", hint)
    width = max(len(f"/{c.name} {c.usage}") for c in chosen)
    for one in sorted(chosen, key=lambda c: c.name):
        lines = wrap(one.help, max(20, repl.terminal.width - width - 2)).split("\n")
        for number, line in enumerate(lines):
            head = f"/{one.name} {one.usage}" if number == 0 else ""
            repl.terminal.info_line(f"{head.ljust(width)}  {line}")
    if not argument:
        repl.terminal.info("Ctrl-R searches the input history, Ctrl-X Ctrl-E opens your editor, Ctrl-D quits.")
        repl.terminal.info("@path attaches a text file; //text sends a message that begins with a slash.")


@command("exit")
def exit(repl: ReplContext, argument: str) -> None:
    """Quit, like Ctrl-D."""
    repl.exit()


@command("retry", "[MODEL]")
def retry(repl: ReplContext, argument: str) -> None:
    """Ask the last question again, optionally with another model. The old reply stays on a branch."""
    with repl.chat.override_settings(model=argument) if argument else contextlib.nullcontext():
        if argument:
            warn_if_not_listed(repl)
        repl.show_question(repl.chat.turn().question.content)
        repl.show_reply(repl.chat.retry())


@command("edit", "[N]")
def edit(repl: ReplContext, argument: str) -> None:
    """Edit question N, by default the last one, and resend it. The old one stays on a branch."""
    turn = repl.chat.turn(parse_number(argument) if argument else None)
    text = repl.prompt.edit_in_editor(turn.question.content).rstrip("\n")
    if not text.strip() or text == turn.question.content:
        repl.terminal.info("Nothing changed.")
        return
    repl.show_question(text)
    repl.show_reply(repl.chat.retry(turn.number, text))


@command("undo", "[N]")
def undo(repl: ReplContext, argument: str) -> None:
    """Remove the last turn, or the last N, from the conversation. They stay on a branch."""
    count, total = parse_number(argument) if argument else 1, len(repl.chat.session.turns)
    if total and count > total:
        raise UsageError(f"The conversation has only {pluralize(total, 'turn')}.", "/undo alone removes the last one.")
    removed = repl.chat.undo(count)
    title = " ".join(removed.question.content.split())[:40]
    repl.terminal.info(f"Removed turn {removed.number} (“{title}”) and what followed. /branches lists it.")


@command("clear")
def clear(repl: ReplContext, argument: str) -> None:
    """Start over in the same session: nothing before is sent. It stays on a branch."""
    repl.chat.checkout(None)
    repl.terminal.info("Started over. Earlier turns are no longer sent. /branches lists them.")


@command("copy", "[N]")
def copy(repl: ReplContext, argument: str) -> None:
    """Copy the last reply, or its code block N, to the clipboard (OSC 52, works over SSH)."""
    reply = next((m for m in reversed(repl.chat.session.path) if m.role == "assistant"), None)
    if reply is None:
        raise UsageError("This session has no replies.")
    text = reply.content
    if argument:
        from markdown_it import MarkdownIt  # imported lazily: slow

        blocks = [t.content for t in MarkdownIt().parse(text) if t.type in ("fence", "code_block")]
        number = parse_number(argument, "code block number", "")
        if number > len(blocks):
            raise UsageError(
                f"The last reply has {pluralize(len(blocks), 'code block')}.", "/copy alone copies the whole reply."
            )
        text = blocks[number - 1]
    repl.terminal.copy(text)
    repl.terminal.info(f"Copied {len(text):,} characters.")


@command("save", "PATH")
def save(repl: ReplContext, argument: str) -> None:
    """Write the whole session to a file as JSON, even if its own file cannot be written."""
    _write(repl, argument, "json")


@command("export", "PATH")
def export(repl: ReplContext, argument: str) -> None:
    """Write the conversation to a file, in the format of its suffix (.md, .json)."""
    _write(repl, argument, None)


def _write(repl: ReplContext, path: str, format_name: str | None) -> None:
    if not path:
        raise UsageError("Missing path.", "Name a file that does not exist yet.")
    from chatmem.formats import format_for  # imported lazily: slow

    target = Path(path).expanduser()
    try:
        chosen = format_for(format_name, path)
        assert chosen.write is not None
        create_exclusive(target, chosen.write(repl.chat.session, repl.chat.records()).encode("utf-8", "replace"))
    except FileExistsError:
        raise UsageError(f"The file {path!r} already exists.", "Choose another name.") from None
    except OSError as error:
        raise StorageError(f"Cannot write {path!r}: {error.strerror}.", "Choose another path.") from error
    repl.terminal.info(f"Wrote {target} ({chosen.name}).")
