"""chatmem export and import: a session as something else, and back."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from chatmem import names
from chatmem.cli.door import Here, command
from chatmem.cli.options import Json, MaybeName
from chatmem.errors import ChatmemError, NotSaved, WrongUse
from chatmem.formats import READ, WRITTEN, Format, Imported, named
from chatmem.formats.reading import conversations
from chatmem.keeping import undisturbed
from chatmem.models.keys import key_of
from chatmem.paths import private_folder, write_new, write_over
from chatmem.records import new_id
from chatmem.screen.progress import progress
from chatmem.session import Session

LARGEST_PIPE = 256 << 20
SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{16,}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "export")(export)
    command(app, "import")(import_)


def export(
    here: Here,
    name: MaybeName = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="FORMAT", help=f"One of: {', '.join(WRITTEN)}.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here instead of stdout; its ending names the format.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.", show_default=False)] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="All sessions, into the folder or the .zip that -o names.", show_default=False)
    ] = False,
) -> None:
    """Write a session as Markdown, or in another format."""
    if all_:
        _export_all(here, format_, output, force)
        return
    form = named(format_, str(output) if output else "")
    session, text = _written(here, name or here.latest(), form)
    if output is None or str(output) == "-":
        here.terminal.answer(text, end="")
        return
    _write(output, text.encode("utf-8", "replace"), force)
    here.terminal.note(f"Wrote {session.name!r} to {output} ({form.name}).")


def import_(
    here: Here,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="What another program exported; - is stdin.", show_default=False)
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"One of: {', '.join(READ)}; recognised without.",
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
            "--only", metavar="TEXT", help="Only conversations whose title or text holds this.", show_default=False
        ),
    ] = None,
    on_conflict: Annotated[
        Literal["skip", "rename", "replace"],
        typer.Option("--on-conflict", metavar="HOW", help="If the name is taken: skip, rename or replace."),
    ] = "rename",
    json_: Json = False,
) -> None:
    """Bring in conversations: from ChatGPT, Claude, llm, LangChain, ShareGPT, OpenAI messages, or chatmem itself."""
    piped = sys.stdin.buffer.read(LARGEST_PIPE) if file == "-" else None
    form, found = conversations(Path(file), format_, piped)
    if only:
        wanted = only.lower()
        found = [
            one
            for one in found
            if wanted in one.title.lower() or any(wanted in str(r.get("content", "")).lower() for r in one.records)
        ]
        if not found:
            raise WrongUse(f"No conversation holds {only!r}.")
    if session is not None and len(found) > 1:
        raise WrongUse(
            f"There are {len(found)} conversations in {file}: -s names a single one.", "Choose it with --only TEXT."
        )
    here.terminal.note(_summary(form, found))
    made, skipped = _take_in(here, found, session, on_conflict)
    if json_:
        import json

        here.terminal.raw(
            json.dumps({"format": form.name, "imported": made, "skipped": skipped}, ensure_ascii=False, indent=1) + "\n"
        )
        return
    words = f"Imported {len(made)}" + (f", skipped {skipped} that were here already" if skipped else "")
    here.terminal.note(f"{words}.{f' See: chatmem chat -s {made[0]!r}' if len(made) == 1 else ''}")


def _take_in(here: Here, found: list[Imported], session: str | None, on_conflict: str) -> tuple[list[str], int]:
    """Make a session of each conversation; on an error or Ctrl-C nothing stays. Returns names and the number known."""
    store = here.assembly.store
    outlines = store.outlines()
    known = {o.source for o in outlines if o.source} | {f"chatmem:{o.id}" for o in outlines if o.id}
    taken = {names.key(o.name): o.name for o in outlines}
    before = set(taken)
    made: list[str] = []
    replacing: list[tuple[str, Imported]] = []
    skipped = 0
    try:
        for one in progress(here.terminal, found, "Importing"):
            ours = f"chatmem:{one.source.partition(':')[2]}"
            if session is None and one.source and (one.source in known or ours in known):
                skipped += 1
                continue
            name = names.checked(session) if session is not None else names.nearest(one.name or one.title or "imported")
            clash = taken.get(names.key(name))
            if clash and on_conflict == "skip" and session is None:
                skipped += 1
                continue
            if clash and on_conflict == "replace" and session is None and names.key(name) in before:
                before.discard(names.key(name))  # a second one of this name gets a name of its own
                replacing.append((clash, one))
                continue
            if clash:
                name = names.fresh(taken.values(), name)
            records = one.as_records(name)
            if session is not None:
                records[0] = {**records[0], "id": new_id()}
            made.append(name)
            store.open(name, records).close()
            taken[names.key(name)] = name
            known.add(one.source)
    except BaseException:
        for name in made:
            with contextlib.suppress(ChatmemError):
                store.delete(name, purge=True)
        raise
    with undisturbed():  # at the very end, so that an interrupted import has replaced nothing
        for name, one in replacing:
            store.delete(name)
            store.open(name, one.as_records(name)).close()
            made.append(name)
    return made, skipped


def _summary(form: Format, found: list[Imported]) -> str:
    """What was found: how many conversations and messages, and from when."""
    count = sum(one.messages for one in found)
    days = sorted(t[:10] for one in found for r in one.records if (t := str(r.get("time") or "")))
    dates = f", {days[0]} to {days[-1]}" if days else ""
    return f"{form.name}: {names.counted(len(found), 'conversation')}, {names.counted(count, 'message')}{dates}."


def _export_all(here: Here, format_: str | None, output: Path | None, force: bool) -> None:
    """Every session as a file of its own, in a folder or an archive."""
    if output is None:
        raise WrongUse("Where to?", "-o FOLDER, or -o FILE.zip")
    form = named(format_)
    found = [o.name for o in here.assembly.store.outlines()]
    ending = form.ending or ".txt"
    if output.suffix == ".zip":
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in progress(here.terminal, found, "Exporting"):
                archive.writestr(f"{name}{ending}", _written(here, name, form)[1])
        _write(output, data.getvalue(), force)
    else:
        try:
            private_folder(output)
        except OSError as error:
            raise NotSaved(f"{str(output)!r} cannot be made: {error.strerror}.") from error
        for name in progress(here.terminal, found, "Exporting"):
            _write(output / f"{name}{ending}", _written(here, name, form)[1].encode("utf-8", "replace"), force)
    here.terminal.note(f"Wrote {names.counted(len(found), 'session')} to {output} ({form.name}).")


def _written(here: Here, name: str, form: Format) -> tuple[Session, str]:
    """A session, and its text in a format; warns of secrets in it."""
    store = here.assembly.store
    name = store.find(name)
    records = store.records(name)
    session = Session.replay(name, records)
    assert form.write is not None
    text = form.write(session, records)
    key = None
    with contextlib.suppress(ChatmemError):
        settings = here.settings
        key = key_of(settings) if not settings.api_key_cmd else None
    if SECRET.search(text) or (key and len(key()) > 8 and key() in text):
        here.terminal.note(f"Careful: {name!r} seems to hold an API key.", "warn")
    return session, text


def _write(output: Path, data: bytes, force: bool) -> None:
    try:
        (write_over if force else write_new)(output, data)
    except FileExistsError:
        raise WrongUse(f"There is already a file {str(output)!r}.", "--force overwrites it.") from None
    except OSError as error:
        raise NotSaved(f"{str(output)!r} could not be written: {error.strerror}.", "Choose another place.") from error
