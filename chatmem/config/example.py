"""The example config file, and a walk over all settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from chatmem.config.settings import ConfigSchema, Price

_PROFILES = """\

# [options]
# temperature = 0.7
# max_tokens = 1000

# A profile may hold any of the settings above that no [table] holds, up to api_version.
# [profiles.local]
# base_url = "http://127.0.0.1:11434/v1"
# model = "llama3.2"
# api_key_env = ""

# [profiles.work]
# kind = "azure"
# base_url = "https://NAME.openai.azure.com"
# model = "DEPLOYMENT"
# api_key_cmd = "pass show azure"
"""
_EXAMPLE_PRICE = Price(prompt=0.1, completion=0.5, cached=0.01)


def example_config(schema: ConfigSchema) -> str:
    """A config file with every setting, its help text and its default, all commented out."""
    lines = [
        "# Configuration of chatmem. Every setting is optional. Lines show the default, or are marked as an example.",
        "# chatmem config path prints where this file belongs. chatmem config show --origin prints current settings.",
        "# Flags, the settings of a session and environment variables take precedence over this file.",
        "",
        *_table_lines(schema.settings_class(), ""),
        *_PROFILES.splitlines(),
        "",
        "# Prices in dollars per million tokens, instead of the published ones.",
        '# [prices."gpt-6-luna"]',
    ]
    for field in dataclasses.fields(Price):
        lines.append(f"# {field.name} = {getattr(_EXAMPLE_PRICE, field.name)}    # {field.metadata['help']}")
    return "\n".join(lines) + "\n"


def iter_settings(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every setting: its dotted name, its value and the metadata of its field."""
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from iter_settings(value, f"{name}.")
        elif isinstance(value, dict):
            for key, inner in value.items():
                if dataclasses.is_dataclass(inner):
                    yield from iter_settings(inner, f"{name}.{key}.")
                else:
                    yield f"{name}.{key}", inner, {}
        else:
            yield name, value, field.metadata


def _table_lines(settings: Any, prefix: str) -> list[str]:
    lines, tables = [], []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = field.name.replace("_", "-") if prefix == "memory." else field.name
        if dataclasses.is_dataclass(value):
            inner = _table_lines(value, f"{prefix}{name}.")
            tables += ["", f"# {field.metadata['help']}", f"# [{prefix}{name}]", *inner]
        elif not isinstance(value, dict):
            shown = _to_toml(field.metadata["example"]) + "    # an example" if value is None else _to_toml(value)
            lines += [f"# {field.metadata['help']}", f"# {name} = {shown}"]
    return lines + tables


def _to_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
