"""Memory strategies: the table of them, and specs such as `window:6`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from chatmem.config.schema import (
    field_types,
    former_names,
    from_mapping,
    parse_value,
    unknown_setting,
    with_current_names,
)
from chatmem.errors import UsageError
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.strategies.buffer import BufferStrategy
from chatmem.memory.strategies.summary import SummaryStrategy
from chatmem.memory.strategies.token_trim import TokenTrimStrategy
from chatmem.memory.strategies.window import WindowStrategy

STRATEGIES: dict[str, type[Strategy]] = {
    s.name: s for s in (BufferStrategy, WindowStrategy, TokenTrimStrategy, SummaryStrategy)
}


def strategy_from_mapping(table: Mapping[str, Any]) -> Strategy:
    """The strategy that a session's record or a config describes, such as `{"strategy": "window", "turns": 6}`."""
    settings = dict(table)
    return from_mapping(_find(str(settings.pop("strategy", SummaryStrategy.name))), settings, "memory")


def parse_spec(spec: str) -> dict[str, Any]:
    """The mapping that the spec `NAME[:N][,SETTING=VALUE…]` stands for. Raises UsageError.

    A number also sets what the strategy's `spec_implies` says, so that it means exactly N.
    """
    head, *pairs = spec.split(",")
    name, colon, number = (part.strip() for part in head.partition(":"))
    cls = _find(name)
    table: dict[str, Any] = {"strategy": name}
    kinds = field_types(cls)
    if colon:
        if cls.spec_number is None:
            raise UsageError(f"{name} takes no number.", f"Write {name!r} alone.")
        table[cls.spec_number] = parse_value(kinds[cls.spec_number], number)
        table |= cls.spec_implies
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        key = key.replace("-", "_")
        key = former_names(cls).get(key, key)
        if not equals:
            raise UsageError(f"{pair.strip()!r} is not a setting.", f"Write SETTING=VALUE, as in {cls.example!r}.")
        if key not in kinds:
            raise unknown_setting(key, list(kinds), f"memory {name}")
        table[key] = parse_value(kinds[key], value)
    strategy_from_mapping(table)
    return table


def format_spec(strategy: Strategy) -> str:
    """The shortest spec that stands for this strategy."""
    table = strategy.to_mapping()
    number = table.pop(strategy.spec_number, None) if strategy.spec_number else None
    head = f"{strategy.name}:{number}" if number is not None else strategy.name
    if number is not None:
        for key, value in strategy.spec_implies.items():
            if table.get(key) == value:
                table.pop(key, None)
            else:
                table.setdefault(key, getattr(type(strategy)(), key))
    return ",".join([head, *(f"{key}={_format_value(value)}" for key, value in table.items())])


def _format_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def canonical_spec(spec: str) -> str:
    """A stored spec with the current names of its settings, so that it compares equal to `format_spec`."""
    try:
        return format_spec(strategy_from_mapping(parse_spec(spec)))
    except UsageError:
        return spec


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a session stores them, with the current names of those of its memory strategy."""
    memory = settings.get("memory")
    cls = STRATEGIES.get(str(memory.get("strategy"))) if isinstance(memory, Mapping) else None
    return {**settings, "memory": with_current_names(cls, memory)} if cls and memory else dict(settings)


def _find(name: str) -> type[Strategy]:
    if name not in STRATEGIES:
        hint = unknown_setting(name, list(STRATEGIES)).hint.replace("Known settings", "Strategies")
        raise UsageError(f"Unknown memory strategy {name!r}.", hint)
    return STRATEGIES[name]
