"""chatmem config: what is set, where it comes from, and the file to change it in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Annotated, Any

import typer

from chatmem import config
from chatmem.cli.door import Here, command
from chatmem.cli.options import Json
from chatmem.cli.unhurried import UnhurriedGroup
from chatmem.errors import NotSaved, WrongUse
from chatmem.models.keys import key_of
from chatmem.paths import private_folder, write_new
from chatmem.stores.address import masked

app = typer.Typer(
    cls=UnhurriedGroup, help="Show the configuration, or change it.", no_args_is_help=True, rich_markup_mode=None
)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="config")


@command(app, "show")
def show(
    here: Here,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """Show the settings in force. Secrets are masked."""
    found = here.assembly.config
    rows = [
        (name, _masked(name, value, extra), found.origins.get(name, "default"))
        for name, value, extra in config.walk(found.settings)
    ]
    rows.append(
        (
            "api key",
            _key_row(here),
            f"{found.settings.api_key_env or 'none'}" if not found.settings.api_key else "config",
        )
    )
    if json_:
        rows_out: Any = {name: {"value": value, "origin": where} if origin else value for name, value, where in rows}
        here.terminal.raw(json.dumps(rows_out, ensure_ascii=False, indent=1) + "\n")
        return
    for name, value, where in rows:
        shown = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        here.terminal.answer(f"{name} = {shown}" + (f"    # {where}" if origin else ""))


@command(app, "path")
def path(here: Here) -> None:
    """Print where the config file belongs."""
    here.terminal.answer(str(here.assembly.paths.config))


@command(app, "init")
def init(here: Here) -> None:
    """Write a config file with every setting, its default and a sentence."""
    _create(here)
    here.terminal.note(f"Wrote {here.assembly.paths.config}. Open it with: chatmem config edit")


@command(app, "edit")
def edit(here: Here) -> None:
    """Open the config file in $VISUAL or $EDITOR, and check it afterwards."""
    target = here.assembly.paths.config
    if target.is_dir():
        raise WrongUse(f"The config {str(target)!r} is a folder.", "Set CHATMEM_CONFIG to a file.")
    if not target.exists():
        _create(here)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(target)], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise WrongUse(f"The editor {editor!r} failed.", "Set EDITOR to one that is installed.") from error
    config.from_file(target)
    here.terminal.note(f"{target} is good.")


def _create(here: Here) -> None:
    target = here.assembly.paths.config
    try:
        private_folder(target.parent)
        write_new(target, config.example().encode())
    except FileExistsError:
        raise WrongUse(f"There is already a config {str(target)!r}.", "Open it with: chatmem config edit") from None
    except OSError as error:
        raise NotSaved(f"The config {str(target)!r} could not be written: {error.strerror}.") from error


def _masked(name: str, value: Any, extra: Any) -> Any:
    """The value with what is secret in it made unreadable: keys, and the user and password of an address."""
    if value and (extra.get("secret") or re.search(r"(key|token|secret|password)$", name)) and isinstance(value, str):
        return value if name.endswith(("api_key_env", "api_key_cmd")) else _mask(value)
    return masked(value) if isinstance(value, str) else value


def _key_row(here: Here) -> str:
    """The key in force, masked; a key command is not run just to show that it is there."""
    settings = here.settings
    if settings.api_key_cmd and not settings.api_key:
        return f"(from {' '.join(settings.api_key_cmd.split()[:1])!r})"
    key = key_of(settings)
    return _mask(key()) if key else "(none)"


def _mask(secret: str) -> str:
    return f"{secret[:3]}…{secret[-2:]}" if len(secret) >= 16 else "…"
