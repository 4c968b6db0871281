"""The interface of a format: exporting a session, importing conversations, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatmem.errors import UsageError
from chatmem.history.records import Record, header, new_id
from chatmem.history.session import Session
from chatmem.text import fix_surrogates

MAX_BYTES = 1 << 30
"""The largest file that is imported, and the largest member of an archive, in bytes."""


@dataclass
class ImportedConversation:
    """One conversation found in a file, as records of a session without its header."""

    title: str
    records: list[Record]
    source: str = ""
    """Format and id, by which a conversation that was imported before is recognised."""
    name: str = ""
    """The name it had as a session of chatmem."""
    created: str = ""
    is_native: bool = False
    """Whether the records are a complete session of chatmem, with its header."""

    @property
    def message_count(self) -> int:
        return sum(record.get("type") == "message" for record in self.records)

    def to_records(self, name: str) -> list[Record]:
        """The records of a new session with this name."""
        if self.is_native:
            old = next((r for r in self.records if r.get("type") == "session"), header(name))
            return [{**old, "name": name}, *(r for r in self.records if r is not old)]
        first = header(name) | {"imported": self.source}
        if self.created:
            first["created"] = self.created
        settings = [{"type": "settings", "title": self.title}] if self.title else []
        return [first, *settings, *self.records]


@dataclass(frozen=True)
class Format:
    """One export and import format. Either direction may be missing."""

    name: str
    suffix: str = ""
    """The suffix of file names in this format, with its dot."""
    write: Callable[[Session, list[Record]], str] | None = None
    """A session, given with all its records, as text."""
    read: Callable[[Any, Path | None], Iterator[ImportedConversation]] | None = None
    """The conversations in parsed JSON, in bytes, or in a file, as `detect` was given it."""
    detect: Callable[[Any, Path | None], bool] = field(default=lambda data, path: False)
    splittable: bool = False
    """Whether each item of a list is a conversation that can be read alone."""


def messages(turns: Iterable[tuple[str, str, dict[str, Any]]], parent: str | None = None) -> Iterator[Record]:
    """Message records from (role, content, more), each following the previous one. Other roles are skipped."""
    for role, content, more in turns:
        if role in ("user", "assistant"):
            record = message(role, content, parent, **more)
            parent = record["id"]
            yield record


def message(role: str, content: str, parent: str | None, **more: Any) -> Record:
    """One message record. `more` may hold time, model, status, usage and id."""
    record: Record = {"type": "message", "id": more.pop("id", None) or new_id(), "parent": parent, "role": role}
    record |= {"content": fix_surrogates(content), "time": more.pop("time", "") or ""}
    if role == "assistant":
        record |= {"model": more.pop("model", None), "status": more.pop("status", "complete")}
    return record | {name: value for name, value in more.items() if value is not None}


def tree(
    parents: Mapping[str, str | None], make: Callable[[str, str | None], Record | None], head: str | None
) -> Iterator[Record]:
    """The records of a tree of messages, parents first, then its head (the last message if the head is not in it).

    `make` returns the record of a message from its id and its parent's id, or None to skip the message.
    """
    children: dict[str | None, list[str]] = {}
    for ident, parent in parents.items():
        children.setdefault(parent if parent in parents else None, []).append(ident)
    shown: dict[str, str | None] = {}
    waiting: list[tuple[str, str | None]] = [(ident, None) for ident in reversed(children.get(None, []))]
    last = None
    while waiting:
        ident, parent = waiting.pop()
        if ident in shown:
            continue
        if record := make(ident, parent):
            yield record
            parent = last = record["id"]
        shown[ident] = parent
        waiting += [(child, parent) for child in reversed(children.get(ident, []))]
    found = shown.get(head, last) if head is not None else last
    if found != last:
        yield {"type": "head", "message": found}


def content_text(content: object) -> str:
    """The text of a content that is a string or a list of parts. Images and other parts become placeholders."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind := str(part.get("type") or part.get("content_type") or ""):
                texts.append(f"[{kind.replace('_', ' ')}]")
    return "\n".join(texts)


def import_error(what: str) -> UsageError:
    """The error for a file that cannot be imported."""
    return UsageError(f"{what} Nothing was imported.", "Pass the format with -f, or export the file again.")
