"""Where the values of settings come from, and which one wins.

Layers, later ones win: defaults, config.toml, the usual environment variables, CHATMEM_* variables, the settings stored
in the session, flags. The values of a profile rank just below the layer that chose it, but above the usual variables.
No `.env` and no file of the current directory is read, so that a cloned repository cannot redirect a conversation.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chatmem.config.schema import SettingError, from_mapping, unknown_setting, with_current_names
from chatmem.config.settings import ConfigSchema, Settings
from chatmem.errors import Action, UsageError
from chatmem.input_files import open_input, read_input

MAX_FILE_BYTES = 1 << 20
"""The largest config file or system prompt file that is read."""

SESSION_SETTINGS = ("model", "profile", "system", "memory", "options", "facts")
"""The settings that a session may store."""


class Layer(NamedTuple):
    """Values from one origin, in the shape of the config file."""

    origin: str
    table: Mapping[str, Any]


class Config(NamedTuple):
    """The current settings, and the origin of each one that is not a default, by its dotted name."""

    settings: Settings
    origins: Mapping[str, str]


def resolve(schema: ConfigSchema, layers: list[Layer]) -> Config:
    """Merge the layers, lowest first, and validate the result. Raises UsageError naming the origin."""
    layers = [Layer(layer.origin, _checked(schema, layer)) for layer in layers]
    table: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in _with_profile(layers):
        _merge(table, layer.table, layer.origin, origins, "")
    return Config(from_mapping(schema.settings_class, table), origins)


def base_layers(schema: ConfigSchema, path: Path | None) -> list[Layer]:
    """The layers that are the same for every session: the config file, unless `path` is None, and the environment."""
    return [
        *([Layer(str(path), load_file(schema, path))] if path else []),
        Layer("environment", _usual_variables()),
        Layer("CHATMEM_*", _own_variables(schema)),
    ]


def file_version(path: Path) -> tuple[int, int, int] | None:
    """Differs whenever the file was changed. None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def load_file(schema: ConfigSchema, path: Path) -> dict[str, Any]:
    """The content of the config file, empty if there is none. Raises UsageError with line and column."""
    try:
        with open_input(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"Cannot read the config {path}: {error.strerror}.", "Check its permissions.") from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"The config {path} is larger than {MAX_FILE_BYTES >> 20} MB.", "Check the path.")
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise UsageError(
            f"The config {path} is not UTF-8 (line {line}, column {column}).", "Save it as UTF-8."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The config {path} is not valid TOML: {error}.", action=Action("edit_config")) from error
    if mode & 0o077 and os.name == "posix" and _contains_key(table):
        raise UsageError(f"The config {path} holds an API key and other users can read it.", f"chmod 600 {path}")
    try:
        from_mapping(schema.settings_class, table)
    except SettingError as error:
        location = _locate(data.decode(), error.setting)
        raise UsageError(f"{path}{location}: {error.message}", error.hint) from error
    return table


def validate_session_settings(schema: ConfigSchema, stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The stored settings of a session that are valid here, and the names of those that are not."""
    valid: dict[str, Any] = {}
    invalid = []
    for name in SESSION_SETTINGS:
        if name in stored:
            try:
                from_mapping(schema.settings_class, schema.nested({name: stored[name]}))
                valid[name] = stored[name]
            except UsageError:
                invalid.append(name)
    return valid, invalid


def read_system_prompt(text: str) -> str:
    """A system prompt: the text itself, or for `@FILE` the content of the file. Raises UsageError."""
    if not text.startswith("@"):
        return text
    try:
        return read_input(Path(text[1:]).expanduser(), MAX_FILE_BYTES).decode()
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"Cannot read the system prompt {text[1:]!r}: {reason}.") from error


def _usual_variables() -> dict[str, Any]:
    names = {"OPENAI_BASE_URL": "base_url", "OPENAI_ORG_ID": "organization"}
    return {setting: value for variable, setting in names.items() if (value := os.environ.get(variable))}


def _own_variables(schema: ConfigSchema) -> dict[str, Any]:
    names = ("model", "profile", "store", "user")
    table: dict[str, Any] = {n: value for n in names if (value := os.environ.get(f"CHATMEM_{n.upper()}"))}
    if spec := os.environ.get("CHATMEM_MEMORY"):
        table |= schema.nested({"memory": schema.parse_spec(spec)})
    return table


def _checked(schema: ConfigSchema, layer: Layer) -> dict[str, Any]:
    """The table of a layer under the current names of its settings. Raises UsageError naming the origin."""
    try:
        from_mapping(schema.settings_class, layer.table)
    except UsageError as error:
        if layer.origin in ("CHATMEM_*", "session", "environment"):
            origin = layer.origin.replace("CHATMEM_*", "CHATMEM_ variables")
            raise UsageError(f"From the {origin}: {error.message}", error.hint) from error
        raise
    return with_current_names(schema.settings_class, layer.table)


def _with_profile(layers: list[Layer]) -> list[Layer]:
    """The layers, with those of the chosen profile inserted below the layer that chose it."""
    chosen = next((i for i in range(len(layers) - 1, -1, -1) if layers[i].table.get("profile")), None)
    if chosen is None:
        return layers
    name = str(layers[chosen].table["profile"])
    profiles: dict[str, Any] = {}
    for layer in layers:
        profiles |= layer.table.get("profiles", {})
    if name not in profiles:
        hint = unknown_setting(name, list(profiles)).hint if profiles else "Add [profiles.NAME] to the config."
        raise UsageError(f"Unknown profile {name!r}.", hint.replace("Known settings", "Profiles"))
    table = dict(profiles[name])
    keys = {"api_key_env", "api_key_cmd", "api_key_keyring", "api_key"}
    if "base_url" in table or table.keys() & keys:  # never send the key of one server to another
        table = {**dict.fromkeys([*keys, "organization"], ""), **table}
    usual = next((i for i, layer in enumerate(layers) if layer.origin == "environment"), -1)
    position = max(chosen, usual + 1)
    return [*layers[:position], Layer(f"profile {name}", table), *layers[position:]]


def _merge(into: dict[str, Any], table: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str) -> None:
    for key, value in table.items():
        name = str(key).replace("-", "_") if prefix in ("", "memory.") else str(key)
        if isinstance(value, Mapping):
            inner = into.setdefault(name, {})
            _merge(inner if isinstance(inner, dict) else {}, value, origin, origins, f"{prefix}{name}.")
        else:
            into[name] = value
            origins[f"{prefix}{name}"] = origin


def _contains_key(table: Mapping[str, Any]) -> bool:
    profiles = table.get("profiles")
    tables = [table, *(profiles.values() if isinstance(profiles, dict) else [])]
    return any(isinstance(t, dict) and t.get("api_key") for t in tables)


def _locate(text: str, setting: str) -> str:
    """Line and column of a setting in the config file, as far as a text search can tell."""
    key = re.escape(setting.rpartition(".")[2])
    for number, line in enumerate(text.split("\n"), 1):
        if found := re.match(rf"\s*(?:\[.*\b)?[\"']?({key})\b", line):
            return f", line {number}, column {found.start(1) + 1}"
    return ""
