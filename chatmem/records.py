"""What a session file is made of: one JSON object a line, each of them plain data (see the README for the format)."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any, NamedTuple

Record = dict[str, Any]

VERSION = 1
"""The major version of the record format; a higher one in a header is opened read-only."""

STATUSES = ("complete", "length", "filtered", "interrupted", "truncated", "error")
MOST_TOKENS = 1 << 40
"""More tokens than this no server has ever counted: such a report is a lie, or a fault."""


class Usage(NamedTuple):
    """What the server reported for one reply, in its own tokens; None where it said nothing."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None

    @classmethod
    def from_record(cls, value: object) -> Usage | None:
        if not isinstance(value, dict):
            return None
        counts = {
            k: n for k in ("prompt", "completion", "cached") if type(n := value.get(k)) is int and 0 <= n < MOST_TOKENS
        }
        return cls(**counts) if counts else None

    def record(self) -> Record:
        return {k: n for k in ("prompt", "completion", "cached") if (n := getattr(self, k)) is not None}


class Message(NamedTuple):
    """One stored message. `parent` is the message it follows, or None for a first one."""

    id: str
    parent: str | None
    role: str
    content: str
    time: str = ""
    model: str | None = None
    status: str = "complete"
    usage: Usage | None = None
    sent: Record | None = None

    @classmethod
    def from_record(cls, record: Record) -> Message | None:
        """The message of a record, or None if the record is none."""
        get = record.get
        ident, parent, role, content = get("id"), get("parent"), get("role"), get("content")
        if not (isinstance(ident, str) and ident and isinstance(role, str) and isinstance(content, str)):
            return None
        if parent is not None and not isinstance(parent, str):
            return None
        time, model, status, sent = get("time"), get("model"), get("status"), get("sent")
        return cls(
            ident,
            parent,
            role,
            repaired(content),
            time if isinstance(time, str) else "",
            model if isinstance(model, str) else None,
            status if status in STATUSES else "complete",
            Usage.from_record(get("usage")),
            sent if isinstance(sent, dict) else None,
        )

    def record(self) -> Record:
        """This message as a line of the session file; what only replies have is left out of questions."""
        record: Record = {"type": "message", "id": self.id, "parent": self.parent, "role": self.role}
        record |= {"content": self.content, "time": self.time}
        if self.role == "assistant":
            record |= {"model": self.model, "status": self.status}
            if self.usage:
                record["usage"] = self.usage.record()
            if self.sent:
                record["sent"] = self.sent
        return record


class Summary(NamedTuple):
    """One part of the notes: the turns from message `start` to message `end`, in other words.

    `without` names the turns inside the span that are not in the text (excluded or pinned when it was made).
    """

    id: str
    start: str
    end: str
    level: int
    text: str
    model: str = ""
    without: frozenset[str] = frozenset()
    edited: bool = False

    def record(self) -> Record:
        record: Record = {"type": "summary", "id": self.id, "from": self.start, "to": self.end}
        record |= {"level": self.level, "text": self.text, "model": self.model}
        if self.without:
            record["without"] = sorted(self.without)
        if self.edited:
            record["edited"] = True
        return record


def header(name: str) -> Record:
    """The first record of a new session."""
    return {"type": "session", "chatmem": VERSION, "id": new_id(), "name": name, "created": now()}


def now() -> str:
    """The time as records hold it: UTC, to the millisecond, `2026-11-20T11:58:03.123Z`."""
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return moment.removesuffix("+00:00") + "Z"


def moment(text: str) -> datetime.datetime | None:
    """The aware datetime that a record's time stands for, or None if it is none."""
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)


def new_id() -> str:
    """A new id: 12 hex digits of the time in milliseconds, then 12 random ones, so that ids sort by age."""
    return f"{int(time.time() * 1000):012x}{os.urandom(6).hex()}"


def repaired(text: str) -> str:
    """The text with split surrogate pairs joined and lone surrogates replaced, so that it can be stored and sent."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
