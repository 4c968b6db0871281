"""Wiring: from settings to store, model, memory strategy and chat."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatmem.chat.chat import Chat
from chatmem.chat.fact_book import FactBook
from chatmem.chat.turn_config import ResolveTurn, TurnConfig
from chatmem.config import loading
from chatmem.config.loading import Config, Layer
from chatmem.config.schema import parse_duration
from chatmem.config.settings import ConfigSchema, Settings
from chatmem.errors import Action, AuthenticationError, ChatmemError, Notify, ServerError, ignore_notices
from chatmem.history.records import Record, Usage
from chatmem.memory.strategies import STRATEGIES, parse_spec
from chatmem.models.api_keys import api_key_getter
from chatmem.models.base import OFFLINE, Model, Options, StreamChunk, is_nearby
from chatmem.models.discovery import context_window_of, find_local_servers
from chatmem.models.model_facts import ModelFacts
from chatmem.models.prices import PublicModel, PublicModels, cost
from chatmem.paths import Paths
from chatmem.stores import SessionStore, open_store
from chatmem.stores.base import Progress, no_progress
from chatmem.tokens.calibration import Calibration
from chatmem.tokens.counter import REQUEST_OVERHEAD, Counter, counter_for_model

if TYPE_CHECKING:
    from chatmem.models.spending import Meter, Spending

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-6-luna"
LEARNED_WINDOW_TTL = 86_400.0
"""Seconds after which a window that was learned from a refused request is forgotten."""
MIN_WINDOW = 64
HOW_TO_CONNECT = (
    "Set OPENAI_API_KEY, start a local server such as Ollama, or set OPENAI_BASE_URL to the address of a server."
)

SCHEMA = ConfigSchema(STRATEGIES, parse_spec)


@dataclass
class _ConfigCache:
    """What was read and resolved while the config file and the flags were the same."""

    version: tuple[object, dict[str, Any]]
    """The version of the config file, and a copy of the flags."""
    layers: list[Layer]
    config: Config | None = None
    turn_config: TurnConfig | None = None
    session: dict[str, Any] = field(default_factory=dict)
    """The settings of the session that `turn_config` was made for."""


@dataclass
class App:
    """The flags of a command and what they lead to. Everything is created on first use."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    notify: Notify = ignore_notices
    """Receives notices of stores, chats and models. A front end may replace it at any time."""
    wait: bool = True
    """Whether chats wait for sessions that are in use."""
    progress: Progress = no_progress
    offline: bool = False
    """Whether the offline model is used if no other model is configured."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a program, which those of a session override."""
    uses_config_file: bool = True

    _reported: list[list[str]] = field(default_factory=list)
    _cache: _ConfigCache | None = None

    @cached_property
    def paths(self) -> Paths:
        return Paths.from_environment()

    # Settings

    @property
    def config(self) -> Config:
        """The current settings outside any session."""
        cache = self._current_cache()
        if cache.config is None:
            cache.config = self.settings_for({})
        return cache.config

    def settings_for(self, session: Mapping[str, Any]) -> Config:
        """The current settings of a session, from its stored settings."""
        valid, invalid = loading.validate_session_settings(SCHEMA, session)
        if invalid and invalid not in self._reported:
            self._reported.append(invalid)
            self.notify(f"Ignored invalid settings of this session: {', '.join(invalid)}.")
        layers = [Layer("defaults", SCHEMA.nested(self.defaults))] if self.defaults else []
        layers += [Layer("session", SCHEMA.nested(valid)), Layer("flags", SCHEMA.nested(self.flags))]
        return loading.resolve(SCHEMA, [*self._current_cache().layers, *layers])

    def _current_cache(self) -> _ConfigCache:
        """The cache for the config file and the flags as they are now. Empty after a change of either."""
        path = self.paths.config if self.uses_config_file else None
        version = path and loading.file_version(path), dict(self.flags)
        if self._cache is None or self._cache.version != version:
            self._cache = _ConfigCache(version, loading.base_layers(SCHEMA, path))
        return self._cache

    # Stores

    @cached_property
    def store(self) -> SessionStore:
        settings = self.config.settings
        expire = settings.sessions.expire
        ttl = parse_duration(expire, "sessions.expire").total_seconds() if expire else None
        return self.open_store(settings.store, ttl)

    def open_store(self, url: str, ttl: float | None = None) -> SessionStore:
        """The store at a URL, for the current user."""
        store = open_store(url, self.paths.data, self.config.settings.user or "", self._forward, ttl)
        store.progress = self.progress
        return store

    def _forward(self, text: str, action: Action | None = None) -> None:
        self.notify(text, action)

    # Chats

    def chat(
        self,
        name: str,
        initial_settings: Record | None = None,
        store: SessionStore | None = None,
        read_only: bool = False,
        facts: FactBook | None = None,
        resolve: ResolveTurn | None = None,
        external_id: str | None = None,
    ) -> Chat:
        """The chat on a session. See `Chat`. By default it is told the facts about the user of the store."""
        return Chat(
            store or self.store,
            name,
            resolve or self.resolve_turn,
            self._forward,
            self.wait,
            initial_settings,
            read_only,
            facts=facts or self.facts,
            external_id=external_id,
        )

    @cached_property
    def facts(self) -> FactBook:
        return FactBook(self.store)

    def resolve_turn(self, session: Mapping[str, Any]) -> TurnConfig:
        """What the turns of a session use, from its stored settings. The same object until a setting changes."""
        cache = self._current_cache()
        if cache.turn_config is None or cache.session != session:
            cache.session, cache.turn_config = dict(session), self._make_turn_config(session)
        return cache.turn_config

    def _make_turn_config(self, session: Mapping[str, Any]) -> TurnConfig:
        settings = self.settings_for(session).settings
        model = LazyModel(settings, self)
        summary_model = settings.summaries.model
        return TurnConfig(
            model,
            settings.strategy,
            lambda name: self.counter_for_model(name, model.server),
            settings.options,
            settings.system or "",
            facts_tokens=settings.facts_tokens if settings.facts == "on" else 0,
            makes_titles=settings.titles == "on",
            provider=settings.provider or "",
            summary_model=LazyModel(replace(settings, model=summary_model), self) if summary_model else None,
            assumed_window=lambda: self._proven_window(model),
            record_model_fact=lambda **facts: self.model_facts.put(model.server, model.name, **_dated(facts)),
            cost_of=model.cost,
        )

    def _proven_window(self, model: Model) -> int:
        """The window to assume for a model, as earlier replies proved. 0 if none did."""
        proven, when = (self.model_facts.get(model.server, model.name, f) for f in ("proven_window", "window_at"))
        is_valid = type(proven) is int and MIN_WINDOW <= proven < 1 << 30 and _is_recent(when)
        return proven if is_valid else 0

    def preload(self, chat: Chat) -> None:
        """Do what the first turn needs: find the model, import its client, load its encoding. Never raises."""
        with contextlib.suppress(ChatmemError):
            config = chat.turn_config
            config.model.preload()
            _ = config.window
            config.counter_for(config.model.name).preload()
            if config.strategy.retrieval_share(config.limits.limit):
                chat.index()

    # Models

    @cached_property
    def model_facts(self) -> ModelFacts:
        return ModelFacts(self.paths.cache / "servers.json")

    @cached_property
    def spending(self) -> Spending:
        from chatmem.models.spending import Spending

        return Spending(self.paths.state / "spending", self.config.settings.user or "")

    @cached_property
    def public_models(self) -> PublicModels:
        return PublicModels(self.model_facts)

    @cached_property
    def _counters(self) -> dict[str, Counter]:
        return {}

    def counter_for_model(self, model: str, server: str = "") -> Counter:
        """The counter for a model, calibrated by what was learned about the server. Cached, with its counts."""
        if model not in self._counters:
            self._counters[model] = counter_for_model(model, [self.paths.cache])
        ratio, extra = (self.model_facts.get(server, model, fact) for fact in ("ratio", "extra"))
        calibration = Calibration.from_untrusted(ratio, extra)
        counter = self._counters[model]
        return counter.with_calibration(*calibration) if calibration else counter

    def has_key(self, settings: Settings) -> bool:
        """Whether a key is configured. A key command is not run to find out."""
        return api_key_getter(settings) is not None

    def resolve_model(self, settings: Settings) -> Model:
        """The model for these settings: as configured, else OpenAI's, else a local server's, else the offline one."""
        if settings.model == OFFLINE:
            return _offline_model()
        if settings.base_url or self.has_key(settings):
            return self._configured_model(settings, settings.base_url or OPENAI_URL)
        if settings.discover and (model := self._local_model(settings)):
            return model
        if settings.model is None and self.offline:
            self.notify("No model configured: a built-in one answers. Set OPENAI_API_KEY or start Ollama.")
            return _offline_model()
        wanted = f" for {settings.model!r}" if settings.model else ""
        raise AuthenticationError(f"No model configured{wanted}.", HOW_TO_CONNECT, Action("use_offline_model"))

    def _local_model(self, settings: Settings) -> Model | None:
        """The configured model, or the first one, on a server that runs on this machine. Raises ServerError."""
        from chatmem.models.openai.client import OpenAIModel  # imported lazily: commands without a model start faster

        servers = find_local_servers()
        for server in servers:
            names = [str(m["id"]) for m in server.models]
            if names and (settings.model is None or settings.model in names):
                entry = server.models[names.index(settings.model) if settings.model else 0]
                self.notify(f"Using {entry['id']} on {server.kind} at {server.base_url}.")
                window = context_window_of(entry)
                return OpenAIModel(str(entry["id"]), server.base_url, window=window, timeouts=settings.timeouts)
        listed = [str(m["id"]) for server in servers for m in server.models]
        if settings.model and listed:
            from difflib import get_close_matches  # imported lazily: slow

            near = get_close_matches(settings.model, listed, 3, 0.3) or listed[:3]
            raise ServerError(
                f"No server on this machine has the model {settings.model!r}.",
                f"Available: {', '.join(near)}.",
                Action("list_models"),
            )
        return None

    def _configured_model(self, settings: Settings, base_url: str) -> Model:
        from chatmem.models.openai.client import NO_KEY, OpenAIModel

        name = settings.model or (OPENAI_MODEL if base_url == OPENAI_URL else "")
        model = OpenAIModel(
            name,
            base_url,
            api_key_getter(settings) or (lambda: NO_KEY),
            settings.organization or "",
            timeouts=settings.timeouts,
            azure_version=settings.api_version if settings.kind == "azure" else "",
        )
        if not name:
            listed = model.list_models()
            if not listed:
                raise ServerError(f"{model.host} lists no models.", "Set a model: -m NAME, or model in the config.")
            model.name = str(listed[0]["id"])
            model.window = model.window or context_window_of(listed[0])
        return model


