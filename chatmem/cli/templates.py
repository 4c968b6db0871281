"""chatmem templates: prompts and settings under a name."""

from __future__ import annotations

from typing import Annotated

import typer

from chatmem.cli.command import command
from chatmem.cli.fast_params import FastParamsGroup
from chatmem.cli.options import Json, template_names
from chatmem.cli.runner import CommandContext
from chatmem.errors import StorageError, UsageError
from chatmem.paths import create_exclusive, make_private_dir, overwrite
from chatmem.repl.editor import edit_text
from chatmem.templates import Templates, parse
from chatmem.terminal.terminal import is_tty
from chatmem.text import truncate

app = typer.Typer(
    cls=FastParamsGroup,
    help="Keep prompts and settings under a name, for chat -t and ask -t.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The template.", autocompletion=template_names, show_default=False)
]
MAX_TITLE_CHARS = 60
SKELETON = """\
# {name}: a template. `chatmem chat -t {name}` uses it.
# Write {{{{ and }}}} for braces, {{name}} for a variable, {{input}} for what is piped or typed.

system = "You are a helpful {{kind}}."
# prompt = "Explain this:\\n\\n{{input}}"
# model = "gpt-6-luna"
# memory = "window:6"
# options = {{ temperature = 0.2 }}

[variables]
kind = "teacher"
"""


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="templates")


def _templates(context: CommandContext) -> Templates:
    return Templates(context.app.paths.config)


@command(app, "list")
def list_(context: CommandContext, json_: Json = False) -> None:
    """List the templates."""
    templates = _templates(context)
    names = templates.names()
    if json_:
        context.terminal.json(names)
        return
    for name in names:
        try:
            template = templates.load(name)
        except UsageError as error:
            context.terminal.error(error)
            continue
        about = " ".join((template.system or template.prompt or "").split())
        context.terminal.write(f"{name}  {truncate(about, MAX_TITLE_CHARS)}")
    if not names:
        context.terminal.info("There are no templates yet. chatmem templates new NAME writes one.")


@command(app, "show")
def show(context: CommandContext, name: Name) -> None:
    """Print the file of a template."""
    templates = _templates(context)
    templates.load(name)
    context.terminal.write(templates.path(name).read_text(encoding="utf-8"), end="")


@command(app, "new")
def new(context: CommandContext, name: Name) -> None:
    """Write a template to begin with, and open it in $VISUAL or $EDITOR."""
    path = _templates(context).path(name)
    try:
        make_private_dir(path.parent)
        create_exclusive(path, SKELETON.format(name=name).encode())
    except FileExistsError:
        raise UsageError(f"There is already a template {name!r}.", f"chatmem templates edit {name}") from None
    except OSError as error:
        raise StorageError(f"Cannot write the template {str(path)!r}: {error.strerror}.") from error
    context.terminal.info(f"Wrote {path}.")
    if is_tty(context.terminal.out):
        edit(context, name)


@command(app, "edit")
def edit(context: CommandContext, name: Name) -> None:
    """Open a template in $VISUAL or $EDITOR. One that is not valid is not saved."""
    templates = _templates(context)
    path = templates.path(name)
    if not path.is_file():
        templates.load(name)
    text = edit_text(path.read_text(encoding="utf-8", errors="replace"))
    parse(name, text.encode("utf-8", "replace"))
    overwrite(path, text.encode("utf-8", "replace"))
    context.terminal.info(f"{path} is valid.")
