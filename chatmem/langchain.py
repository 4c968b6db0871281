"""The sessions of the terminal as LangChain's message histories (`pip install 'chatmem[langchain]'`).

    RunnableWithMessageHistory(chain, lambda session_id: ChatmemHistory(session_id))

What a program adds is in `chatmem chat -s SESSION`, and what was said there is what the program reads. Each call
opens the session, works under its lock and lets go, so that a terminal, a service and its copies can share one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chatmem.assemble import Assembly
from chatmem.errors import NoSuchSession
from chatmem.formats.base import text_of
from chatmem.formats.langchain import TYPES, dumped
from chatmem.keeping import Keeping
from chatmem.names import checked
from chatmem.records import Message, Record, Usage, new_id, now, repaired
from chatmem.session import Session

try:
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
except ImportError as error:
    raise ImportError("langchain-core is not installed: pip install 'chatmem[langchain]'") from error


class ChatmemHistory(BaseChatMessageHistory):
    """The conversation of one session, as LangChain sees it: the path to its head, without excluded turns.

    `user` and `store` are those of the command line; without them the environment and the config say. Raises
    WrongUse for what cannot be a name, NotSaved where the store says no.
    """

    def __init__(self, session: str, *, user: str | None = None, store: str | None = None) -> None:
        given = {"user": user or None, "store": store}
        self.store = Assembly({name: value for name, value in given.items() if value is not None}).store
        self.session = checked(session)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # a list is what callers get and expect
        """All messages, oldest first."""
        try:
            name = self.store.find(self.session)
        except NoSuchSession:
            return []
        records = self.store.records(name)
        theirs = {str(r.get("id")): r["langchain"] for r in records if isinstance(r.get("langchain"), dict)}
        session = Session.replay(name, records)
        left_out = {m.id for turn in session.turns if turn.excluded for m in turn.messages}
        kept = [m for m in session.path if m.id not in left_out and (m.id in theirs or m.role in TYPES.values())]
        found: list[BaseMessage] = messages_from_dict([theirs.get(m.id) or dumped(m) for m in kept])
        return found

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages behind the last one; they are durable on return."""
        with _Writing(self) as writing:
            writing.add(messages)

    def clear(self) -> None:
        """Begin a new view: nothing before it is read any more; it stays in the session, on its branch."""
        with _Writing(self) as writing:
            writing.begin_view()


class _Writing(Keeping):
    """A session for the length of one call."""

    def __init__(self, history: ChatmemHistory) -> None:
        super().__init__(history.store, history.session, lambda line: None, wait=True)
        self._open({})

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def add(self, messages: Sequence[BaseMessage]) -> None:
        with self._turn():
            parent, records = self.session.head, []
            for message in messages:
                records.append(_record(message, parent))
                parent = records[-1]["id"]
            self._keep(*records)
        self._saved()

    def begin_view(self) -> None:
        with self._turn():
            self._keep({"type": "head", "message": None})
        self._saved()

    def _saved(self) -> None:
        if self.not_saved:
            raise self.not_saved


def _record(message: BaseMessage, parent: str | None) -> Record:
    """A message as a record of ours, with all that LangChain knows of it beside."""
    dump: dict[str, Any] = message_to_dict(message)
    role = TYPES.get(message.type, message.type)
    usage = getattr(message, "usage_metadata", None)
    counts = {"prompt": usage.get("input_tokens"), "completion": usage.get("output_tokens")} if usage else None
    model = message.response_metadata.get("model_name") if role == "assistant" else None
    ours = Message(
        new_id(), parent, role, repaired(text_of(message.content)), now(), model, usage=Usage.from_record(counts)
    )
    try:
        return ours.record() | {"langchain": json.loads(json.dumps(dump))}
    except (TypeError, ValueError):  # it holds what is no JSON: the text is what counts
        return ours.record()
