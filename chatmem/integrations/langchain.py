"""Sessions as LangChain message histories (requires langchain-core).

    RunnableWithMessageHistory(chain, lambda session_id: ChatmemHistory(session_id))

What a program adds is shown by `chatmem chat -s SESSION`, and the program reads what was said there. Each call opens
the session, works under its lock and closes it, so that a terminal and several processes of a service can share one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from chatmem.api import session_name
from chatmem.app import App
from chatmem.chat.journal import Journal
from chatmem.errors import SessionNotFoundError
from chatmem.formats.base import content_text
from chatmem.formats.langchain import TYPES, to_langchain
from chatmem.history.names import name_for_id
from chatmem.history.records import Message, Record, Usage, new_id, utc_now
from chatmem.history.session import Session
from chatmem.text import fix_surrogates

try:
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
except ImportError as error:
    raise ImportError("langchain-core is not installed: pip install 'langchain-core>=0.3'") from error


class ChatmemHistory(BaseChatMessageHistory):
    """The conversation of one session: the path to its head, without excluded turns.

    `session` and `user` are names, or any ids of the program: see `chatmem.history.names.name_for_id`. `store` is that
    of the command line. Without them the environment and the config decide. Raises UsageError, and StorageError if the
    store refuses.
    """

    def __init__(self, session: str, *, user: str | None = None, store: str | None = None) -> None:
        given = {"user": name_for_id(user, "user") if user else None, "store": store}
        self.store = App({name: value for name, value in given.items() if value is not None}).store
        self.session, self._id = session_name(self.store, session), session

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # callers expect a list
        """All messages, oldest first."""
        try:
            name = self.store.find(self.session)
        except SessionNotFoundError:
            return []
        records = self.store.records(name)
        originals = {str(r.get("id")): r["langchain"] for r in records if isinstance(r.get("langchain"), dict)}
        session = Session.replay(name, records)
        excluded = {m.id for turn in session.turns if turn.excluded for m in turn.messages}
        shown = [m for m in session.path if m.id not in excluded and (m.id in originals or m.role in TYPES.values())]
        messages: list[BaseMessage] = messages_from_dict([originals.get(m.id) or to_langchain(m) for m in shown])
        return messages

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages. They are durable on return."""
        with self._journal() as journal:
            parent, records = journal.session.head, []
            for message in messages:
                records.append(_to_record(message, parent))
                parent = records[-1]["id"]
            journal.append(*records, required=True)

    def clear(self) -> None:
        """Start a new conversation in the same session. The old one stays on its branch."""
        with self._journal() as journal:
            journal.append({"type": "head", "message": None}, required=True)

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal]:
        """A transaction on the session. Raises StorageError if it could not be saved."""
        journal = Journal(self.store, self.session)
        try:
            journal.open({}, self._id)
            with journal.transaction(required=True):
                yield journal
        finally:
            journal.close()


def _to_record(message: BaseMessage, parent: str | None) -> Record:
    """A message as a record that also holds LangChain's own form of it."""
    original: dict[str, Any] = message_to_dict(message)
    role = TYPES.get(message.type, message.type)
    usage = getattr(message, "usage_metadata", None)
    counts = {"prompt": usage.get("input_tokens"), "completion": usage.get("output_tokens")} if usage else None
    model = message.response_metadata.get("model_name") if role == "assistant" else None
    text = fix_surrogates(content_text(message.content))
    record = Message(new_id(), parent, role, text, utc_now(), model, usage=Usage.from_record(counts)).record()
    try:
        return record | {"langchain": json.loads(json.dumps(original))}
    except (TypeError, ValueError):  # it contains something that is not JSON: keep the text
        return record
