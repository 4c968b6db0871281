"""Records, the lines of a session file, as plain data. `.github/SESSION_FORMAT.md` describes the format."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any, NamedTuple

from chatmem.text import fix_surrogates

Record = dict[str, Any]

VERSION = 1
"""The major version of the record format. Sessions with a higher one are opened read-only."""

STATUSES = ("complete", "length", "filtered", "interrupted", "truncated", "error")
MAX_TOKENS = 1 << 40
"""The largest token count that is believed when a server reports it."""
MAX_COST = 1e6
"""The largest cost of a reply that is believed when a record has it."""


class Usage(NamedTuple):
    """What the server reported for one reply, in its own tokens. None where it reported nothing.

    `cost` is in dollars, at the price of that time. None if no price was known.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    cost: float | None = None

    @classmethod
    def from_record(cls, value: object) -> Usage | None:
        if not isinstance(value, dict):
            return None
        counts = {
            k: n for k in ("prompt", "completion", "cached") if type(n := value.get(k)) is int and 0 <= n < MAX_TOKENS
        }
        cost = value.get("cost")
        is_cost = isinstance(cost, int | float) and 0 <= cost < MAX_COST
        return cls(**counts, cost=cost if is_cost else None) if counts else None

    def record(self) -> Record:
        record: Record = {k: n for k in ("prompt", "completion", "cached") if (n := getattr(self, k)) is not None}
        return record if self.cost is None else record | {"cost": round(self.cost, 9)}


class Message(NamedTuple):
    """One stored message. `parent` is the id of the message it follows, None for the first."""

    id: str
    parent: str | None
    role: str
    content: str
    time: str = ""
    model: str | None = None
    status: str = "complete"
    usage: Usage | None = None
    plan_digest: Record | None = None

    @classmethod
    def from_record(cls, record: Record) -> Message | None:
        """The message in a record, or None if the record is malformed."""
        get = record.get
        ident, parent, role, content = get("id"), get("parent"), get("role"), get("content")
        if not (isinstance(ident, str) and ident and isinstance(role, str) and isinstance(content, str)):
            return None
        if parent is not None and not isinstance(parent, str):
            return None
        content = content if content.isascii() else fix_surrogates(content)
        time, model, status, usage, sent = get("time"), get("model"), get("status"), get("usage"), get("sent")
        time = time if isinstance(time, str) else ""
        if (
            model is status is usage is sent is None
        ):  # most messages: opening a long session spends most of its time here
            return cls(ident, parent, role, content, time)
        return cls(
            ident,
            parent,
            role,
            content,
            time,
            model if isinstance(model, str) else None,
            status if status in STATUSES else "complete",
            Usage.from_record(usage),
            sent if isinstance(sent, dict) else None,
        )

    def record(self) -> Record:
        """This message as a record. Fields that only replies have are omitted for questions."""
        record: Record = {"type": "message", "id": self.id, "parent": self.parent, "role": self.role}
        record |= {"content": self.content, "time": self.time}
        if self.role == "assistant":
            record |= {"model": self.model, "status": self.status}
            if self.usage:
                record["usage"] = self.usage.record()
            if self.plan_digest:
                record["sent"] = self.plan_digest
        return record


class Summary(NamedTuple):
    """One segment of the summary: it stands for the turns from message `start` to message `end`.

    `excluded_turns` are the ids of turns in that span which the text leaves out, because they were excluded or pinned
    when it was made. `level` counts the merges that led to it. An empty text discards the segment.
    """

    id: str
    start: str
    end: str
    level: int
    text: str
    model: str = ""
    excluded_turns: frozenset[str] = frozenset()
    edited: bool = False
    compact: bool = False
    """Whether the user asked for it. Then the turns that it stands for are not sent verbatim."""
    sources: tuple[tuple[str, ...], ...] = ()
    """The ids of the turns that each line of the text stems from."""

    @classmethod
    def from_record(cls, record: Record) -> Summary | None:
        """The segment in a record, or None if the record is malformed."""
        texts = [record.get(k) for k in ("id", "from", "to", "text")]
        level, without, sources = record.get("level", 0), record.get("without", []), record.get("sources")
        if not all(isinstance(t, str) for t in texts) or type(level) is not int or not isinstance(without, list):
            return None
        ident, start, end, text = map(str, texts)
        return cls(
            ident,
            start,
            end,
            level,
            text,
            str(record.get("model", "")),
            frozenset(map(str, without)),
            bool(record.get("edited")),
            record.get("compact") is True,
            tuple(tuple(map(str, ids)) if isinstance(ids, list) else () for ids in sources)
            if isinstance(sources, list)
            else (),
        )

    def record(self) -> Record:
        record: Record = {"type": "summary", "id": self.id, "from": self.start, "to": self.end}
        record |= {"level": self.level, "text": self.text, "model": self.model}
        if self.excluded_turns:
            record["without"] = sorted(self.excluded_turns)
        if self.edited:
            record["edited"] = True
        if self.compact:
            record["compact"] = True
        if self.sources:
            record["sources"] = [list(ids) for ids in self.sources]
        return record


def header(name: str) -> Record:
    """The first record of a new session."""
    return {"type": "session", "chatmem": VERSION, "id": new_id(), "name": name, "created": utc_now()}


def utc_now() -> str:
    """The current time as records store it: UTC, in milliseconds, `2026-11-20T11:58:03.123Z`."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return time.removesuffix("+00:00") + "Z"


def parse_time(text: str) -> datetime.datetime | None:
    """A record's time as an aware datetime, or None if it is not a time."""
    try:
        parsed = datetime.datetime.fromisoformat(text)
        return parsed.astimezone(datetime.UTC) if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        return None


def new_id() -> str:
    """A new id: 12 hex digits of the time in milliseconds and 12 random ones, so that ids sort by age."""
    return f"{int(time.time() * 1000):012x}{os.urandom(6).hex()}"
