"""What the model is shown: the table of strategies, and the one place their settings are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatmem.errors import WrongUse
from chatmem.memory.base import Strategy
from chatmem.memory.buffer import Buffer
from chatmem.memory.summary import SummaryStrategy
from chatmem.memory.token_trim import TokenTrim
from chatmem.memory.window import Window
from chatmem.settings import from_text, read, types_of, unknown

STRATEGIES: dict[str, type[Strategy]] = {s.name: s for s in (Buffer, Window, TokenTrim, SummaryStrategy)}


def from_table(table: Mapping[str, Any]) -> Strategy:
    """The strategy a session's record or a config describes: `{"strategy": "window", "turns": 6}`."""
    settings = dict(table)
    return read(_class(str(settings.pop("strategy", SummaryStrategy.name))), settings, "memory")


def table_of(spec: str) -> dict[str, Any]:
    """What `NAME[:N][,SETTING=VALUE…]` says, as such a table. Raises WrongUse.

    A bare number means exactly that: it also sets what `exact` of the strategy names.
    """
    head, *pairs = spec.split(",")
    name, colon, number = (part.strip() for part in head.partition(":"))
    cls = _class(name)
    table: dict[str, Any] = {"strategy": name}
    kinds = types_of(cls)
    if colon:
        if cls.number is None:
            raise WrongUse(f"{name} takes no number.", f"Write {name!r} alone.")
        table[cls.number] = from_text(kinds[cls.number], number)
        table |= cls.exact
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        key = key.replace("-", "_")
        if not equals:
            raise WrongUse(f"{pair.strip()!r} is no setting.", f"Write SETTING=VALUE, as in {cls.example!r}.")
        if key not in kinds:
            raise unknown(key, list(kinds), f"memory {name}")
        table[key] = from_text(kinds[key], value)
    from_table(table)
    return table


def spec_of(strategy: Strategy) -> str:
    """The shortest spec that means this strategy: what differs from its defaults."""
    table = strategy.table()
    number = table.pop(strategy.number, None) if strategy.number else None
    head = f"{strategy.name}:{number}" if number is not None else strategy.name
    if number is not None:
        for key, value in strategy.exact.items():
            if table.get(key) == value:
                table.pop(key, None)
            else:
                table.setdefault(key, getattr(type(strategy)(), key))
    return ",".join([head, *(f"{key}={value}" for key, value in table.items())])


def _class(name: str) -> type[Strategy]:
    if name not in STRATEGIES:
        near = unknown(name, list(STRATEGIES)).hint
        raise WrongUse(f"There is no memory strategy {name!r}.", near)
    return STRATEGIES[name]
