"""Typer commands whose help is not cut, and which do not import pydantic to convert parameters: that takes long.

Typer builds a pydantic adapter for every parameter, even for defaults. A value that is the parameter's default, and a
string where a string is expected, need no conversion. Everything else goes through Typer, errors included.

`process_value`, `type_descriptor` and `display_type_rich` are not documented; tried with Typer 0.26 to 0.29. If they
change, Typer converts every parameter, which is slower, or shows the types of arguments, such as `<list[str]>`, and
`tests/test_private_parts.py` fails.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup


class FastParamsCommand(TyperCommand):
    """A command that takes defaults and plain strings as they are."""

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first sentence of the help, whole: lists of commands wrap it."""
        return self.help.partition("\n")[0].partition(". ")[0].rstrip(".") + "." if self.help else ""

    def get_params(self, ctx: Any) -> list[Any]:
        return _make_fast(super().get_params(ctx))


class FastParamsGroup(TyperGroup):
    """A group of commands, with the same for its own options."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _make_fast(super().get_params(ctx))


def _make_fast(params: list[Any]) -> list[Any]:
    for param in params:
        convert = getattr(param, "process_value", None)
        if callable(convert) and not isinstance(convert, partial):
            param.process_value = partial(_skip_coercion, param, convert)
        if isinstance(param, TyperArgument) and param.metavar and hasattr(param, "display_type_rich"):
            vars(param)["display_type_rich"] = _no_type
    return params


def _no_type(ctx: Any) -> str:
    return ""


def _skip_coercion(param: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """The value of a parameter, as it is if it needs no conversion."""
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    is_default = (value is None and not param.required) or (value is not None and value == param.default)
    is_string = kind is str and isinstance(value, str)
    if param.nargs != 1 or param.multiple or not (is_default or is_string):
        return convert(ctx, value)
    return param.callback(ctx, param, value) if param.callback else value
