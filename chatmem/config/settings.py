"""Every setting there is, as dataclasses: a field is a setting, its help text stands in `config.example.toml`.

The settings of memory strategies are defined by the strategies. `ConfigSchema` adds them, plug-ins included, so that
this package imports none of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from chatmem.config.schema import option_field


@dataclass(frozen=True)
class ProviderSettings:
    """A model and its server: the settings that a profile may hold."""

    model: str | None = option_field(
        None,
        "The model to use. Unset: the first one the server lists, or gpt-6-luna at OpenAI.",
        example="gpt-6-luna",
    )
    base_url: str | None = option_field(
        None, "The base URL of the server, such as http://127.0.0.1:11434/v1.", example="http://127.0.0.1:11434/v1"
    )
    api_key_env: str = option_field(
        "OPENAI_API_KEY", "The environment variable that holds the API key. Empty: no variable."
    )
    api_key_cmd: str | None = option_field(
        None, "A command that prints the API key, such as 'pass show openai'.", example="pass show openai"
    )
    api_key_keyring: str | None = option_field(
        None, "The keyring service that holds the API key (pip install keyring).", example="openai"
    )
    api_key: str | None = option_field(
        None,
        "The API key itself. Only read from a file that other users cannot read.",
        example="sk-…",
        secret=True,
    )
    organization: str | None = option_field(None, "The OpenAI organization id.", example="org-…")
    context_window: int | None = option_field(
        None,
        "The model's context window in tokens, prompt and reply together. Unset: ask the server.",
        minimum=64,
        example=32768,
    )
    kind: Literal["openai", "azure"] = option_field("openai", "The API of the server: openai or azure.")
    provider: Literal["openai"] | None = option_field(
        None, "Whose models a proxy on this machine or network passes on: openai.", example="openai"
    )
    api_version: str = option_field("2024-10-21", "The Azure OpenAI API version. The model is the deployment name.")


@dataclass(frozen=True)
class SummarySettings:
    """Settings for summaries of older turns."""

    model: str | None = option_field(
        None, "A cheaper model for summaries. Unset: the model of the chat.", example="gpt-6-luna"
    )
    wait: float = option_field(
        10.0,
        "Seconds that ask and piped chat wait at most for a running summary before they exit, and never longer than "
        "twice the time of the reply, or one second. 0: do not wait.",
        minimum=0,
    )


@dataclass(frozen=True)
class TimeoutSettings:
    """Time limits for servers, in seconds."""

    connect: float = option_field(10.0, "Seconds to wait for a connection.", minimum=0.01)
    first_token: float | None = option_field(
        None,
        "Seconds to wait for the first token. Unset: 120, or 600 for a server on this machine.",
        minimum=0.01,
        example=120.0,
        former_name="first",
    )
    idle: float = option_field(
        120.0, "Seconds without text after which a reply counts as interrupted.", minimum=0.01, former_name="silence"
    )


@dataclass(frozen=True)
class LimitSettings:
    """Limits of what replies may cost."""

    per_day: float | None = option_field(
        None,
        "The most dollars per day, of your requests on this machine. A request that may exceed it is not sent. Models "
        "without a price are not stopped.",
        minimum=0,
        example=2.0,
    )


@dataclass(frozen=True)
class RetentionSettings:
    """How long sessions are kept."""

    expire: str | None = option_field(
        None, "Move sessions unused for this long to the trash at start, such as '30d'.", example="30d"
    )


@dataclass(frozen=True)
class UISettings:
    """Appearance and key bindings."""

    theme: Literal["auto", "dark", "light", "plain"] = option_field(
        "auto",
        "Colors for a dark or a light background; auto suits both. plain is for screen readers: no colors, no frames, "
        "and nothing on the screen changes.",
    )
    toolbar: bool = option_field(True, "Show session, model and context usage below the prompt.")
    editing: Literal["emacs", "vi"] = option_field("emacs", "Key bindings of the prompt: emacs or vi.")
    multiline: bool = option_field(False, "Enter inserts a new line and Alt-Enter sends, instead of the reverse.")
    bell: bool = option_field(
        True, "Announce the end of a reply that took 10 seconds or more while another window had the focus."
    )
    history: bool = option_field(True, "Remember what was typed, for Ctrl-R and suggestions.")


@dataclass(frozen=True)
class Price:
    """The price of a model in dollars per million tokens."""

    prompt: float = option_field(0.0, "Price per million prompt tokens.", minimum=0)
    completion: float = option_field(0.0, "Price per million completion tokens.", minimum=0)
    cached: float | None = option_field(
        None, "Price per million cached prompt tokens. Unset: the prompt price.", minimum=0, example=0.075
    )


@dataclass(frozen=True)
class Settings(ProviderSettings):
    """All settings. `ConfigSchema.settings_class` adds those of the memory strategies."""

    profile: str | None = option_field(None, "The profile to use, one of [profiles.NAME].", example="local")
    system: str | None = option_field(
        None, "The system prompt of sessions that have none of their own.", example="You are brief."
    )
    store: str = option_field(
        "file", "Where sessions are stored: file, sqlite:///PATH, redis://…, postgresql://…, mongodb://…"
    )
    user: str | None = option_field(None, "Whose sessions to use. Unset: the default user.", example="nemo")
    discover: bool = option_field(
        True, "Look for local servers on their usual ports if no server or key is configured."
    )
    facts: Literal["on", "off"] = option_field(
        "on", "Whether the model is told the facts about you that /remember and chatmem facts keep."
    )
    facts_tokens: int = option_field(
        400, "The most tokens of these facts, and at most a tenth of the budget. The newest ones are sent.", minimum=0
    )
    titles: Literal["on", "off"] = option_field(
        "on", "Whether the model that makes summaries also makes a title for a session, after its first reply."
    )
    options: dict[str, Any] = option_field({}, "Sampling options sent with each request, such as temperature = 0.7.")
    memory: Any = None
    summaries: SummarySettings = option_field(
        SummarySettings, "Settings for summaries of older turns.", former_name="fold"
    )
    timeouts: TimeoutSettings = option_field(TimeoutSettings, "Time limits for servers.")
    limits: LimitSettings = option_field(LimitSettings, "Limits of what replies may cost.")
    sessions: RetentionSettings = option_field(RetentionSettings, "How long sessions are kept.")
    screen: UISettings = option_field(UISettings, "Appearance and key bindings.")
    profiles: dict[str, ProviderSettings] = option_field({}, "Named servers and models, for --profile and /profile.")
    prices: dict[str, Price] = option_field({}, "Prices per model in dollars, instead of the published ones.")

    @property
    def strategies(self) -> list[Any]:
        """Every memory strategy with its settings."""
        return [getattr(self.memory, f.name) for f in dataclasses.fields(self.memory) if f.name != "strategy"]

    @property
    def strategy(self) -> Any:
        """The current memory strategy, with its settings."""
        return getattr(self.memory, self.memory.strategy.replace("-", "_"))


@dataclass(frozen=True)
class ConfigSchema:
    """All settings, those of the memory strategies included.

    `strategies` maps a strategy's name to its settings dataclass, whose first docstring line is its help text.
    `parse_spec` turns a memory spec such as `window:6` into a mapping of settings.
    """

    strategies: Mapping[str, type]
    parse_spec: Callable[[str], dict[str, Any]]
    default_strategy: str = "summary"

    @cached_property
    def settings_class(self) -> type[Settings]:
        fields: list[tuple[str, Any, Any]] = [
            (
                "strategy",
                Literal[tuple(self.strategies)],
                option_field(self.default_strategy, f"The strategy: {', '.join(self.strategies)}."),
            )
        ]
        for name, cls in self.strategies.items():
            fields.append((name.replace("-", "_"), cls, option_field(cls, (cls.__doc__ or "").splitlines()[0])))
        memory = dataclasses.make_dataclass("MemorySettings", fields, frozen=True)
        field = option_field(memory, "What the model is sent of a session.")
        return dataclasses.make_dataclass("Settings", [("memory", memory, field)], bases=(Settings,), frozen=True)

    def nested(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a session or of flags in the shape of the config file, without unset ones.

        A strategy's own settings move into its table: `{"strategy": "window", "turns": 6}` becomes
        `{"strategy": "window", "window": {"turns": 6}}`.
        """
        table = {name: value for name, value in table.items() if value is not None}
        chosen = table.get("memory")
        if isinstance(chosen, Mapping) and "strategy" in chosen:
            name = str(chosen["strategy"])
            inner = {k: v for k, v in chosen.items() if k != "strategy"}
            table["memory"] = {"strategy": name, name: inner} if name in self.strategies else {"strategy": name}
        return table
