"""chatmem export: a session as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chatmem.cli.chat import latest
from chatmem.cli.door import Here, command
from chatmem.cli.options import MaybeName
from chatmem.errors import NotSaved, WrongUse
from chatmem.formats import FORMATS, named
from chatmem.paths import write_new, write_over


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "export")(export)


def export(
    here: Here,
    name: MaybeName = None,
    format_: Annotated[
        str | None, typer.Option("--format", "-f", help=f"One of: {', '.join(FORMATS)}.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write here instead of stdout.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.", show_default=False)] = False,
) -> None:
    """Write a session as Markdown, or in another format."""
    session = here.assembly.store.session(name or latest(here))
    form = named(format_, str(output) if output else "")
    text = form.write(session)
    if output is None or str(output) == "-":
        here.terminal.answer(text, end="")
        return
    try:
        (write_over if force else write_new)(output, text.encode("utf-8", "replace"))
    except FileExistsError:
        raise WrongUse(f"There is already a file {str(output)!r}.", "--force overwrites it.") from None
    except OSError as error:
        raise NotSaved(f"{str(output)!r} could not be written: {error.strerror}.", "Choose another place.") from error
    here.terminal.note(f"Wrote {session.name!r} to {output} ({form.name}).")
