"""Every setting there is, and where each value came from.

Layers, the later ones win: defaults, config.toml, the usual variables, CHATMEM_* variables, what was set for
the session, flags. A profile's own values count where the profile was chosen, and at least over the usual
variables: it was written on purpose. No `.env` and no file of the current folder is read, so that a cloned
repository cannot redirect a conversation.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from chatmem import memory
from chatmem.errors import WrongUse
from chatmem.memory.base import Strategy
from chatmem.models.openai_api import Timeouts
from chatmem.settings import read, setting, unknown

LARGEST = 1 << 20
"""The most bytes of a config file."""


@dataclass(frozen=True)
class Server:
    """A model and where it is: what a profile names, and what holds without one."""

    model: str | None = setting(
        None,
        "The model to ask; unset is the server's first, or gpt-4o-mini at OpenAI.",
        example="gpt-4o-mini",
    )
    base_url: str | None = setting(
        None, "The server's address, as in http://127.0.0.1:11434/v1.", example="http://127.0.0.1:11434/v1"
    )
    api_key_env: str = setting("OPENAI_API_KEY", "The environment variable that holds the API key; empty for none.")
    api_key_cmd: str | None = setting(
        None, "A command that prints the API key, as in 'pass show openai'.", example="pass show openai"
    )
    api_key_keyring: str | None = setting(
        None, "The keyring's service that holds the API key (pip install 'chatmem[keyring]').", example="openai"
    )
    api_key: str | None = setting(
        None,
        "The API key itself; only read from a file that nobody else can read.",
        example="sk-…",
        secret=True,
    )
    organization: str | None = setting(None, "OpenAI's organisation id.", example="org-…")
    context_window: int | None = setting(
        None,
        "Tokens the model takes, prompt and reply together; unset asks the server.",
        least=64,
        example=32768,
    )
    kind: Literal["openai", "azure"] = setting("openai", "What the server speaks: openai, or azure.")
    api_version: str = setting("2024-10-21", "Azure OpenAI's API version; the model is the deployment's name.")


@dataclass(frozen=True)
class Fold:
    """How old turns are folded into notes."""

    model: str | None = setting(None, "A cheaper model for the notes; unset is the chat's own.", example="gpt-4o-mini")
    wait: float = setting(10.0, "Seconds that ask and piped chat wait at the end for a fold; 0 is never.", least=0)


@dataclass(frozen=True)
class Sessions:
    """What happens to old sessions."""

    expire: str | None = setting(
        None, "Move sessions unused for this long into the trash at start, as in '30d'.", example="30d"
    )


@dataclass(frozen=True)
class Screen:
    """How it looks, and how keys work."""

    theme: Literal["auto", "plain"] = setting("auto", "auto uses the terminal's own colours, plain none.")
    toolbar: bool = setting(True, "Show the line with session, model and context below the prompt.")
    editing: Literal["emacs", "vi"] = setting("emacs", "The keys of the prompt: emacs, or vi.")
    multiline: bool = setting(False, "Enter makes a new line and Alt-Enter sends, instead of the other way round.")
    history: bool = setting(True, "Remember what was typed, for Ctrl-R and suggestions.")


@dataclass(frozen=True)
class Price:
    """What a model costs, in money per million tokens."""

    prompt: float = setting(0.0, "Money per million prompt tokens.", least=0)
    completion: float = setting(0.0, "Money per million reply tokens.", least=0)
    cached: float | None = setting(
        None,
        "Money per million prompt tokens from the cache; unset is the prompt price.",
        least=0,
        example=0.075,
    )


def _memory_settings() -> Any:
    kinds: list[tuple[str, Any, Any]] = [
        ("strategy", Literal[tuple(memory.STRATEGIES)], setting("summary", f"One of: {', '.join(memory.STRATEGIES)}."))
    ]
    for name, cls in memory.STRATEGIES.items():
        kinds.append((name.replace("-", "_"), cls, setting(cls, (cls.__doc__ or "").splitlines()[0])))
    made = dataclasses.make_dataclass("Memory", kinds, frozen=True)
    made.__doc__ = "What the model is shown of a session."
    return made


Memory = _memory_settings()


@dataclass(frozen=True)
class Settings(Server):
    """All of it."""

    profile: str | None = setting(None, "The profile to use, one of [profiles.NAME].", example="local")
    system: str | None = setting(
        None, "The system prompt of every session that has none of its own.", example="You are brief."
    )
    store: str = setting(
        "file", "Where sessions are kept: file, sqlite:///PATH, redis://…, postgresql://…, mongodb://…"
    )
    user: str | None = setting(None, "Whose sessions; unset is one user without a name.", example="nemo")
    discover: bool = setting(True, "With nothing configured, look for local servers on their usual ports.")
    options: dict[str, Any] = setting({}, "Sampling options sent with each request, as in temperature = 0.7.")
    memory: Memory = field(default_factory=Memory, metadata={"help": "What the model is shown of a session."})  # type: ignore[valid-type]
    fold: Fold = setting(Fold, "How old turns are folded into notes.")
    timeouts: Timeouts = setting(Timeouts, "How many seconds to wait for a server.")
    sessions: Sessions = setting(Sessions, "What happens to old sessions.")
    screen: Screen = setting(Screen, "How it looks, and how keys work.")
    profiles: dict[str, Server] = setting({}, "Named servers and models, for --profile and /profile.")
    prices: dict[str, Price] = setting({}, "Prices per model, for the toolbar and stats.")

    @property
    def strategies(self) -> list[Strategy]:
        """Every strategy, with its settings."""
        return [cast(Strategy, getattr(self.memory, name.replace("-", "_"))) for name in memory.STRATEGIES]

    @property
    def strategy(self) -> Strategy:
        """The strategy that was chosen, with its settings."""
        chosen: Any = self.memory
        name: str = chosen.strategy
        return cast(Strategy, getattr(chosen, name.replace("-", "_")))


class Layer(NamedTuple):
    """Values from one place, in the shape of the config file."""

    origin: str
    table: Mapping[str, Any]


class Config(NamedTuple):
    """The settings in force, and the origin of each that is not a default, by its dotted name."""

    settings: Settings
    origins: Mapping[str, str]


def resolve(layers: list[Layer]) -> Config:
    """Lay the layers over each other, lowest first, and read the result. Raises WrongUse naming the place."""
    for layer in layers:
        _checked(layer)
    layers = _with_profile(layers)
    table: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _lay(table, layer.table, layer.origin, origins, "")
    return Config(read(Settings, table), origins)


def layers_of(path: Path, session: Mapping[str, Any], flags: Mapping[str, Any]) -> list[Layer]:
    """All layers for a session's settings and a command's flags."""
    return [
        Layer(str(path), from_file(path)),
        Layer("environment", _usual_variables()),
        Layer("CHATMEM_*", _own_variables()),
        Layer("session", _nested(session)),
        Layer("flags", _nested(flags)),
    ]


def from_file(path: Path) -> dict[str, Any]:
    """What the config file says; nothing if there is none. Raises WrongUse with line and column."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WrongUse(f"The config {path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if len(data) > LARGEST:
        raise WrongUse(f"The config {path} is over {LARGEST >> 20} MB long.", "That is no config file.")
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise WrongUse(
            f"The config {path} is no UTF-8 (at line {line}, column {column}).", "Save it as UTF-8."
        ) from error
    except (ValueError, RecursionError) as error:
        raise WrongUse(f"The config {path} is no TOML: {error}.", "Open it with: chatmem config edit") from error
    if mode & 0o077 and os.name == "posix" and _has_key(table):
        raise WrongUse(f"The config {path} holds a key and can be read by others.", f"chmod 600 {path}")
    try:
        read(Settings, table)
    except WrongUse as error:
        place = _place_of(data.decode(), error.message)
        raise WrongUse(f"{path}{place}: {error.message}", error.hint) from error
    return table


def stored(session: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings of a session's record that hold here, and the names of those that make no sense."""
    good: dict[str, Any] = {}
    bad = []
    for name in ("model", "profile", "system", "memory", "options"):
        if name in session:
            try:
                read(Settings, _nested({name: session[name]}))
                good[name] = session[name]
            except WrongUse:
                bad.append(name)
    return good, bad


def walk(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every setting with its dotted name, its value and what is known of it."""
    for one in dataclasses.fields(settings):
        value, name = getattr(settings, one.name), f"{prefix}{one.name}"
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{name}.")
        elif isinstance(value, dict):
            for key, inner in value.items():
                if dataclasses.is_dataclass(inner):
                    yield from walk(inner, f"{name}.{key}.")
                else:
                    yield f"{name}.{key}", inner, {}
        else:
            yield name, value, one.metadata


def prompt_of(text: str) -> str:
    """A system prompt as given: the text, or with `@FILE` what is in the file. Raises WrongUse."""
    if not text.startswith("@"):
        return text
    try:
        with open(os.path.expanduser(text[1:]), encoding="utf-8") as file:  # noqa: PTH123
            return file.read(1 << 20)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise WrongUse(f"The system prompt {text[1:]!r} cannot be read: {reason}.") from error


def example() -> str:
    """A config file with every setting, its default and its sentence, all commented out."""
    lines = [
        "# chatmem's configuration. Everything is optional; each line shows the default.",
        "# chatmem config path says where this file belongs, chatmem config show --origin what is in force.",
        "# Flags, a session's own settings and environment variables win over it.",
        "",
    ]
    lines += _table_lines(Settings(), "")
    lines += ["", "# [options]", "# temperature = 0.7", "# max_tokens = 1000"]
    lines += ["", "# A profile may set any of the first ten settings above.", "# [profiles.local]"]
    lines += ['# base_url = "http://127.0.0.1:11434/v1"', '# model = "llama3.2"', '# api_key_env = ""']
    lines += ["", "# [profiles.work]", '# kind = "azure"', '# base_url = "https://NAME.openai.azure.com"']
    lines += ['# model = "DEPLOYMENT"', '# api_key_cmd = "pass show azure"']
    lines += ["", *_price_lines()]
    return "\n".join(lines) + "\n"


def _price_lines() -> list[str]:
    lines = ["# Money per million tokens.", '# [prices."gpt-4o-mini"]']
    for one in dataclasses.fields(Price):
        lines += [f"# {one.name} = 0.15    # {one.metadata['help']}"]
    return lines


def _table_lines(settings: Any, prefix: str) -> list[str]:
    lines, tables = [], []
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        name = one.name.replace("_", "-") if prefix == "memory." else one.name
        if dataclasses.is_dataclass(value):
            tables += [
                "",
                f"# {one.metadata['help']}",
                f"# [{prefix}{name}]",
                *_table_lines(value, f"{prefix}{name}."),
            ]
        elif not isinstance(value, dict):
            shown = one.metadata["example"] if value is None else value
            lines += [f"# {one.metadata['help']}", f"# {name} = {_toml(shown)}"]
    return lines + tables


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _nested(table: Mapping[str, Any]) -> dict[str, Any]:
    """A session's or a flag's settings in the shape of the config file: the strategy's own in its table."""
    table = {k: v for k, v in table.items() if v is not None}
    chosen = table.get("memory")
    if isinstance(chosen, Mapping) and "strategy" in chosen:
        name = str(chosen["strategy"])
        inner = {k: v for k, v in chosen.items() if k != "strategy"}
        table["memory"] = {"strategy": name, name: inner} if name in memory.STRATEGIES else {"strategy": name}
    return table


def _usual_variables() -> dict[str, Any]:
    names = {"OPENAI_BASE_URL": "base_url", "OPENAI_ORG_ID": "organization"}
    return {setting: value for variable, setting in names.items() if (value := os.environ.get(variable))}


def _own_variables() -> dict[str, Any]:
    names = ("model", "profile", "store", "user")
    table: dict[str, Any] = {n: value for n in names if (value := os.environ.get(f"CHATMEM_{n.upper()}"))}
    if spec := os.environ.get("CHATMEM_MEMORY"):
        table |= _nested({"memory": memory.table_of(spec)})
    return table


def _with_profile(layers: list[Layer]) -> list[Layer]:
    """The layers with the chosen profile's values below the layer that chose it."""
    chosen = next((i for i in range(len(layers) - 1, -1, -1) if layers[i].table.get("profile")), None)
    if chosen is None:
        return layers
    name = str(layers[chosen].table["profile"])
    profiles: dict[str, Any] = {}
    for layer in layers:
        profiles |= layer.table.get("profiles", {})
    if name not in profiles:
        hint = unknown(name, list(profiles)).hint if profiles else "Write one into the config: [profiles.NAME]"
        raise WrongUse(f"There is no profile {name!r}.", hint)
    table = dict(profiles[name])
    keys = {"api_key_env", "api_key_cmd", "api_key_keyring", "api_key"}
    if "base_url" in table or table.keys() & keys:  # the key of one server is not sent to another
        table = {**dict.fromkeys([*keys, "organization"], ""), **table}
    usual = next((i for i, layer in enumerate(layers) if layer.origin == "environment"), -1)
    place = max(chosen, usual + 1)
    return [*layers[:place], Layer(f"profile {name}", table), *layers[place:]]


def _checked(layer: Layer) -> None:
    try:
        read(Settings, layer.table)
    except WrongUse as error:
        if layer.origin in ("CHATMEM_*", "session", "environment"):
            raise WrongUse(
                f"From the {layer.origin.replace('CHATMEM_*', 'CHATMEM_ variables')}: {error.message}",
                error.hint,
            ) from error
        raise


def _lay(into: dict[str, Any], table: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str) -> None:
    for key, value in table.items():
        name = str(key).replace("-", "_") if prefix in ("", "memory.") else str(key)
        if isinstance(value, Mapping):
            inner = into.setdefault(name, {})
            _lay(inner if isinstance(inner, dict) else {}, value, origin, origins, f"{prefix}{name}.")
        else:
            into[name] = value
            origins[f"{prefix}{name}"] = origin


def _has_key(table: Mapping[str, Any]) -> bool:
    profiles = table.get("profiles")
    tables = [table, *(profiles.values() if isinstance(profiles, dict) else [])]
    return any(isinstance(t, dict) and t.get("api_key") for t in tables)


def _place_of(text: str, message: str) -> str:
    """Line and column of the setting that an error names, as well as a search can tell."""
    named = re.search(r"setting '([^']+)'|^([\w.\-]+) should", message)
    if not named:
        return ""
    key = re.escape((named[1] or named[2]).rpartition(".")[2])
    for number, line in enumerate(text.split("\n"), 1):
        if found := re.match(rf"\s*(?:\[.*\b)?[\"']?({key})\b", line):
            return f", line {number}, column {found.start(1) + 1}"
    return ""
