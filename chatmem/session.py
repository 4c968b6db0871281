"""A conversation as plain data: messages, turns and summaries, replayed from a session's records.

A record is one JSON object of the session file (see the README for the format). Replaying never fails and
never forgets: a record that makes no sense is counted in `Session.damaged`, one of an unknown type in
`Session.unknown`; the file keeps both.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from chatmem.records import VERSION, Message, Record, Summary

TITLE_WORDS = 8


@dataclass(frozen=True)
class Turn:
    """A question and what follows it until the next; numbered from 1 along the path."""

    number: int
    messages: tuple[Message, ...]
    pinned: bool = False
    excluded: bool = False

    @property
    def question(self) -> Message:
        return self.messages[0]

    @property
    def id(self) -> str:
        return self.messages[0].id

    @property
    def last(self) -> Message:
        return self.messages[-1]

    @cached_property
    def reply(self) -> str:
        """All replies of this turn as the model sees them: joined by a blank line, empty if there is none."""
        replies = [m.content for m in self.messages if m.role == "assistant" and m.content.strip()]
        return "\n\n".join(replies)

    @cached_property
    def sendable(self) -> bool:
        """Whether this turn may be in a view at all: answered, and not excluded."""
        return bool(self.reply) and not self.excluded

    @cached_property
    def wire(self) -> tuple[dict[str, str], dict[str, str]]:
        """The two messages that this turn is sent as. Kept between calls: treat them as read-only."""
        question, reply = self.question.content, self.reply
        return {"role": "user", "content": question}, {"role": "assistant", "content": reply}


@dataclass
class Session:
    """What the records of one session add up to: the tree of messages, and the path to its head."""

    name: str = ""
    header: Record = field(default_factory=dict)
    settings: Record = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    summaries: dict[tuple[str, str, frozenset[str]], Summary] = field(default_factory=dict)
    marks: dict[str, dict[str, bool]] = field(default_factory=dict)
    head: str | None = None
    prompt: str | None = None
    """The system prompt in force, where it is not the session's own: a default, or one for a single message."""
    damaged: int = 0
    unknown: int = 0
    _path: list[Message] | None = None
    _turns: list[Turn] | None = None
    _places: dict[str, int] = field(default_factory=dict)
    _newest: str | None = None

    @classmethod
    def replay(cls, name: str, records: Iterable[Record]) -> Session:
        """The session that these records add up to, in their order."""
        session = cls(name)
        collecting = gc.isenabled()
        gc.disable()  # nothing here becomes garbage, and looking for it would take a third of the time
        try:
            for record in records:
                session.apply(record)
        finally:
            if collecting:
                gc.enable()
        return session

    def apply(self, record: Record) -> None:
        """Add one record, in the file's order. Never fails: nonsense is counted and left alone."""
        read = _READERS.get(str(record.get("type")))
        if read is None:
            self.unknown += 1
        elif not read(self, record):
            self.damaged += 1

    # What the records say

    @property
    def id(self) -> str:
        return str(self.header.get("id", ""))

    @property
    def created(self) -> str:
        first = next(iter(self.messages.values()), None)
        return str(self.header.get("created") or (first.time if first else ""))

    @property
    def read_only(self) -> bool:
        """Whether a newer chatmem wrote this, in a format that this one must not add to."""
        version = self.header.get("chatmem", VERSION)
        return isinstance(version, int) and version > VERSION

    @property
    def system(self) -> str:
        """The system prompt in force, byte for byte; empty for none."""
        return str(self.settings.get("system") or "") if self.prompt is None else self.prompt

    @property
    def title(self) -> str:
        """The title that was set, or else the first words of the first question."""
        if title := self.settings.get("title"):
            return str(title)
        first = next((m for m in self.messages.values() if m.role == "user" and m.content.strip()), None)
        if first is None:
            return ""
        words = first.content[:400].split()
        return " ".join(words[:TITLE_WORDS])[:80] + ("…" if len(words) > TITLE_WORDS else "")

    @property
    def last_active(self) -> str:
        return self.messages[self._newest].time if self._newest else self.created

    @property
    def model(self) -> str | None:
        """The model of the newest reply on the path, or the one set for the session."""
        answered = (m.model for m in reversed(self.path) if m.role == "assistant" and m.model)
        model = next(answered, None) or self.settings.get("model")
        return model if isinstance(model, str) else None

    @property
    def path(self) -> list[Message]:
        """The conversation: the messages from the root to the head."""
        if self._path is None:
            path: list[Message] = []
            at = self.head
            while at is not None:
                path.append(self.messages[at])
                at = path[-1].parent
            self._path = path[::-1]
        return self._path

    @property
    def prologue(self) -> list[Message]:
        """The messages on the path before the first question (an assistant's greeting, say)."""
        first = next((i for i, m in enumerate(self.path) if m.role == "user"), len(self.path))
        return self.path[:first]

    @property
    def turns(self) -> list[Turn]:
        """The turns of the path, oldest first. Kept between calls: treat it as read-only."""
        if self._turns is None:
            self._turns = []
            self._places = {}
            for message in self.path:
                self._grow(message)
        return self._turns

    @property
    def places(self) -> dict[str, int]:
        """The index in `turns` of each message's turn."""
        return self._places if self.turns else {}

    def place(self, ident: str) -> tuple[int, int]:
        """Where a message stands on the path: the index of its turn, and its index in there."""
        index = self.places[ident]
        return index, next(i for i, m in enumerate(self.turns[index].messages) if m.id == ident)

    @property
    def unanswered(self) -> Message | None:
        """The newest question on the path, if it has no reply yet."""
        return self.turns[-1].question if self.turns and not self.turns[-1].reply else None

    def turn(self, number: int) -> Turn | None:
        return self.turns[number - 1] if 1 <= number <= len(self.turns) else None

    def children(self, parent: str | None) -> list[Message]:
        """The messages that follow `parent`, oldest first; more than one where the conversation branches."""
        return [m for m in self.messages.values() if m.parent == parent]

    def leaves(self) -> list[Message]:
        """The last message of every branch, oldest first."""
        parents = {m.parent for m in self.messages.values()}
        return [m for m in self.messages.values() if m.id not in parents]

    # How a record changes them

    def _header(self, record: Record) -> bool:
        self.header = self.header or record
        return isinstance(record.get("chatmem", VERSION), int)

    def _settings(self, record: Record) -> bool:
        self.settings |= {k: v for k, v in record.items() if k != "type"}
        self.settings = {k: v for k, v in self.settings.items() if v is not None}
        return True

    def _message(self, record: Record) -> bool:
        message = Message.from_record(record)
        if message is None:
            return False
        if message.id in self.messages:
            return True  # written twice, by a store that retried: the first one counts
        if message.parent is not None and message.parent not in self.messages:
            # The line before it is damaged: better a gap than to lose all that came before.
            message = message._replace(parent=self._newest)
        self.messages[message.id] = message
        self._newest = message.id
        if message.parent == self.head and self._path is not None:
            self._path.append(message)
            if self._turns is not None:
                self._grow(message)
        else:
            self._forget_path()
        self.head = message.id
        return True

    def _summary(self, record: Record) -> bool:
        texts = [record.get(k) for k in ("id", "from", "to", "text")]
        level, without = record.get("level", 0), record.get("without", [])
        if not all(isinstance(t, str) for t in texts) or type(level) is not int or not isinstance(without, list):
            return False
        ident, start, end, text = map(str, texts)
        left_out = frozenset(map(str, without))
        part = Summary(
            ident, start, end, level, text, str(record.get("model", "")), left_out, bool(record.get("edited"))
        )
        self.summaries.pop((start, end, left_out), None)
        if text:  # an empty text takes the part back
            self.summaries[start, end, left_out] = part
        return True

    def _mark(self, record: Record) -> bool:
        ident = record.get("message")
        if not isinstance(ident, str):
            return False
        flags = {k: v for k in ("pinned", "excluded") if isinstance(v := record.get(k), bool)}
        self.marks[ident] = self.marks.get(ident, {}) | flags
        self._turns = None
        return bool(flags)

    def _head(self, record: Record) -> bool:
        ident = record.get("message")
        if ident is not None and (not isinstance(ident, str) or ident not in self.messages):
            return False
        self.head = ident
        self._forget_path()
        return True

    def _forget_path(self) -> None:
        self._path = self._turns = None

    def _grow(self, message: Message) -> None:
        """Put the next message of the path into its turn."""
        turns = self._turns
        assert turns is not None
        if message.role == "user":
            turns.append(self._marked(len(turns) + 1, (message,)))
        elif turns:
            turns[-1] = self._marked(len(turns), (*turns[-1].messages, message))
        if turns:
            self._places[message.id] = len(turns) - 1

    def _marked(self, number: int, messages: tuple[Message, ...]) -> Turn:
        if not self.marks:
            return Turn(number, messages)
        flags: dict[str, bool] = {}
        for message in messages:
            flags |= self.marks.get(message.id, {})
        return Turn(number, messages, flags.get("pinned", False), flags.get("excluded", False))


_READERS: dict[str, Callable[[Session, Record], bool]] = {
    "session": Session._header,
    "settings": Session._settings,
    "message": Session._message,
    "summary": Session._summary,
    "mark": Session._mark,
    "head": Session._head,
    "broken": lambda session, record: False,  # what stores give for a line that is no record
}
