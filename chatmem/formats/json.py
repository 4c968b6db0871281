"""json: a complete session as one object, for other programs; jsonl: the session file itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation
from chatmem.history.records import Message, Record
from chatmem.history.session import Session

SCHEMA = Path(__file__).with_name("json.schema.json")
"""The JSON Schema of the output of `write`."""


def message_record(session: Session, message: Message) -> dict[str, Any]:
    """A message of the path as `sessions show --json` prints it."""
    place = session.turn_index.get(message.id)
    return {
        "id": message.id,
        "turn": 0 if place is None else place + 1,
        "role": message.role,
        "content": message.content,
        "status": message.status if message.role == "assistant" else None,
        "time": message.time,
        "model": message.model,
        "usage": message.usage.record() if message.usage else None,
    }


def write(session: Session, records: list[Record]) -> str:
    """One object: `session`, the `messages` of the current path, and all `records`."""
    about = {"name": session.name, "id": session.id, "title": session.title, "created": session.created}
    body = {"session": about | {"model": session.model, "settings": session.settings}}
    body |= {"messages": [message_record(session, m) for m in session.path], "records": records}  # type: ignore[dict-item]
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def detect(data: Any, path: Path | None) -> bool:
    return isinstance(data, dict) and isinstance(data.get("records"), list) and isinstance(data.get("session"), dict)


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    yield from_native([r for r in data["records"] if isinstance(r, dict)], str(data["session"].get("name") or ""))


def from_native(records: list[Record], name: str) -> ImportedConversation:
    """A complete session of chatmem, from all its records."""
    session = Session.replay(name, records)
    return ImportedConversation(
        session.title, records, f"chatmem:{session.id}", name or str(session.header.get("name", "")), is_native=True
    )


FORMAT = Format("json", ".json", write, read, detect)


def write_lines(session: Session, records: list[Record]) -> str:
    """The session file itself: one record per line."""
    return "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)


def detect_lines(data: Any, path: Path | None) -> bool:
    return isinstance(data, list) and any(
        isinstance(r, dict) and r.get("type") == "session" and "chatmem" in r for r in data[:5]
    )


def read_lines(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    records = [r for r in data if isinstance(r, dict)]
    yield from_native(records, next((str(r.get("name", "")) for r in records if r.get("type") == "session"), ""))


LINES = Format("jsonl", ".jsonl", write_lines, read_lines, detect_lines)
