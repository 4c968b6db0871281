"""The Python API: a library of sessions, the chats on them, and their replies.

    import chatmem

    with chatmem.open() as library:
        chat = library.session("plan", memory="summary:4000")
        print(chat.ask("When do I fly?").text)

See `guide/python.md`. Failures are subclasses of `ChatmemError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from chatmem.app import SCHEMA, App
from chatmem.chat.chat import Chat
from chatmem.chat.fact_book import FactBook
from chatmem.chat.turn_config import ResolveTurn, TurnConfig
from chatmem.chat.usage import Statistics
from chatmem.config.schema import unknown_setting
from chatmem.errors import Notify, UsageError, ignore_notices
from chatmem.formats import format_for
from chatmem.history.names import is_valid, name_for_id, validate
from chatmem.history.records import Message, Usage
from chatmem.history.session import Turn
from chatmem.memory.plan import ContextPlan
from chatmem.memory.strategies import parse_spec
from chatmem.models.base import StreamChunk
from chatmem.models.provided import ProvidedModel, StreamingModel
from chatmem.recall import Recalled, recall
from chatmem.stores.base import SessionInfo, SessionStore
from chatmem.stores.search import Hit, Query

ROLES = ("user", "assistant", "system", "tool")
"""The roles of messages that a program may append."""
MAX_RECALLED = 8


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    status: str
    """`complete`, or why it is not: `length`, `filtered`, `truncated`, `interrupted`."""
    model: str | None
    usage: Usage | None
    """The tokens that the server counted."""
    plan: ContextPlan
    """What the model was sent, and why."""

    @property
    def cost(self) -> float | None:
        """The cost in dollars. None if no price is known."""
        return self.usage.cost if self.usage else None


class Library:
    """The sessions of one user in a store. `chatmem.open` makes one; close it, or use it as a context manager."""

    def __init__(self, settings: Mapping[str, Any], config: bool = False, notify: Notify = ignore_notices) -> None:
        values = _checked(settings)
        if "user" in values:
            values["user"] = name_for_id(values["user"], "user")
        values.setdefault("titles", "off")  # a program expects one request per question
        self._app = App(defaults=values, uses_config_file=config, notify=notify)
        self._chats: list[ChatSession] = []
        self._is_closed = False

    def session(
        self,
        name: str | None = None,
        *,
        id: str | None = None,
        model: str | StreamingModel | None = None,
        memory: str | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ChatSession:
        """The chat on a session, which its first message creates. Without a name it gets an unused one.

        `id` is found by exactly that text: any Unicode, case matters. The name that a person sees is made from it.
        What else is given is stored in the session. `model` may be an object with `stream(messages, options)`, which
        yields texts or `StreamChunk`s; it is not stored.
        """
        store = self.store
        if id is not None and name is not None:
            raise UsageError("A session is opened by its name or by its id, not by both.")
        known = session_name(store, id) if id is not None else store.unused_name() if name is None else validate(name)
        given: dict[str, Any] = {"model": model if isinstance(model, str) else None, "system": system}
        given |= {"memory": parse_spec(memory) if memory else None, "options": dict(options) if options else None}
        stored = {key: value for key, value in given.items() if value is not None}
        resolve = None if model is None or isinstance(model, str) else _with_model(self._app, model)
        chat = self._app.chat(known, stored, store, resolve=resolve, external_id=id)
        self._chats.append(ChatSession(self, chat))
        return self._chats[-1]

    def sessions(self, query: str | None = None, limit: int | None = None) -> list[SessionInfo]:
        """The sessions, newest first: all, or those with the words of `query` in name, title or text."""
        if query is None:
            return self.store.list_sessions() if limit is None else self.store.recent_sessions(limit)
        words, found = query.lower().split(), {hit.session for hit in self.search(query)}
        sessions = self.store.list_sessions()
        named = {s.name for s in sessions if all(word in f"{s.name} {s.title}".lower() for word in words)}
        return [s for s in sessions if s.name in found | named][:limit]

    def exists(self, name: str | None = None, *, id: str | None = None) -> bool:
        """Whether there is a session with a name, or an id."""
        return self.store.lookup(session_name(self.store, id) if id is not None else name or "") is not None

    def search(self, text: str, name: str | None = None) -> Iterator[Hit]:
        """The messages with all words of a text, the most recently used session first."""
        return self.store.search(Query.parse(text), name)

    def recall(self, question: str, limit: int = MAX_RECALLED) -> list[Recalled]:
        """The passages of all sessions that answer a question, best first."""
        return recall(self.store, question, limit)

    def stats(self) -> Statistics:
        """The replies, tokens and costs of all sessions, by model and by day."""
        sessions = (self.store.session(info.name) for info in self.store.list_sessions())
        return Statistics.collect(sessions, self._app.config.settings.prices)

    @property
    def facts(self) -> FactBook:
        """What every session is told about the user."""
        _ = self.store
        return self._app.facts

    @property
    def store(self) -> SessionStore:
        """The store, for what this class does not offer. Raises UsageError once the library is closed."""
        if self._is_closed:
            raise UsageError("This library is closed.", "Open another one.")
        return self._app.store

    def close(self) -> None:
        """Close all chats of this library. It may be called again."""
        chats, self._chats, self._is_closed = self._chats, [], True
        for chat in chats:
            chat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


class ChatSession:
    """A chat on one session. One turn runs at a time; others wait for it, also those of other processes."""

    def __init__(self, library: Library, chat: Chat) -> None:
        self.library, self._chat = library, chat
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        return self._chat.name

    @property
    def id(self) -> str:
        """What a program calls the session: the id that it was created with, else its name."""
        return self._chat.session.external_id or self.name

    @property
    def messages(self) -> list[Message]:
        """The messages of the conversation, oldest first, without those of other branches."""
        return list(self._chat.session.path)

    @property
    def turns(self) -> list[Turn]:
        return list(self._chat.session.turns)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What is stored in the session: `model`, `memory`, `system`, `options`, `title`."""
        return dict(self._chat.session.settings)

    # Asking

    def ask(self, question: str) -> Reply:
        """The reply to a question. Both are durable on return. Raises as `stream`."""
        return self._reply(self.stream(question))

    def stream(self, question: str) -> Generator[StreamChunk]:
        """The reply, chunk by chunk. The question is durable before it is sent, the reply before this ends.

        What arrived before an error, or before the generator is closed, is kept. Raises ServerError and its subclasses,
        IncompleteReplyError for a reply that was cut, StorageError before anything is sent, and UsageError.
        """
        if not isinstance(question, str) or not question.strip():
            raise UsageError("The question is empty." if isinstance(question, str) else "The question is not a text.")
        return self._stream(lambda: self._open_chat.send(question))

    def retry(self, number: int | None = None, text: str | None = None) -> Reply:
        """Ask a question again, by default the last one, optionally with another text. The old reply is kept."""
        return self._reply(self._stream(lambda: self._open_chat.retry(number, text)))

    async def aask(self, question: str) -> Reply:
        """`ask` for asyncio."""
        async with contextlib.aclosing(self.astream(question)) as chunks:
            async for _ in chunks:
                pass
        return self._last_reply()

    async def astream(self, question: str) -> AsyncGenerator[StreamChunk]:
        """`stream` for asyncio. The turn runs in a thread of its own, never in the default executor of the loop.

        If the task is cancelled or the generator closed, what arrived is stored as interrupted, and the lock released,
        when the server sends its next part.
        """
        chunks, loop = self.stream(question), asyncio.get_running_loop()
        worker = ThreadPoolExecutor(1, "chatmem-turn")
        try:
            while (chunk := await loop.run_in_executor(worker, next, chunks, None)) is not None:
                yield chunk
        finally:
            worker.submit(chunks.close)
            worker.shutdown(wait=False)

    def plan(self, question: str | None = None) -> ContextPlan:
        """What the model would be sent with a question, and why. Calls no model and changes nothing."""
        return self._open_chat.plan(question)

    # Changing

    def append(self, *messages: Mapping[str, str]) -> None:
        """Add messages, each with `role` and `content`, all or none. They are durable on return."""
        for message in messages:
            if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
                raise UsageError(f"A message has a role ({', '.join(ROLES)}) and a content, which is a text.")
        self._open_chat.append((message["role"], message["content"]) for message in messages)

    def update(self, *, model: str | None = None, memory: str | None = None, system: str | None = None) -> None:
        """Store settings in the session, for the turns from now on."""
        given = {"model": model, "memory": parse_spec(memory) if memory else None, "system": system}
        self._open_chat.update_settings(**{name: value for name, value in given.items() if value is not None})

    def mark(self, number: int, *, pinned: bool | None = None, excluded: bool | None = None) -> None:
        """Pin a turn, so that it is always sent, or exclude it, so that it never is. False takes that back."""
        flags = {"pinned": pinned, "excluded": excluded}
        self._open_chat.set_turn_flags(number, **{name: flag for name, flag in flags.items() if flag is not None})

    def undo(self, count: int = 1) -> None:
        """Remove the last turns from the conversation. They stay on their branch."""
        self._open_chat.undo(count)

    def fork(self, name: str, at: int | None = None) -> ChatSession:
        """A new session with the same conversation, or with its turns up to number `at`."""
        self.library.store.fork(self.name, name, at)
        return self.library.session(name)

    def share(self, user: str) -> str:
        """Let another user read and write the session. Returns the name that it has for that user."""
        return self.library.store.share(self.name, name_for_id(user, "user"))

    def rename(self, name: str) -> None:
        """Rename the session. Raises UsageError for one that is opened by its id, which leads to its name."""
        if self._chat.session.external_id is not None:
            raise UsageError("A session that is opened by its id keeps its name.", "Set a title instead.")
        self._open_chat.rename(name)

    def export(self, format: str = "markdown") -> str:
        """The conversation in an export format, such as `markdown`, `json`, `openai` or `html`."""
        write = format_for(format).write
        assert write is not None
        return write(self._chat.session, self._chat.records())

    def delete(self, purge: bool = False) -> None:
        """Move the session to the trash, or delete it. The chat is closed."""
        self.close()
        self.library.store.delete(self.name, purge)

    def close(self) -> None:
        """Store what could not be saved before, and close the session. It may be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._chat.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    _is_closed = False

    @property
    def _open_chat(self) -> Chat:
        if self._is_closed:
            raise UsageError("This chat is closed.", "Open the session again.")
        return self._chat

    def _stream(self, start: Any) -> Generator[StreamChunk]:
        with self._turn, contextlib.closing(start()) as chunks:
            yield from chunks

    def _reply(self, chunks: Generator[StreamChunk]) -> Reply:
        with contextlib.closing(chunks):
            for _ in chunks:
                pass
        return self._last_reply()

    def _last_reply(self) -> Reply:
        reply, plan = self._chat.last_reply, self._chat.last_plan
        if reply is None or plan is None:  # ended by the server's filter before any text
            assert plan is not None
            return Reply("", "filtered", self._chat.turn_config.model.name, None, plan)
        return Reply(reply.content, reply.status, reply.model, reply.usage, plan)


def session_name(store: SessionStore, ident: str) -> str:
    """The name of the session that a program calls `ident`. One that was named like that before keeps its name."""
    name = name_for_id(ident)
    if name != ident and is_valid(ident) and store.lookup(name) is None and store.lookup(ident) == ident:
        return ident
    return name


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the shape of the config file. Raises UsageError for unknown ones."""
    known = [field.name for field in fields(SCHEMA.settings_class)]
    values = {name: value for name, value in settings.items() if value is not None}
    for name in values:
        if name not in known:
            raise unknown_setting(name, known, "")
    if isinstance(values.get("memory"), str):
        values["memory"] = parse_spec(values["memory"])
    return values


def _with_model(app: App, provided: StreamingModel) -> ResolveTurn:
    """What turns use, with a model that the program provides."""
    model = ProvidedModel(provided)
    known: dict[int, TurnConfig] = {}

    def resolve(session: Mapping[str, Any]) -> TurnConfig:
        config = app.resolve_turn(session)
        if id(config) not in known:
            known.clear()
            known[id(config)] = replace(
                config,
                model=model,
                summary_model=None,
                counter_for=app.counter_for_model,
                assumed_window=lambda: 0,
                record_model_fact=lambda **facts: None,
                cost_of=lambda usage: None,
            )
        return known[id(config)]

    return resolve
