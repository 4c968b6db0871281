"""Who answers, and how: stored in the session, used from the next message on."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chatmem.config import prompt_of
from chatmem.errors import ChatmemError, WrongUse
from chatmem.models.base import OPTIONS, check_options
from chatmem.repl.commands.base import command, switched

if TYPE_CHECKING:
    from chatmem.repl.loop import Room


@command("model", "[NAME]")
def model(room: Room, argument: str) -> None:
    """Show the model, or change it for this session; - takes it back."""
    if argument:
        _change(room, model=None if argument == "-" else argument)
    choice = room.chat.choice
    window = choice.window or choice.model.window
    room.terminal.note(f"Model: {choice.model.name}{f', {window:,} tokens' if window else ', window unknown'}.")
    warn_of_model(room)


@command("profile", "[NAME]")
def profile(room: Room, argument: str) -> None:
    """Show the profiles of the config, or use one in this session; - takes it back."""
    profiles = room.assembly.config.settings.profiles
    if argument:
        _change(room, profile=None if argument == "-" else argument, model=None)
        room.terminal.note(f"Profile: {argument}, model {room.chat.choice.model.name}.")
    else:
        room.terminal.note(f"Profiles: {', '.join(profiles) or 'none; write [profiles.NAME] into the config'}")


@command("system", "[TEXT|@FILE]")
def system(room: Room, argument: str) -> None:
    """Show the system prompt, or change it for this session; - takes it back."""
    if argument:
        _change(room, system=None if argument == "-" else prompt_of(argument))
    room.terminal.note(f"System prompt: {room.chat.choice.system or '(none)'}")


@command("set", "[NAME VALUE]")
def set_(room: Room, argument: str) -> None:
    """Show the sampling options, or set one for this session (/set temperature 0.7); - takes it back."""
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    options: dict[str, Any] = dict(room.chat.session.settings.get("options") or {})
    if name and not value.strip():
        raise WrongUse(f"What should {name} be?", f"/set {name} VALUE, or - to take it back.")
    if name:
        options.pop(name, None)
        if value.strip() != "-":
            options[name] = _value(value.strip())
            check_options({name: options[name]})
            if name not in OPTIONS:
                near = get_close_matches(name, OPTIONS, 1, 0.6)
                meant = f" Did you mean {near[0]}?" if near else ""
                room.terminal.note(f"{name} is no option that is known here: it is sent as it is.{meant}", "warn")
        _change(room, options=options)
    shown = ", ".join(f"{k} = {v}" for k, v in room.chat.choice.options.items())
    room.terminal.note(f"Options: {shown or 'the defaults of the model'}")


@command("tokens")
def tokens(room: Room, argument: str) -> None:
    """Show how long the next prompt would be, part by part."""
    view = room.chat.plan()
    parts = ", ".join(f"{name} {size:,}" for name, size in view.sizes.items() if size)
    room.terminal.note(f"{view.tokens:,} of {view.budget:,} tokens ({view.counter.how}): {parts}")


@command("multiline", "[on|off]")
def multiline(room: Room, argument: str) -> None:
    """Swap Enter and Alt-Enter: one sends, the other makes a new line."""
    room.prompt.multiline = switched(argument, room.prompt.multiline)
    room.terminal.note(
        "Enter makes a new line, Alt-Enter sends (or Esc, then Enter). /multiline swaps them back."
        if room.prompt.multiline
        else "Enter sends, Alt-Enter makes a new line."
    )


@command("toolbar", "[on|off]")
def toolbar(room: Room, argument: str) -> None:
    """Show or hide the line below the prompt."""
    room.prompt.toolbar = switched(argument, room.prompt.toolbar)


def warn_of_model(room: Room) -> None:
    """Say it where the server does not list the model that is chosen."""
    model = room.chat.choice.model
    offered = getattr(model, "offered", ())
    if offered and model.name not in offered:
        near = get_close_matches(model.name, offered, 3, 0.3) or offered[:3]
        room.terminal.note(f"The server does not list {model.name!r}; it lists {', '.join(near)}.", "warn")


def _change(room: Room, **settings: Any) -> None:
    """Store settings; if they lead nowhere, take them back and say why."""
    before = {name: room.chat.session.settings.get(name) for name in settings}
    room.chat.set(**settings)
    try:
        room.chat.choice.model.name  # noqa: B018  # a model that cannot be had is said now, not with the next message
    except ChatmemError:
        room.chat.set(**before)
        raise


def _value(text: str) -> Any:
    """A value as typed: a number, true, false, a list, or the text itself."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(name: str) -> None:
    raise WrongUse(f"{name} is no number that can be sent.")
