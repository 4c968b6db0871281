"""chatmem config: the current settings, where they come from, and the file that holds them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import Annotated, Any

import typer

from chatmem.app import SCHEMA
from chatmem.cli.command import command
from chatmem.cli.fast_params import FastParamsGroup
from chatmem.cli.options import Json
from chatmem.cli.runner import CommandContext
from chatmem.config.example import example_config, iter_settings
from chatmem.config.loading import load_file
from chatmem.errors import Action, StorageError, UsageError
from chatmem.models.api_keys import api_key_getter
from chatmem.paths import create_exclusive, make_private_dir
from chatmem.stores.database.address import redact_url

app = typer.Typer(
    cls=FastParamsGroup, help="Show or change the configuration.", no_args_is_help=True, rich_markup_mode=None
)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="config")


@command(app, "show")
def show(
    context: CommandContext,
    origin: Annotated[
        bool, typer.Option("--origin", help="Show where each value comes from.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """Show the current settings. Secrets are masked."""
    config = context.app.config
    settings = config.settings
    rows = [
        (name, _redact(name, value, metadata), config.origins.get(name, "default"))
        for name, value, metadata in iter_settings(settings)
    ]
    key_origin = "config" if settings.api_key else settings.api_key_env or "none"
    rows.append(("api key", _display_key(context), key_origin))
    if json_:
        body: Any = {name: {"value": value, "origin": where} if origin else value for name, value, where in rows}
        context.terminal.json(body)
        return
    for name, value, where in rows:
        shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        context.terminal.write(f"{name} = {shown}" + (f"    # {where}" if origin else ""))


@command(app, "path")
def path(context: CommandContext) -> None:
    """Print where the config file belongs."""
    context.terminal.write(str(context.app.paths.config))


@command(app, "init")
def init(context: CommandContext) -> None:
    """Write a config file that lists every setting."""
    _create(context)
    context.terminal.notify(f"Wrote {context.app.paths.config}.", Action("edit_config"))


@command(app, "edit")
def edit(context: CommandContext) -> None:
    """Open the config file in $VISUAL or $EDITOR, and check it afterwards."""
    target = context.app.paths.config
    if target.is_dir():
        raise UsageError(f"The config {str(target)!r} is a directory.", "Set CHATMEM_CONFIG to a file.")
    if not target.exists():
        _create(context)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(target)], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(f"Cannot run the editor {editor!r}.", "Set EDITOR to one that is installed.") from error
    load_file(SCHEMA, target)
    context.terminal.info(f"{target} is valid.")


def _create(context: CommandContext) -> None:
    target = context.app.paths.config
    try:
        make_private_dir(target.parent)
        create_exclusive(target, example_config(SCHEMA).encode())
    except FileExistsError:
        raise UsageError(f"The config {str(target)!r} already exists.", action=Action("edit_config")) from None
    except OSError as error:
        raise StorageError(f"Cannot write the config {str(target)!r}: {error.strerror}.") from error


def _redact(name: str, value: Any, metadata: Any) -> Any:
    """The value with secrets masked: keys, and the user and password of a URL."""
    if not isinstance(value, str):
        return value
    is_secret = metadata.get("secret") or re.search(r"(key|token|secret|password)$", name)
    if value and is_secret and not name.endswith(("api_key_env", "api_key_cmd")):
        return _mask(value)
    return redact_url(value)


def _display_key(context: CommandContext) -> str:
    """The current key, masked. A key command is not run just to show that there is a key."""
    settings = context.settings
    if settings.api_key_cmd and not settings.api_key:
        return f"(from {' '.join(settings.api_key_cmd.split()[:1])!r})"
    get_key = api_key_getter(settings)
    return _mask(get_key()) if get_key else "(none)"


def _mask(secret: str) -> str:
    return f"{secret[:3]}…{secret[-2:]}" if len(secret) >= 16 else "…"
