"""chatmem models and doctor: who could answer, and what is set up, missing, or to be mended."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from chatmem.assemble import OPENAI, Assembly
from chatmem.checkup import Finding, checkup
from chatmem.cli.door import Here, command
from chatmem.cli.options import Json
from chatmem.errors import ChatmemError
from chatmem.models.discover import servers, window_of
from chatmem.models.openai_api import OpenAIModel
from chatmem.screen.listing import columns

MARKS = {"good": "✓", "missing": "–", "bad": "✗", "mended": "✓"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "models")(models)
    command(app, "doctor")(doctor)


def models(here: Here, json_: Json = False) -> None:
    """List what the configured server offers, and the local servers that are running."""
    rows = list(_offered(here.assembly)) + list(_found())
    if json_:
        here.terminal.raw(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    elif rows:
        window = [
            (
                r["model"] or "(needs a key)",
                f"{r['context_window']:,}" if r["context_window"] else "",
                r["server"],
                r["kind"],
            )
            for r in rows
        ]
        columns(here.terminal, ("model", "window", "server", "kind"), window, numbers={1})
    else:
        here.terminal.note("No server is configured and none was found running here. The built-in model: -m offline")


def doctor(
    here: Here,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend what can be mended: token tables, permissions, index.", show_default=False),
    ] = False,
    json_: Json = False,
) -> None:
    """Look at what is set up, what is missing, and what to do about it; one line each."""
    findings: list[Finding] = []
    for finding in checkup(here.assembly, fix):
        findings.append(finding)
        if not json_:
            hint = f" · {here.terminal.styled(finding.hint, 'dim', here.terminal.out)}" if finding.hint else ""
            here.terminal.answer(f"{MARKS[finding.state]} {finding.what}: ", end="")
            here.terminal.answer(finding.words, end="")
            here.terminal.raw(f"{hint}\n")
    if json_:
        here.terminal.raw(json.dumps([f._asdict() for f in findings], ensure_ascii=False, indent=1) + "\n")
    if any(f.state == "bad" for f in findings):
        here.exit_code = 2


def _offered(assembly: Assembly) -> list[dict[str, Any]]:
    """What the configured server lists; empty if none is configured. Raises what asking it raises."""
    settings = assembly.config.settings
    try:
        model = assembly.connect(settings) if settings.base_url or assembly.has_key(settings) else None
    except ChatmemError:
        model = None
        if settings.base_url:
            raise
    if not isinstance(model, OpenAIModel):
        return []
    kind = "OpenAI" if model.base_url == OPENAI else "configured"
    return [_row(m, model.base_url, kind) for m in model.models()]


def _found() -> list[dict[str, Any]]:
    rows = []
    for found in servers():
        rows += [_row(m, found.base_url, found.kind) for m in found.models] or [_row({}, found.base_url, found.kind)]
    return rows


def _row(model: dict[str, Any], server: str, kind: str) -> dict[str, Any]:
    return {"model": model.get("id"), "context_window": window_of(model), "server": server, "kind": kind}
