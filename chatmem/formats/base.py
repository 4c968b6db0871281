"""The promise of a format: a session as something else, or back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatmem.errors import WrongUse
from chatmem.records import Record, header, new_id, repaired
from chatmem.session import Session

LARGEST = 1 << 30
"""The most bytes of an imported file, and that one member of an archive may unpack to."""


@dataclass
class Imported:
    """One conversation that was found in a file, as records of a session without its header."""

    title: str
    records: list[Record]
    source: str = ""
    """Format and id, by which a conversation that was imported before is known again."""
    name: str = ""
    """The name it had as a session of ours."""
    created: str = ""
    whole: bool = False
    """Whether the records are a whole session of ours, header and all."""

    @property
    def messages(self) -> int:
        return sum(record.get("type") == "message" for record in self.records)

    def as_records(self, name: str) -> list[Record]:
        """The records of a new session of this name."""
        if self.whole:
            old = next((r for r in self.records if r.get("type") == "session"), header(name))
            return [{**old, "name": name}, *(r for r in self.records if r is not old)]
        first = header(name) | {"imported": self.source}
        if self.created:
            first["created"] = self.created
        settings = [{"type": "settings", "title": self.title}] if self.title else []
        return [first, *settings, *self.records]


@dataclass(frozen=True)
class Format:
    """One way to write a session down, and to read it back; either may be missing."""

    name: str
    ending: str = ""
    """The end of a file name that means this format, with its dot."""
    write: Callable[[Session, list[Record]], str] | None = None
    """A session, and all its records, as text."""
    read: Callable[[Any, Path | None], Iterator[Imported]] | None = None
    """The conversations in parsed JSON, in bytes, or in a file, as `recognises` was given it."""
    recognises: Callable[[Any, Path | None], bool] = field(default=lambda data, path: False)
    many: bool = False
    """Whether a list is one of conversations, so that each of its items can be read alone."""


def messages(turns: Iterable[tuple[str, str, dict[str, Any]]], parent: str | None = None) -> Iterator[Record]:
    """Message records in a row: (role, content, more) each; other roles are left out."""
    for role, content, more in turns:
        if role in ("user", "assistant"):
            record = message(role, content, parent, **more)
            parent = record["id"]
            yield record


def message(role: str, content: str, parent: str | None, **more: Any) -> Record:
    """One message record; `more` may give time, model, status, usage or an id."""
    record: Record = {"type": "message", "id": more.pop("id", None) or new_id(), "parent": parent, "role": role}
    record |= {"content": repaired(content), "time": more.pop("time", "") or ""}
    if role == "assistant":
        record |= {"model": more.pop("model", None), "status": more.pop("status", "complete")}
    return record | {name: value for name, value in more.items() if value is not None}


def tree(
    parents: Mapping[str, str | None], make: Callable[[str, str | None], Record | None], head: str | None
) -> Iterator[Record]:
    """The records of a tree of messages, parents first, then its head (the last one, if that is not in the tree).

    `make` gives a message's record from its id and its parent's; one for which it gives None is passed through.
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


def text_of(content: object) -> str:
    """The text of a content that is a string, or a list of parts; images and the like leave a placeholder."""
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


def wrong(what: str) -> WrongUse:
    """The error for a file that is not what it looks like."""
    return WrongUse(f"{what} Nothing was imported.", "Name the format with -f, or export the file again.")
