"""From settings to a ready Chat: the only room that knows every choice."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from chatmem import config, tokens
from chatmem.chat import Chat, Choice
from chatmem.config import Config, Settings
from chatmem.errors import ChatmemError, KeyRefused, ServerFailed
from chatmem.models.base import Model, Options, Piece
from chatmem.models.discover import servers, window_of
from chatmem.models.keys import key_of
from chatmem.models.learned import Learned
from chatmem.models.offline import NAME as OFFLINE
from chatmem.models.offline import OfflineModel
from chatmem.models.openai_api import PLACEHOLDER, OpenAIModel
from chatmem.paths import Paths
from chatmem.records import Record
from chatmem.settings import age
from chatmem.stores import Say, Store, open_store
from chatmem.stores.base import Watched, unwatched

OPENAI = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o-mini"
FORGET = 86_400.0
"""Seconds after which a window that was learned from a refusal is forgotten."""
CONNECT = (
    "Connect one: set OPENAI_API_KEY, or start a local server such as Ollama (or name any server in OPENAI_BASE_URL)."
)

_WINDOWS = {
    "gpt-5": 400_000,
    "gpt-4.1": 1_047_576,
    "gpt-4o": 128_000,
    "chatgpt-4o": 128_000,
    "gpt-4-turbo": 128_000,
    "gpt-4": 8_192,
    "gpt-3.5": 16_385,
    "o1": 200_000,
    "o3": 200_000,
    "o4-mini": 200_000,
}
"""Context windows of OpenAI's models by the start of their names, as OpenAI states them."""


@dataclass
class Assembly:
    """A command's flags and the places it works with; everything else is worked out when asked for."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    say: Say = lambda line: None
    wait: bool = True
    watched: Watched = unwatched
    offline: bool = False
    """Whether the offline model steps in when no other is connected."""

    _told: list[list[str]] = field(default_factory=list)

    @cached_property
    def paths(self) -> Paths:
        return Paths.from_environment()

    @cached_property
    def config(self) -> Config:
        """The settings in force outside any session."""
        return self.configured({})

    def configured(self, session: Mapping[str, Any]) -> Config:
        """The settings in force for a session's own settings."""
        good, bad = config.stored(session)
        if bad and bad not in self._told:
            self._told.append(bad)
            self.say(f"The session's own {' and '.join(bad)} make no sense here and are left aside.")
        return config.resolve(config.layers_of(self.paths.config, good, self.flags))

    @cached_property
    def store(self) -> Store:
        settings = self.config.settings
        expire = settings.sessions.expire
        keep = age(expire, "sessions.expire").total_seconds() if expire else None
        return self.store_at(settings.store, keep)

    def store_at(self, url: str, keep: float | None = None) -> Store:
        """The store at an address, for the user in force."""
        store = open_store(url, self.paths.data, self.config.settings.user or "", self.say, keep)
        store.watched = self.watched
        return store

    def chat(self, name: str, wanted: Record | None = None, store: Store | None = None, look: bool = False) -> Chat:
        """The chat on a session; `wanted` are settings to store in it. To `look` changes nothing."""
        return Chat(store or self.store, name, self.choose, self.say, self.wait, wanted, look)

    def choose(self, session: Mapping[str, Any]) -> Choice:
        """All that is chosen for a session, from flags to defaults."""
        settings = self.configured(session).settings
        model = Later(settings, self)
        return Choice(
            model,
            settings.strategy,
            lambda name: self.counter(name, model.server),
            settings.options,
            settings.system or "",
            None,
            Later(replace(settings, model=settings.fold.model), self) if settings.fold.model else None,
            lambda **facts: self.learned.put(model.server, model.name, **_dated(facts)),
        )

    @cached_property
    def learned(self) -> Learned:
        return Learned(self.paths.cache / "servers.json")

    @cached_property
    def counters(self) -> dict[str, tokens.Counter]:
        return {}

    def counter(self, model: str, server: str = "") -> tokens.Counter:
        """The counter for a model's name, one each, so that counts are kept; scaled as that server taught us last."""
        if model not in self.counters:
            self.counters[model] = tokens.counter(model, [self.paths.cache])
        ratio, extra = (self.learned.get(server, model, fact) for fact in ("ratio", "extra"))
        learned = tokens.Calibration.checked(ratio, extra)
        return self.counters[model].scaled(*learned) if learned else self.counters[model]

    def warm(self, chat: Chat) -> None:
        """Do early what the first turn needs: find the model, import its client, load its token table. Never raises."""
        with contextlib.suppress(ChatmemError):
            model = chat.choice.model
            model.warm()
            _ = model.window
            tokens.warm(chat.choice.count(model.name))
            if chat.choice.strategy.recall(chat.choice.budget):
                chat.index()

    def has_key(self, settings: Settings) -> bool:
        """Whether a key is set; a key command is not run for it."""
        return key_of(settings) is not None

    def connect(self, settings: Settings) -> Model:
        """The model that these settings mean: as configured, else OpenAI's, else a local server's, else offline."""
        if settings.model == OFFLINE:
            return OfflineModel()
        key = key_of(settings)
        if settings.base_url or key:
            return self._configured(settings, settings.base_url or OPENAI)
        if settings.discover:
            local = servers()
            for found in local:
                names = [str(m["id"]) for m in found.models]
                if found.models and (settings.model is None or settings.model in names):
                    model = found.models[names.index(settings.model) if settings.model else 0]
                    self.say(f"Using {model['id']} on {found.kind} at {found.base_url}, found running here.")
                    return OpenAIModel(
                        str(model["id"]), found.base_url, window=window_of(model), timeouts=settings.timeouts
                    )
            listed = [str(m["id"]) for found in local for m in found.models]
            if settings.model and listed:
                near = get_close_matches(settings.model, listed, 3, 0.3) or listed[:3]
                raise ServerFailed(
                    f"No server running here has the model {settings.model!r}.",
                    f"There are {', '.join(near)}: chatmem models",
                )
        if settings.model is None and self.offline:
            self.say(f"No language model is connected: the built-in offline model answers. {CONNECT}")
            return OfflineModel()
        wanted = f" for {settings.model!r}" if settings.model else ""
        raise KeyRefused(f"No language model is connected{wanted}.", f"{CONNECT} Or use the built-in one: -m offline")

    def _configured(self, settings: Settings, base_url: str) -> Model:
        name = settings.model or (OPENAI_MODEL if base_url == OPENAI else "")
        model = OpenAIModel(
            name,
            base_url,
            key_of(settings) or (lambda: PLACEHOLDER),
            settings.organization or "",
            _known_window(name),
            settings.timeouts,
            settings.api_version if settings.kind == "azure" else "",
        )
        if not name:
            offered = model.models()
            if not offered:
                raise ServerFailed(f"{model.where} offers no model.", "Name one: -m NAME, or model = … in the config.")
            model.name = str(offered[0]["id"])
            model.window = model.window or window_of(offered[0])
        return model


