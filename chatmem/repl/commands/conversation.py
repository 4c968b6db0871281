"""Commands for the conversation itself: repeat, edit, undo, copy, export."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from chatmem.errors import StorageError, UsageError
from chatmem.paths import create_exclusive
from chatmem.repl.commands.base import Command, by_group, command, find_command, parse_number
from chatmem.repl.commands.settings import warn_if_not_listed
from chatmem.repl.context import ReplContext
from chatmem.terminal.pager import paged
from chatmem.terminal.terminal import wrap
from chatmem.text import pluralize, truncate

if TYPE_CHECKING:
    from markdown_it.token import Token

MIN_HELP_WIDTH = 24
"""Columns that a help text needs beside its command."""


HELP_KEYS = (
    "Enter sends, Alt-Enter inserts a new line. Ctrl-C stops a reply, Ctrl-D quits.",
    "Ctrl-R searches what was typed, Tab completes, Ctrl-X Ctrl-E opens your editor.",
    "Ctrl-X, then O opens a session, C the context, M models, U undoes, Y copies, X exports.",
    "@path attaches a text file. //text sends a message that begins with a slash.",
)


@command("help", "[COMMAND|GROUP]", "/help retry, /help memory")
def help(repl: ReplContext, argument: str) -> None:
    """List the commands, or explain one, or a group of them."""
    groups = by_group()
    if argument and (group := argument.capitalize()) in groups:
        _explain(repl, groups[group])
    elif argument:
        chosen = find_command(argument.lstrip("/"))
        _explain(repl, [chosen])
        repl.terminal.info(f"Example: {chosen.example or '/' + chosen.name}")
    else:
        width = max(map(len, groups))
        for group, commands in groups.items():
            words = " ".join(f"/{one.name}" for one in commands)
            for number, line in enumerate(wrap(words, repl.terminal.width - width - 2).split("\n")):
                repl.terminal.info_line(f"{(group if number == 0 else '').ljust(width)}  {line}")
        repl.terminal.info("/help COMMAND explains one, /help memory a group. A beginning is enough: /mod.")
        for line in HELP_KEYS:
            repl.terminal.info(line)


def _explain(repl: ReplContext, commands: list[Command]) -> None:
    """Print commands with their arguments and help texts, in columns if these are not too narrow."""
    width = max(len(f"/{one.name} {one.usage}") for one in commands)
    help_width = repl.terminal.width - width - 2
    for one in commands:
        head = f"/{one.name} {one.usage}".rstrip()
        if help_width < MIN_HELP_WIDTH:
            repl.terminal.info_line(head)
            repl.terminal.info(f"  {one.help}")
            continue
        for number, line in enumerate(wrap(one.help, help_width).split("\n")):
            repl.terminal.info_line(f"{(head if number == 0 else '').ljust(width)}  {line}")


@command("exit")
def exit(repl: ReplContext, argument: str) -> None:
    """Quit, like Ctrl-D."""
    repl.exit()


@command("quit")
def quit(repl: ReplContext, argument: str) -> None:
    """Quit, like Ctrl-D."""
    repl.exit()


@command("retry", "[MODEL]", "/retry gpt-6-luna")
def retry(repl: ReplContext, argument: str) -> None:
    """Ask the last question again, optionally with another model. The old reply stays on a branch."""
    with repl.chat.override_settings(model=argument) if argument else contextlib.nullcontext():
        if argument:
            warn_if_not_listed(repl)
        repl.show_question(repl.chat.turn().question.content)
        repl.show_reply(repl.chat.retry())


@command("edit", "[N]", "/edit 3")
def edit(repl: ReplContext, argument: str) -> None:
    """Edit question N, by default the last one, and resend it. The old one stays on a branch."""
    turn = repl.chat.turn(parse_number(argument) if argument else None)
    text = repl.prompt.edit_in_editor(turn.question.content).rstrip("\n")
    if not text.strip() or text == turn.question.content:
        repl.terminal.info("Nothing changed.")
        return
    repl.show_question(text)
    repl.show_reply(repl.chat.retry(turn.number, text))


@command("undo", "[N]", "/undo 2")
def undo(repl: ReplContext, argument: str) -> None:
    """Remove the last turn, or the last N, from the conversation. They stay on a branch."""
    count, total = parse_number(argument) if argument else 1, len(repl.chat.session.turns)
    if total and count > total:
        raise UsageError(f"The conversation has only {pluralize(total, 'turn')}.", "/undo alone removes the last one.")
    removed = repl.chat.undo(count)
    title = truncate(" ".join(removed.question.content.split()))
    repl.terminal.info(f"Removed turn {removed.number} (“{title}”) and what followed. /branches lists it.")


@command("clear")
def clear(repl: ReplContext, argument: str) -> None:
    """Start over in the same session: nothing before is sent. It stays on a branch."""
    repl.chat.checkout(None)
    repl.terminal.info("Started over. Earlier turns are no longer sent. /branches lists them.")


@command("copy", "[N|all]", "/copy 2")
def copy(repl: ReplContext, argument: str) -> None:
    """Copy the last reply, or its code block N, to the clipboard (OSC 52, works over SSH)."""
    reply = next((m for m in reversed(repl.chat.session.path) if m.role == "assistant"), None)
    if reply is None:
        raise UsageError("This session has no replies.")
    blocks = _code_blocks(reply.content)
    if not argument and blocks:
        for number, block in enumerate(blocks, 1):
            size = pluralize(block.content.count("\n"), "line")
            first = block.content.strip().partition("\n")[0]
            repl.terminal.info(f"{number} · {block.info.strip() or 'code'} · {size} · {truncate(first, 50)}")
        argument = repl.prompt.ask("Copy which one? Enter copies the whole reply: ").strip()
    if not argument or argument == "all":
        text = reply.content
    else:
        number = parse_number(argument, "code block number", "/copy all copies the whole reply.")
        if number > len(blocks):
            count = pluralize(len(blocks), "code block")
            raise UsageError(f"The last reply has {count}.", "/copy all copies the whole reply.")
        text = blocks[number - 1].content
    repl.terminal.copy(text)
    repl.terminal.info(f"Copied {len(text):,} characters.")


def _code_blocks(text: str) -> list[Token]:
    from markdown_it import MarkdownIt  # imported lazily: slow

    return [token for token in MarkdownIt().parse(text) if token.type in ("fence", "code_block")]


@command("thinking")
def thinking(repl: ReplContext, argument: str) -> None:
    """Show what the model thought before its last reply. It is not stored."""
    if not repl.reasoning:
        raise UsageError("The last reply came without the model's thoughts.")
    with paged(repl.terminal):
        repl.terminal.write_wrapped(repl.reasoning.strip("\n"))


@command("save", "PATH", "/save ~/chat.json")
def save(repl: ReplContext, argument: str) -> None:
    """Write the whole session to a file as JSON, even if its own file cannot be written."""
    _write(repl, argument, "json")


@command("export", "[PATH]", "/export notes.html")
def export(repl: ReplContext, argument: str) -> None:
    """Write the conversation to a file, in the format of its suffix (.md, .html, .json). Default: NAME.md."""
    _write(repl, argument or f"{repl.chat.name}.md", None)


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
