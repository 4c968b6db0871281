"""chatmem models and doctor: which models are available, and whether everything is set up."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chatmem.app import OPENAI_URL, App
from chatmem.cli.command import command
from chatmem.cli.options import Json
from chatmem.cli.runner import CommandContext
from chatmem.doctor import CheckResult, run_checks
from chatmem.errors import Action, ChatmemError
from chatmem.models.discovery import context_window_of, find_local_servers
from chatmem.terminal.tables import print_columns

MARKS = {"good": "✓", "missing": "–", "bad": "✗", "fixed": "✓"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "models")(models)
    command(app, "doctor")(doctor)


def models(context: CommandContext, json_: Json = False) -> None:
    """List the models of the configured server and of local servers."""
    rows = _configured_rows(context.app) + _local_rows()
    if json_:
        context.terminal.json(rows)
    elif rows:
        cells = [
            (
                row["model"] or "(needs a key)",
                f"{row['context_window']:,}" if row["context_window"] else "",
                row["server"],
                row["kind"],
            )
            for row in rows
        ]
        print_columns(context.terminal, ("model", "window", "server", "kind"), cells, numbers={1})
    else:
        context.terminal.notify(
            "No server is configured, and none was found on this machine.", Action("use_offline_model")
        )


def doctor(
    context: CommandContext,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Fix what can be fixed: token tables, permissions, index.", show_default=False),
    ] = False,
    json_: Json = False,
) -> None:
    """Check the installation: what is set up, what is missing, and what to do about it."""
    results: list[CheckResult] = []
    terminal = context.terminal
    for result in run_checks(context.app, fix):
        hint = result.hint or ("chatmem doctor --fix fixes it." if result.fixable else "")
        results.append(result._replace(hint=hint))
        if not json_:
            terminal.write(f"{MARKS[result.status]} {result.name}: ", end="")
            terminal.write(result.detail, end="")
            terminal.raw(f" · {terminal.styled(hint, 'dim', terminal.out)}\n" if hint else "\n")
    if json_:
        terminal.json([result.record() for result in results])
    if any(result.status == "bad" for result in results):
        context.exit_code = 2


def _configured_rows(app: App) -> list[dict[str, Any]]:
    """The models of the configured server. Empty if none is configured. Raises what listing them raises."""
    settings = app.config.settings
    if not settings.base_url and not app.has_key(settings):
        return []
    try:
        model = app.resolve_model(settings)
    except ChatmemError:
        if settings.base_url:
            raise
        return []
    kind = "OpenAI" if model.server == OPENAI_URL else "configured"
    return [_row(entry, model.server, kind) for entry in model.list_models()]


def _local_rows() -> list[dict[str, Any]]:
    rows = []
    for server in find_local_servers():
        rows += [_row(entry, server.base_url, server.kind) for entry in server.models or ({},)]
    return rows


def _row(entry: dict[str, Any], server: str, kind: str) -> dict[str, Any]:
    return {"model": entry.get("id"), "context_window": context_window_of(entry), "server": server, "kind": kind}