class LazyModel:
    """The model for some settings, resolved on first use: looking for one may take a moment."""

    def __init__(self, settings: Settings, app: App) -> None:
        self.settings, self.app = settings, app
        self._model: Model | None = None
        self._listed: list[dict[str, Any]] | None = None
        self._has_asked = False
        """Whether the server was asked for the window of the model."""
        self._has_replied = False
        self._resolving = threading.Lock()

    @property
    def model(self) -> Model:
        with self._resolving:
            if self._model is None:
                self._model = self.app.resolve_model(self.settings)
            return self._model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def server(self) -> str:
        return self.model.server

    @property
    def window(self) -> int | None:
        """The window: configured, else the smaller of what the server and its refusals state, else the published one.

        Nothing waits for the server: it is asked in the background, and what it said is remembered for a day.
        """
        if self.settings.context_window:
            return self.settings.context_window
        stated = self.model.window
        if not stated:
            stated = self._remembered("served_window", "served_at")
            self._ask_window()
        learned = self._remembered("window", "window_at")
        return min(filter(None, (stated, learned)), default=None) or self.public.window

    @property
    def public(self) -> PublicModel:
        """What is published about the model. Nothing for a server nearby, unless its provider is configured."""
        if not self.settings.provider and is_nearby(self.server):
            return PublicModel()
        return self.app.public_models.get(self.server, self.settings.provider or "", self.name)

    def cost(self, usage: Usage) -> float | None:
        """The cost of a reply in dollars, as configured or else as published. None if no price is known."""
        price = self.settings.prices.get(self.name)
        return cost(usage, price) if price else self.public.cost(usage)

    def _remembered(self, fact: str, when: str) -> int | None:
        """A window that was learned less than a day ago."""
        window, time_ = (self.app.model_facts.get(self.server, self.name, name) for name in (fact, when))
        return window if type(window) is int and window >= MIN_WINDOW and _is_recent(time_) else None

    def _ask_window(self) -> None:
        """Ask the server for the window in the background: once, and once more after the first reply."""
        asked_at = None if is_nearby(self.server) else self.app.model_facts.get(self.server, self.name, "served_at")
        if not self._has_asked and self.server and not _is_recent(asked_at):
            self._has_asked = True
            threading.Thread(target=self._learn_window, daemon=True, name="window").start()

    def _learn_window(self) -> None:
        from chatmem.models.windows import served_window

        with contextlib.suppress(ChatmemError):
            key = api_key_getter(self.settings)
            token = key() if key and not self.settings.api_key_cmd else ""
            window = served_window(self.server, self.name, token, self.model.list_models(timeout=2.0))
            if window or not is_nearby(self.server):  # a model nearby may be loaded later
                facts = {"served_window": window, "served_at": int(time.time())}
                self.app.model_facts.put(self.server, self.name, **facts)

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        yield from self._meter.stream(self.model, messages, options)
        if not self._has_replied:  # some servers load a model with its first request
            self._has_replied, self._has_asked = True, False
            _ = self.window

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        """The server's model list, asked once. Empty if it cannot be had."""
        if self._listed is None:
            self._listed = []
            with contextlib.suppress(ChatmemError):
                self._listed = self.model.list_models(timeout=2.0)
        return self._listed

    def preload(self) -> None:
        self.model.preload()

    def for_background(self) -> Model:
        from chatmem.models.spending import MeteredModel

        return MeteredModel(self.model.for_background(), self._meter)

    @cached_property
    def _meter(self) -> Meter:
        from chatmem.models.spending import Meter  # imported lazily: the prompt is there before

        return Meter(self.app.spending, lambda: self.app.config.settings.limits.per_day, self.cost, self._count)

    def _count(self, messages: Sequence[Mapping[str, str]]) -> int:
        counter = self.app.counter_for_model(self.name, self.server)
        return REQUEST_OVERHEAD + sum(counter.count_message(message["content"]) for message in messages)

    def cancel(self) -> None:
        self.model.cancel()


def _offline_model() -> Model:
    from chatmem.models.offline import OfflineModel  # imported lazily: rarely used

    return OfflineModel()


def _dated(facts: dict[str, Any]) -> dict[str, Any]:
    """What was learned. A window is dated, since a server may be restarted with another one."""
    return facts | {"window_at": int(time.time())} if facts.keys() & {"window", "proven_window"} else facts


def _is_recent(when: object) -> bool:
    """Whether a window that was learned at a time still counts."""
    return isinstance(when, int | float) and 0 < when < 1e12 and time.time() - when < LEARNED_WINDOW_TTL
