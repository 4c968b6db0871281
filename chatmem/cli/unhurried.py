"""Commands that do not load pydantic to find out that nothing was given: a quarter of the way to the prompt.

Typer builds an adapter of pydantic for every parameter, whatever its value. A value that is its parameter's default,
and a text where a text is wanted, are what they are; everything else goes Typer's way, errors and all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup


class UnhurriedCommand(TyperCommand):
    """A command whose defaults and plain texts are taken as they are."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _unhurried(super().get_params(ctx))


class UnhurriedGroup(TyperGroup):
    """A group of commands, the same for its own options."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _unhurried(super().get_params(ctx))


def _unhurried(params: list[Any]) -> list[Any]:
    for param in params:
        if not isinstance(param.process_value, partial):
            param.process_value = partial(_taken, param, param.process_value)
    return params


def _taken(param: Any, otherwise: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    """A parameter's value: as it is if there is nothing to find out about it."""
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    plain = (value is None and not param.required) or (value is not None and value == param.default)
    if param.nargs != 1 or param.multiple or not (plain or (kind is str and isinstance(value, str))):
        return otherwise(ctx, value)
    return param.callback(ctx, param, value) if param.callback else value
