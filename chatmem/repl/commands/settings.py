"""Commands for the model and its options. They are stored in the session and used from the next message on."""

from __future__ import annotations

import json
import shlex
from difflib import get_close_matches
from typing import Any

from chatmem.config.loading import read_system_prompt
from chatmem.errors import ChatmemError, UsageError
from chatmem.models.base import OPTION_HELP, check_options
from chatmem.repl.commands.base import command, parse_toggle
from chatmem.repl.context import ReplContext
from chatmem.templates import Templates, parse_values
from chatmem.text import pluralize


@command("model", "[NAME]", "/model gpt-6-luna")
def model(repl: ReplContext, argument: str) -> None:
    """Show or change the model of this session; - resets it."""
    if argument:
        _update(repl, model=None if argument == "-" else argument)
    config = repl.chat.turn_config
    window = f", {config.window:,} tokens" if config.window else ", context window unknown"
    repl.terminal.info(f"Model: {config.model.name}{window}.")
    warn_if_not_listed(repl)


@command("profile", "[NAME]", "/profile local")
def profile(repl: ReplContext, argument: str) -> None:
    """List the profiles of the config, or use one in this session; - resets it."""
    profiles = repl.app.config.settings.profiles
    if argument:
        _update(repl, profile=None if argument == "-" else argument, model=None)
        repl.terminal.info(f"Profile: {argument}, model {repl.chat.turn_config.model.name}.")
    else:
        repl.terminal.info(f"Profiles: {', '.join(profiles) or 'none; add [profiles.NAME] to the config'}")


@command("system", "[TEXT|@FILE]", "/system You are brief.")
def system(repl: ReplContext, argument: str) -> None:
    """Show or change the system prompt of this session; - resets it."""
    if argument:
        _update(repl, system=None if argument == "-" else read_system_prompt(argument))
    repl.terminal.info(f"System prompt: {repl.chat.turn_config.system or '(none)'}")


@command("template", "[NAME] [KEY=VALUE …]", "/template review kind=strict")
def template(repl: ReplContext, argument: str) -> None:
    """List the templates, or use one in this session. Its question is put into the prompt."""
    templates = Templates(repl.app.paths.config)
    if not argument:
        names = ", ".join(templates.names()) or "none; chatmem templates new NAME writes one"
        repl.terminal.info(f"Templates: {names}. In use: {repl.chat.session.settings.get('template') or 'none'}.")
        return
    name, *pairs = _words(argument)
    filled = templates.load(name).fill(parse_values(pairs), ask=repl.prompt.ask)
    _update(repl, **filled.settings)
    repl.prompt.prefill(filled.question)
    repl.terminal.info(f"This session uses the template {name!r}. /system shows its system prompt.")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"The quotes do not match: {error}.") from error


@command("set", "[NAME VALUE]", "/set temperature 0.7")
def set_(repl: ReplContext, argument: str) -> None:
    """Show the sampling options, or set one in this session (/set temperature 0.7); - resets it."""
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    options: dict[str, Any] = dict(repl.chat.session.settings.get("options") or {})
    if name and not value.strip():
        raise UsageError(f"Missing value for {name}.", f"/set {name} VALUE, or - to reset it.")
    if name:
        is_reset = value.strip() == "-"
        if not is_reset and name not in OPTION_HELP:
            if near := get_close_matches(name, OPTION_HELP, 1, 0.85):
                raise UsageError(f"Unknown option {name}.", f"Did you mean {near[0]}?")
            repl.terminal.info(f"{name} is not a known option; it is sent unchecked.", "warn")
        options.pop(name, None)
        if not is_reset:
            options[name] = _parse_value(value.strip())
            check_options({name: options[name]})
        _update(repl, options=options)
    shown = ", ".join(f"{name} = {value}" for name, value in repl.chat.turn_config.options.items())
    repl.terminal.info(f"Options: {shown or 'the defaults of the model'}")


@command("tokens")
def tokens(repl: ReplContext, argument: str) -> None:
    """Show the size of the next prompt, part by part."""
    context = repl.chat.plan()
    parts = ", ".join(f"{name} {size:,}" for name, size in context.token_breakdown.items() if size)
    repl.terminal.info(f"{context.tokens:,} of {context.budget:,} tokens ({context.counter.method}): {parts}")


@command("multiline", "[on|off]", "/multiline on")
def multiline(repl: ReplContext, argument: str) -> None:
    """Swap Enter and Alt-Enter: one sends, the other inserts a new line."""
    repl.prompt.multiline = parse_toggle(argument, repl.prompt.multiline)
    repl.terminal.info(
        "Enter inserts a new line, Alt-Enter (or Esc, then Enter) sends. /multiline swaps them back."
        if repl.prompt.multiline
        else "Enter sends, Alt-Enter inserts a new line."
    )


@command("toolbar", "[on|off]", "/toolbar off")
def toolbar(repl: ReplContext, argument: str) -> None:
    """Show or hide the line below the prompt."""
    repl.prompt.show_toolbar = parse_toggle(argument, repl.prompt.show_toolbar)


def warn_if_not_listed(repl: ReplContext) -> None:
    """Warn if the server does not list the current model."""
    model = repl.chat.turn_config.model
    try:
        listed = [str(entry["id"]) for entry in model.list_models(timeout=2.0)]
    except ChatmemError:
        return
    if listed and model.name not in listed:
        near = get_close_matches(model.name, listed, 3, 0.3) or listed[:3]
        others = f"{pluralize(len(listed), 'model')}, such as " if len(listed) > len(near) else ""
        repl.terminal.info(f"The server does not list {model.name!r}. It lists {others}{', '.join(near)}.", "warn")


def _update(repl: ReplContext, **settings: Any) -> None:
    """Store settings. If they lead to an error, restore the old ones and raise it."""
    before = {name: repl.chat.session.settings.get(name) for name in settings}
    repl.chat.update_settings(**settings)
    try:
        repl.chat.turn_config.model.name  # noqa: B018  # report a missing model now, not with the next message
    except ChatmemError:
        repl.chat.update_settings(**before)
        raise


def _parse_value(text: str) -> Any:
    """A value as typed: a number, true, false, a list, or the text itself."""
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except ValueError:
        return text


def _reject_constant(name: str) -> None:
    raise UsageError(f"{name} cannot be sent.")