class Later:
    """The model of some settings, connected when it is first asked for: looking for one may take a moment."""

    def __init__(self, settings: Settings, assembly: Assembly) -> None:
        self.settings, self.assembly = settings, assembly
        self._model: Model | None = None
        self._asked = False
        self._offered: list[str] = []
        self._connecting = threading.Lock()

    @property
    def model(self) -> Model:
        with self._connecting:
            if self._model is None:
                self._model = self.assembly.connect(self.settings)
            return self._model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def window(self) -> int | None:
        """The context window in tokens: as configured, as `/models` or a table says; a refusal of late can lower it."""
        known = self.settings.context_window or self.model.window or self._listed()
        limit, when = (self.assembly.learned.get(self.server, self.name, fact) for fact in ("window", "window_at"))
        if isinstance(limit, int) and isinstance(when, int | float) and time.time() - when < FORGET and limit >= 64:
            return min(limit, known) if known else limit
        return known

    def _listed(self) -> int | None:
        """What the server's `/models` says of this model's window, asked once."""
        if not self._asked and isinstance(self.model, OpenAIModel):
            self._asked = True
            with contextlib.suppress(ChatmemError):
                offered = {str(m["id"]): m for m in self.model.models(patience=2.0)}
                self._offered = list(offered)
                self.model.window = window_of(offered.get(self.name, {}))
        return self.model.window

    @property
    def offered(self) -> list[str]:
        """The models that the server lists, asked once; none if it does not say."""
        self._listed()
        return self._offered

    @property
    def server(self) -> str:
        """The server's address, empty for the offline model."""
        return getattr(self.model, "base_url", "")

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[Piece]:
        return self.model.stream(messages, options)

    def warm(self) -> None:
        self.model.warm()


def _dated(facts: dict[str, Any]) -> dict[str, Any]:
    """What was learned; of a window also when, since a server may be started anew with a larger one."""
    return facts | {"window_at": int(time.time())} if "window" in facts else facts


def _known_window(model: str) -> int | None:
    name = model.lower().rpartition("/")[2]
    fitting = [start for start in _WINDOWS if name.startswith(start)]
    return _WINDOWS[max(fitting, key=len)] if fitting else None
