"""A conversation as plain data: messages, turns and summaries, replayed from the records of a session.

Replaying never fails. A malformed record is counted in `Session.malformed_count`, one of an unknown type in
`Session.unknown_count`; the file keeps both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from chatmem.history.records import MAX_TOKENS, VERSION, Message, Record, Summary
from chatmem.process import pause_gc
from chatmem.text import fix_surrogates, truncate

MAX_TITLE_CHARS = 80
"""How much of the first question becomes the title."""


class Forgotten(NamedTuple):
    """A text that the user wants to be forgotten, where it was said in one of the first messages of the file."""

    text: str
    before: int
    """How many messages there were."""


@dataclass(frozen=True)
class Turn:
    """A question and everything until the next question. Turns are numbered from 1 along the path."""

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

    def with_messages(self, messages: Iterable[Message]) -> Turn:
        """The same turn with other messages."""
        return Turn(self.number, tuple(messages), self.pinned, self.excluded)

    @cached_property
    def reply(self) -> str:
        """All replies of this turn as the model sees them, joined by a blank line. Empty if there is none."""
        replies = [m.content for m in self.messages if m.role == "assistant" and m.content.strip()]
        return "\n\n".join(replies)

    @cached_property
    def sendable(self) -> bool:
        """Whether this turn may be sent at all: it is answered and not excluded."""
        return bool(self.reply) and not self.excluded

    @cached_property
    def api_messages(self) -> tuple[dict[str, str], dict[str, str]]:
        """The two messages that this turn is sent as. Cached: do not modify them."""
        question, reply = self.question.content, self.reply
        return {"role": "user", "content": question}, {"role": "assistant", "content": reply}


@dataclass
class Session:
    """The state that the records of one session lead to: a tree of messages and the path to its head."""

    name: str = ""
    header: Record = field(default_factory=dict)
    settings: Record = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    summaries: dict[tuple[str, str, frozenset[str]], Summary] = field(default_factory=dict)
    marks: dict[str, dict[str, bool]] = field(default_factory=dict)
    head: str | None = None
    system_override: str | None = None
    """The current system prompt, where it is not the session's own: a default, or one for a single message."""
    forgotten: list[Forgotten] = field(default_factory=list)
    """What the user wants neither summarised nor retrieved any more."""
    malformed_count: int = 0
    unknown_count: int = 0
    _path: list[Message] | None = None
    _turns: list[Turn] | None = None
    _turn_index: dict[str, int] = field(default_factory=dict)
    _newest: str | None = None
    _positions: dict[str, int] = field(default_factory=dict)
    _positions_before: int = 0

    @classmethod
    def replay(cls, name: str, records: Iterable[Record]) -> Session:
        """The session that these records lead to, in their order."""
        session = cls(name)
        with pause_gc():  # garbage collection would take a third of the time and find nothing
            for record in records:
                session.apply(record)
        return session

    @classmethod
    def from_turns(cls, source: Session) -> Session:
        """A copy of a session's turns and summaries that later records do not change."""
        copy = cls(source.name, system_override=source.system, summaries=dict(source.summaries))
        if source.forgotten:
            source.position("")
            copy.forgotten = list(source.forgotten)
            copy._positions, copy._positions_before = source._positions, source._positions_before
        copy._turn_index = dict(source.turn_index)
        copy._turns = list(source.turns)
        return copy

    @classmethod
    def from_path(cls, source: Session, path: Sequence[Message]) -> Session:
        """A session that consists of the beginning of a path, with the summaries and marks of `source`."""
        copy = cls(source.name, system_override=source.system, summaries=source.summaries, marks=source.marks)
        copy.messages = {message.id: message for message in path}
        copy._path = list(path)
        copy.head = copy._newest = path[-1].id if path else None
        return copy

    def apply(self, record: Record) -> None:
        """Apply one record, in the order of the file. Never fails."""
        apply = _APPLY.get(str(record.get("type")))
        if apply is None:
            self.unknown_count += 1
        elif not apply(self, record):
            self.malformed_count += 1

    # Reading

    @property
    def id(self) -> str:
        return str(self.header.get("id", ""))

    @property
    def external_id(self) -> str | None:
        """What the program that created the session calls it. None for one that a person created."""
        ident = self.header.get("external_id")
        return ident if isinstance(ident, str) else None

    @property
    def created(self) -> str:
        first = next(iter(self.messages.values()), None)
        return str(self.header.get("created") or (first.time if first else ""))

    @property
    def read_only(self) -> bool:
        """Whether a newer version of chatmem wrote this session in a format that must not be appended to."""
        version = self.header.get("chatmem", VERSION)
        return isinstance(version, int) and version > VERSION

    @property
    def system(self) -> str:
        """The current system prompt. Empty for none."""
        system = self.settings.get("system") or "" if self.system_override is None else self.system_override
        return fix_surrogates(str(system))

    @property
    def title(self) -> str:
        """The title that was set, else the first words of the first question."""
        if title := self.settings.get("title"):
            return str(title)
        first = next((m for m in self.messages.values() if m.role == "user" and m.content.strip()), None)
        if first is None:
            return ""
        return truncate(" ".join(first.content[:400].split()), MAX_TITLE_CHARS)

    @property
    def last_active(self) -> str:
        """When the session was used last. That of an import whose messages have no times is when it was imported."""
        return (self.messages[self._newest].time if self._newest else "") or self.created

    @property
    def model(self) -> str | None:
        """The model of the newest reply on the path, else the one set for the session."""
        answered = (m.model for m in reversed(self.path) if m.role == "assistant" and m.model)
        model = next(answered, None) or self.settings.get("model")
        return model if isinstance(model, str) else None

    @property
    def path(self) -> list[Message]:
        """The conversation: the messages from the root to the head. Cached: do not modify it."""
        if self._path is None:
            path: list[Message] = []
            ident = self.head
            while ident is not None:
                path.append(self.messages[ident])
                ident = path[-1].parent
            self._path = path[::-1]
        return self._path

    @property
    def preamble(self) -> list[Message]:
        """The messages on the path before the first question, such as a greeting."""
        first = next((i for i, m in enumerate(self.path) if m.role == "user"), len(self.path))
        return self.path[:first]

    @property
    def turns(self) -> list[Turn]:
        """The turns of the path, oldest first. Cached: do not modify it."""
        if self._turns is None:
            turns: list[Turn] = []
            index: dict[str, int] = {}
            for number, messages in enumerate(_by_turn(self.path), 1):
                turns.append(self._make_turn(number, messages))
                index.update((message.id, number - 1) for message in messages)
            self._turn_index = index
            self._turns = turns  # published last: another thread sees all turns or computes them itself
        return self._turns

    def pinned_turns(self) -> list[Turn]:
        """The pinned turns of the path, in the order in which they were marked first."""
        turns, index = self.turns, self.turn_index
        marked = (turns[index[ident]] for ident, flags in self.marks.items() if "pinned" in flags and ident in index)
        return [turn for turn in marked if turn.pinned]

    @property
    def turn_index(self) -> dict[str, int]:
        """The index in `turns` of the turn that holds each message of the path."""
        return self._turn_index if self.turns else {}

    def locate(self, ident: str) -> tuple[int, int]:
        """The position of a message of the path: the index of its turn, and its index in that turn."""
        index = self.turn_index[ident]
        return index, next(i for i, m in enumerate(self.turns[index].messages) if m.id == ident)

    def position(self, ident: str) -> int:
        """How many messages were stored before a message. Only those that may be forgotten have their own position."""
        if self.forgotten and self._positions_before != self.forgotten[-1].before:
            self._positions_before = self.forgotten[-1].before
            pairs = zip(range(self._positions_before), self.messages, strict=False)
            self._positions = {ident: number for number, ident in pairs}
        return self._positions.get(ident, sys.maxsize)

    def records_with_forgotten(self, messages: Iterable[Message]) -> Iterator[Record]:
        """The records of some messages in their order, and after each what was forgotten of the messages so far."""
        left = list(self.forgotten)
        for message in messages:
            while left and self.position(message.id) >= left[0].before:
                yield {"type": "forget", "text": left.pop(0).text}
            yield message.record()
        yield from ({"type": "forget", "text": entry.text} for entry in left)

    @property
    def unanswered(self) -> Message | None:
        """The newest question on the path, if it has no reply yet."""
        return self.turns[-1].question if self.turns and not self.turns[-1].reply else None

    def turn(self, number: int) -> Turn | None:
        return self.turns[number - 1] if 1 <= number <= len(self.turns) else None

    def shortened_turn(self, reply: Message) -> tuple[int, int] | None:
        """The turn that was shortened for a reply, and how many tokens of it the model was not sent."""
        left_out = (reply.plan_digest or {}).get("shortened")
        if not isinstance(left_out, dict):
            return None
        turns = sorted(self.turn_index[ident] + 1 for ident in left_out if ident in self.turn_index)
        tokens = sum(count for count in left_out.values() if isinstance(count, int) and count < MAX_TOKENS)
        return (turns[0], tokens) if turns else None

    def children(self, parent: str | None) -> list[Message]:
        """The messages that follow `parent`, oldest first. There are several where the conversation branches."""
        return [m for m in self.messages.values() if m.parent == parent]

    def leaves(self) -> list[Message]:
        """The last message of every branch, oldest first."""
        parents = {m.parent for m in self.messages.values()}
        return [m for m in self.messages.values() if m.id not in parents]

    # Applying records. Each function returns whether the record was well-formed.

    def _apply_header(self, record: Record) -> bool:
        self.header = self.header or record
        return isinstance(record.get("chatmem", VERSION), int)

    def _apply_settings(self, record: Record) -> bool:
        self.settings |= {k: v for k, v in record.items() if k != "type"}
        self.settings = {k: v for k, v in self.settings.items() if v is not None}
        return True

    def _apply_message(self, record: Record) -> bool:
        message = Message.from_record(record)
        if message is None:
            return False
        if message.id in self.messages:
            return True  # written twice by a store that retried: the first one counts
        if message.parent is not None and message.parent not in self.messages:
            # The parent's line is damaged. A gap is better than losing everything before it.
            message = message._replace(parent=self._newest)
        self.messages[message.id] = message
        self._newest = message.id
        if message.parent == self.head and self._path is not None:
            self._path.append(message)
            if self._turns is not None:
                self._add_to_turns(message, self._turns, self._turn_index)
        else:
            self._clear_path()
        self.head = message.id
        return True

    def _apply_summary(self, record: Record) -> bool:
        segment = Summary.from_record(record)
        if segment is None:
            return False
        key = segment.start, segment.end, segment.excluded_turns
        self.summaries.pop(key, None)
        if segment.text:  # an empty text discards the segment
            self.summaries[key] = segment
        return True

    def _apply_mark(self, record: Record) -> bool:
        ident = record.get("message")
        if not isinstance(ident, str):
            return False
        flags = {k: v for k in ("pinned", "excluded") if isinstance(v := record.get(k), bool)}
        self.marks[ident] = self.marks.get(ident, {}) | flags
        if self._turns is not None and (index := self._turn_index.get(ident)) is not None:
            self._turns[index] = self._make_turn(index + 1, self._turns[index].messages)
        return bool(flags)

    def _apply_forget(self, record: Record) -> bool:
        text = record.get("text")
        if not isinstance(text, str) or not text.strip():
            return False
        if record.get("undone") is True:
            self.forgotten = [entry for entry in self.forgotten if entry.text != text]
        else:
            self.forgotten.append(Forgotten(text, len(self.messages)))
        return True

    def _apply_head(self, record: Record) -> bool:
        ident = record.get("message")
        if ident is not None and (not isinstance(ident, str) or ident not in self.messages):
            return False
        self.head = ident
        self._clear_path()
        return True

    def _clear_path(self) -> None:
        self._path = self._turns = None

    def _add_to_turns(self, message: Message, turns: list[Turn], index: dict[str, int]) -> None:
        """Add the next message of the path to the last turn, or begin a turn with it."""
        if message.role == "user":
            turns.append(self._make_turn(len(turns) + 1, (message,)))
        elif turns:
            turns[-1] = self._make_turn(len(turns), (*turns[-1].messages, message))
        if turns:
            index[message.id] = len(turns) - 1

    def _make_turn(self, number: int, messages: Sequence[Message]) -> Turn:
        if not self.marks:
            return Turn(number, tuple(messages))
        flags: dict[str, bool] = {}
        for message in messages:
            flags |= self.marks.get(message.id, {})
        return Turn(number, tuple(messages), flags.get("pinned", False), flags.get("excluded", False))


def _by_turn(path: Iterable[Message]) -> Iterator[list[Message]]:
    """The messages of each turn of a path. What stands before the first question belongs to none."""
    messages: list[Message] = []
    for message in path:
        if message.role == "user":
            if messages:
                yield messages
            messages = [message]
        elif messages:
            messages.append(message)
    if messages:
        yield messages


_APPLY: dict[str, Callable[[Session, Record], bool]] = {
    "session": Session._apply_header,
    "settings": Session._apply_settings,
    "message": Session._apply_message,
    "summary": Session._apply_summary,
    "mark": Session._apply_mark,
    "head": Session._apply_head,
    "forget": Session._apply_forget,
    "malformed": lambda session, record: False,  # what a store returns for a line that is not a record
}
