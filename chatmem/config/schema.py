"""Validation of plain mappings, as TOML and JSON produce them, into frozen dataclasses of settings.

A dataclass field is a setting. Its type says which values are valid; `option_field` adds its help text, bounds and
example. An invalid value is reported with its full name, what is expected, and the nearest setting that exists.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from chatmem.errors import UsageError
from chatmem.text import truncate

T = TypeVar("T")


class SettingError(UsageError):
    """An unknown setting or an invalid value. `setting` is its dotted name."""

    def __init__(self, setting: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.setting = setting


def option_field(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    example: Any = None,
    secret: bool = False,
    former_name: str = "",
) -> Any:
    """A dataclass field that is a setting.

    `example` is shown in the example config if the default is None. Values under `former_name` are still read.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "example": example, "secret": secret}
    metadata["former_name"] = former_name
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    if dataclasses.is_dataclass(default) and isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_mapping(cls: type[T], table: object, path: str = "") -> T:
    """An instance of the settings class `cls` from a mapping. `path` is the dotted name of the mapping.

    Raises SettingError for unknown settings and invalid values.
    """
    if not isinstance(table, Mapping):
        raise SettingError(path, f"{path or 'The configuration'} must be a table, not {_display(table)}.")
    kinds = field_types(cls)  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    values = {}
    for name, key, value in _by_current_name(cls, table):
        if name not in kinds:
            raise unknown_setting(key, list(kinds), path)
        given[name] = _merged(given.get(name), value)
        field = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
        values[name] = _validate(kinds[name], given[name], f"{path}.{key}" if path else key, field.metadata)
    return cls(**values)


def with_current_names(cls: Any, table: Mapping[Any, Any]) -> dict[Any, Any]:
    """The mapping with former names of settings replaced by current ones, in nested mappings too."""
    kinds, renamed = field_types(cls), former_names(cls)
    current: dict[Any, Any] = {}
    for name, key, value in _by_current_name(cls, table):
        if dataclasses.is_dataclass(kinds.get(name)) and isinstance(value, Mapping):
            value = with_current_names(kinds[name], value)
        key = name if key.replace("-", "_") in renamed else key
        current[key] = _merged(current.get(key), value)
    return current


def _by_current_name(cls: Any, table: Mapping[Any, Any]) -> list[tuple[str, str, Any]]:
    """The current name, the given name and the value of each setting, those under former names first."""
    renamed = former_names(cls)
    names = [(str(key).replace("-", "_"), str(key), value) for key, value in table.items()]
    names.sort(key=lambda item: item[0] not in renamed)
    return [(renamed.get(name, name), key, value) for name, key, value in names]


def _merged(former: object, value: Any) -> Any:
    """A value, with what only the table under its former name sets."""
    return {**former, **value} if isinstance(former, Mapping) and isinstance(value, Mapping) else value


@cache
def former_names(cls: Any) -> dict[str, str]:
    """From the former names of the settings of `cls` to their current names."""
    fields = dataclasses.fields(cls)
    return {former: f.name for f in fields if (former := f.metadata.get("former_name"))}


def unknown_setting(key: str, known: list[str], path: str = "") -> SettingError:
    """The error for a setting that does not exist, with the nearest one that does."""
    from difflib import get_close_matches  # imported lazily: slow

    near = get_close_matches(key.replace("-", "_"), known, 1, 0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known settings: {', '.join(known)}."
    return SettingError(
        f"{path}.{key}" if path else key, f"Unknown setting {_display(key)}{f' in {path}' if path else ''}.", hint
    )


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The type of each setting of the dataclass `cls`, by name."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def parse_value(kind: Any, text: str) -> Any:
    """A value as typed on a command line: a number or a switch where `kind` allows one, else the text itself."""
    kinds = get_args(kind) if get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    if bool in kinds and text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    for number in (int, float):
        if number in kinds:
            try:
                return number(text.replace("_", ""))
            except ValueError:
                pass
    return text


def parse_duration(text: str, setting: str = "") -> datetime.timedelta:
    """The duration that `12h`, `30d`, `12w`, `6m` or `1y` stands for. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,5})\s*([hdwmy])", text.strip().lower())
    if not found or not int(found[1]):
        raise UsageError(
            f"{setting + ' = ' if setting else ''}{text!r} is not a duration.", "Write it as 30d, 12w, 6m or 1y."
        )
    hours = {"h": 1, "d": 24, "w": 168, "m": 730.5, "y": 8766}[found[2]]
    return datetime.timedelta(hours=int(found[1]) * hours)


_SWITCHES = {
    "on": True,
    "true": True,
    "yes": True,
    "1": True,
    "off": False,
    "false": False,
    "no": False,
    "0": False,
}


def _validate(kind: Any, value: object, path: str, metadata: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_mapping(kind, value, path)
    origin = get_origin(kind)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SettingError(path, f"{path} must be a table, not {_display(value)}.")
        inner = get_args(kind)[1]
        return {str(k): v if inner is Any else _validate(inner, v, f"{path}.{k}", {}) for k, v in value.items()}
    allowed = get_args(kind) if origin in (types.UnionType, typing.Union) else (kind,)
    if value is None and type(None) in allowed:
        return None
    for one in allowed:
        if (converted := _convert(one, value)) is not None and _is_in_bounds(converted, metadata):
            return converted
    raise SettingError(path, f"{path} must be {_describe(allowed, metadata)}, not {_display(value)}.")


def _convert(kind: Any, value: object) -> Any:
    """The value as an instance of `kind`, or None if it is not one."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value == value else None
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(value) if all(type(v) is get_args(kind)[0] for v in value) else None
    return value if type(value) is kind else None


def _is_in_bounds(value: object, metadata: Mapping[str, Any]) -> bool:
    if type(value) not in (int, float):
        return True
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _describe(kinds: tuple[Any, ...], metadata: Mapping[str, Any]) -> str:
    """The valid values in words."""
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    bounds = f" from {minimum} to {maximum}" if minimum is not None and maximum is not None else ""
    bounds = bounds or (f" of at least {minimum}" if minimum is not None else "")
    names = {int: f"a whole number{bounds}", float: f"a number{bounds}", bool: "true or false", str: "a string"}
    words: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += [repr(choice) for choice in get_args(kind)]
        elif kind is not type(None):
            words.append(names.get(kind) or ("a table" if kind is dict else "a list of strings"))
    return " or ".join(words)


def _display(value: object) -> str:
    return truncate(repr(value), 60)
