"""chatmem export and import: sessions in other formats."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from chatmem.cli.command import command
from chatmem.cli.options import Json, MaybeName
from chatmem.cli.runner import CommandContext
from chatmem.errors import ChatmemError, StorageError, UsageError
from chatmem.formats import READABLE, WRITABLE, Format, ImportedConversation, format_for
from chatmem.formats.importer import read_conversations
from chatmem.history.names import canonical_key, slugify, unique_name, validate
from chatmem.history.records import new_id
from chatmem.history.session import Session
from chatmem.input_files import read_stream
from chatmem.models.api_keys import api_key_getter
from chatmem.paths import create_exclusive, make_private_dir, overwrite
from chatmem.process import defer_signals
from chatmem.terminal.progress import progress
from chatmem.text import pluralize

MAX_INPUT_BYTES = 256 << 20
"""The most bytes that are read from stdin."""
API_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "export")(export)
    command(app, "import")(import_)


def export(
    context: CommandContext,
    name: MaybeName = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"One of: {', '.join(WRITABLE)}.",
            autocompletion=lambda incomplete: [name for name in WRITABLE if name.startswith(incomplete)],
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file instead of stdout. Its suffix sets the format.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.", show_default=False)] = False,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Export all sessions to the directory or .zip file of -o.", show_default=False),
    ] = False,
) -> None:
    """Export a session as Markdown or in another format."""
    if all_:
        _export_all(context, format_, output, force)
        return
    chosen = format_for(format_, str(output) if output else "")
    session, text = _render(context, name or context.latest(), chosen)
    if output is None or str(output) == "-":
        context.terminal.write(text, end="")
        return
    _write(output, text.encode("utf-8", "replace"), force)
    context.terminal.info(f"Wrote {session.name!r} to {output} ({chosen.name}).")


def import_(
    context: CommandContext,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="An export of another program; - is stdin.", show_default=False)
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"One of: {', '.join(READABLE)}. Default: detected.",
            show_default=False,
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            "-s",
            metavar="NAME",
            help="The name of the new session, for a single conversation.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="TEXT", help="Only conversations whose title or text contains this.", show_default=False
        ),
    ] = None,
    on_conflict: Annotated[
        Literal["skip", "rename", "replace"],
        typer.Option("--on-conflict", metavar="HOW", help="If the name is taken: skip, rename or replace."),
    ] = "rename",
    json_: Json = False,
) -> None:
    """Import conversations from ChatGPT, Claude, llm, LangChain, ShareGPT, OpenAI messages, or chatmem."""
    piped = read_stream(sys.stdin.buffer, MAX_INPUT_BYTES) if file == "-" else None
    source_format, found = read_conversations(Path(file), format_, piped)
    if only:
        found = [conversation for conversation in found if _contains(conversation, only.lower())]
        if not found:
            raise UsageError(f"No conversation contains {only!r}.")
    if session is not None and len(found) > 1:
        raise UsageError(
            f"-s names a single conversation, but {file} has {len(found)}.", "Choose one of them with --only TEXT."
        )
    context.terminal.info(_summary(source_format, found))
    imported, skipped = _import_all(context, found, session, on_conflict)
    if json_:
        body = {"format": source_format.name, "imported": imported, "skipped": skipped}
        context.terminal.json(body)
        return
    result = f"Imported {len(imported)}" + (
        f", skipped {skipped} that {'exists' if skipped == 1 else 'exist'} already" if skipped else ""
    )
    hint = f" Open it with: chatmem chat -s {imported[0]!r}" if len(imported) == 1 else ""
    context.terminal.info(f"{result}.{hint}")


def _import_all(
    context: CommandContext, found: list[ImportedConversation], session: str | None, on_conflict: str
) -> tuple[list[str], int]:
    """Create a session for each conversation. On an error or Ctrl-C none is left.

    Returns the names of the new sessions, and how many conversations were skipped.
    """
    store = context.app.store
    existing = store.list_sessions()
    known = {s.source for s in existing if s.source} | {f"chatmem:{s.id}" for s in existing if s.id}
    taken = {canonical_key(s.name): s.name for s in existing}
    replaceable = set(taken)
    created: list[str] = []
    replacing: list[tuple[str, ImportedConversation]] = []
    skipped = 0
    try:
        for conversation in progress(context.terminal, found, "Importing"):
            native_source = f"chatmem:{conversation.source.partition(':')[2]}"
            is_known = conversation.source in known or native_source in known
            if session is None and conversation.source and is_known:
                skipped += 1
                continue
            if session is not None:
                name = validate(session)
            else:
                name = slugify(conversation.name or conversation.title or "imported")
            conflict = taken.get(canonical_key(name))
            if conflict and on_conflict == "skip" and session is None:
                skipped += 1
                continue
            if conflict and on_conflict == "replace" and session is None and canonical_key(name) in replaceable:
                replaceable.discard(canonical_key(name))  # a second conversation with this name gets its own
                replacing.append((conflict, conversation))
                continue
            if conflict:
                name = unique_name(taken.values(), name)
            records = conversation.to_records(name)
            if session is not None:
                records[0] = {**records[0], "id": new_id()}
            created.append(name)
            store.open(name, records).close()
            taken[canonical_key(name)] = name
            known.add(conversation.source)
    except BaseException:
        for name in created:
            with contextlib.suppress(ChatmemError):
                store.delete(name, purge=True)
        raise
    with defer_signals():  # at the end, so that an interrupted import has replaced nothing
        for name, conversation in replacing:
            store.delete(name)
            store.open(name, conversation.to_records(name)).close()
            created.append(name)
    return created, skipped


def _contains(conversation: ImportedConversation, text: str) -> bool:
    return text in conversation.title.lower() or any(
        text in str(record.get("content", "")).lower() for record in conversation.records
    )


def _summary(source_format: Format, found: list[ImportedConversation]) -> str:
    """How many conversations and messages were found, and from when."""
    messages = sum(conversation.message_count for conversation in found)
    days = sorted(t[:10] for c in found for record in c.records if (t := str(record.get("time") or "")))
    dates = f", {days[0]} to {days[-1]}" if days else ""
    return f"{source_format.name}: {pluralize(len(found), 'conversation')}, {pluralize(messages, 'message')}{dates}."


def _export_all(context: CommandContext, format_name: str | None, output: Path | None, force: bool) -> None:
    """Export every session to a file of its own, in a directory or an archive."""
    if output is None:
        raise UsageError("Missing output.", "Set -o DIRECTORY or -o FILE.zip.")
    chosen = format_for(format_name)
    names = [s.name for s in context.app.store.list_sessions()]
    suffix = chosen.suffix or ".txt"
    if output.suffix == ".zip":
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in progress(context.terminal, names, "Exporting"):
                archive.writestr(f"{name}{suffix}", _render(context, name, chosen)[1])
        _write(output, data.getvalue(), force)
    else:
        try:
            make_private_dir(output)
        except OSError as error:
            raise StorageError(f"Cannot create {str(output)!r}: {error.strerror}.") from error
        for name in progress(context.terminal, names, "Exporting"):
            text = _render(context, name, chosen)[1]
            _write(output / f"{name}{suffix}", text.encode("utf-8", "replace"), force)
    context.terminal.info(f"Wrote {pluralize(len(names), 'session')} to {output} ({chosen.name}).")


def _render(context: CommandContext, name: str, chosen: Format) -> tuple[Session, str]:
    """A session, and its text in a format. Warns if it contains an API key."""
    store = context.app.store
    name = store.find(name)
    records = store.records(name)
    session = Session.replay(name, records)
    assert chosen.write is not None
    text = chosen.write(session, records)
    get_key = None
    with contextlib.suppress(ChatmemError):
        settings = context.settings
        get_key = api_key_getter(settings) if not settings.api_key_cmd else None
    if API_KEY.search(text) or (get_key and len(get_key()) > 8 and get_key() in text):
        context.terminal.info(f"Warning: {name!r} seems to contain an API key.", "warn")
    return session, text


def _write(output: Path, data: bytes, force: bool) -> None:
    try:
        (overwrite if force else create_exclusive)(output, data)
    except FileExistsError:
        raise UsageError(f"The file {str(output)!r} already exists.", "--force overwrites it.") from None
    except OSError as error:
        raise StorageError(f"Cannot write {str(output)!r}: {error.strerror}.", "Choose another path.") from error
