"""One small reader that turns a table of plain values into any frozen dataclass of settings.

A field is a setting: its type says what it may hold, `setting()` gives it its sentence. What does not fit
is refused with its full name, what it should be, and the nearest setting there is.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import re
import types
import typing
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from chatmem.errors import WrongUse

T = TypeVar("T")


def setting(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    example: Any = None,
    secret: bool = False,
) -> Any:
    """A dataclass field that is a setting: its default, one sentence, its bounds, an example where it is unset."""
    extra = {"help": help, "least": least, "most": most, "example": example, "secret": secret}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=extra)
    if dataclasses.is_dataclass(default) and isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=extra)
    return dataclasses.field(default=default, metadata=extra)


def read(cls: type[T], table: object, where: str = "") -> T:
    """The settings `cls` describes, from a table as TOML or JSON gives it. Raises WrongUse."""
    if not isinstance(table, Mapping):
        raise WrongUse(f"{where or 'The configuration'} should be a table, not {_shown(table)}.")
    kinds: dict[str, Any] = types_of(cls)  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        name = str(key).replace("-", "_")
        if name not in kinds:
            raise unknown(str(key), list(kinds), where)
        field = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
        values[name] = _value(kinds[name], value, f"{where}.{key}" if where else str(key), field.metadata)
    return cls(**values)


def unknown(key: str, known: list[str], where: str = "") -> WrongUse:
    """The error for a setting that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(key.replace("-", "_"), known, 1, 0.5)
    place = f" in {where}" if where else " here"
    hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
    return WrongUse(f"There is no setting {_shown(key)}{place}.", hint)


@cache
def types_of(cls: Hashable) -> dict[str, Any]:
    """Each setting of `cls` and the type that it may hold."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]


def from_text(kind: Any, text: str) -> Any:
    """A value as typed on a command line: `12`, `0.6`, `on`, or the text itself where that is wanted."""
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


def age(text: str, where: str = "") -> datetime.timedelta:
    """What `30d`, `12w` or `1y` means. Raises WrongUse, with the name of the setting that holds it."""
    found = re.fullmatch(r"(\d{1,5})\s*([hdwmy])", text.strip().lower())
    if not found or not int(found[1]):
        raise WrongUse(f"{where + ' = ' if where else ''}{text!r} is no age.", "Write it as 30d, 12w, 6m or 1y.")
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


def _value(kind: Any, value: object, where: str, extra: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read(kind, value, where)
    origin = get_origin(kind)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise WrongUse(f"{where} should be a table, not {_shown(value)}.")
        inner = get_args(kind)[1]
        return {str(k): v if inner is Any else _value(inner, v, f"{where}.{k}", {}) for k, v in value.items()}
    allowed = get_args(kind) if origin in (types.UnionType, typing.Union) else (kind,)
    if value is None and type(None) in allowed:
        return None
    for one in allowed:
        if (fitting := _fits(one, value)) is not None and _within(fitting, extra):
            return fitting
    raise WrongUse(f"{where} should be {_wanted(allowed, extra)}, not {_shown(value)}.")


def _fits(kind: Any, value: object) -> Any:
    """The value as this kind holds it, or None if it is none."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value == value else None
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(value) if all(type(v) is get_args(kind)[0] for v in value) else None
    return value if type(value) is kind else None


def _within(value: object, extra: Mapping[str, Any]) -> bool:
    if type(value) not in (int, float):
        return True
    least, most = extra.get("least"), extra.get("most")
    return (least is None or value >= least) and (most is None or value <= most)


def _wanted(kinds: tuple[Any, ...], extra: Mapping[str, Any]) -> str:
    least, most = extra.get("least"), extra.get("most")
    bounds = f" from {least} to {most}" if least is not None and most is not None else ""
    bounds = bounds or (f" of at least {least}" if least is not None else "")
    words = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            words += [repr(choice) for choice in get_args(kind)]
        elif kind is not type(None):
            words.append(
                {int: f"a whole number{bounds}", float: f"a number{bounds}", bool: "true or false"}.get(kind)
                or _NOUN.get(kind, "a list of texts")
            )
    return " or ".join(words)


_NOUN: dict[Any, str] = {str: "a text", dict: "a table"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
