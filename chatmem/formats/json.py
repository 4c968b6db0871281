"""json: a session whole, as one object for other programs; and the jsonl file that a session is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, Imported
from chatmem.records import Message, Record
from chatmem.session import Session

SCHEMA = Path(__file__).with_name("json.schema.json")
"""The JSON Schema of what `write` gives."""


def message_record(session: Session, message: Message) -> dict[str, Any]:
    """A message of the path as `sessions show --json` gives it."""
    place = session.places.get(message.id)
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
    """One object: `session`, the `messages` of the current path, and `records`, everything there is."""
    about = {"name": session.name, "id": session.id, "title": session.title, "created": session.created}
    body = {"session": about | {"model": session.model, "settings": session.settings}}
    body |= {"messages": [message_record(session, m) for m in session.path], "records": records}  # type: ignore[dict-item]
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def recognises(data: Any, path: Path | None) -> bool:
    return isinstance(data, dict) and isinstance(data.get("records"), list) and isinstance(data.get("session"), dict)


def read(data: Any, path: Path | None) -> Iterator[Imported]:
    yield whole([r for r in data["records"] if isinstance(r, dict)], str(data["session"].get("name") or ""))


def whole(records: list[Record], name: str) -> Imported:
    """A session of ours, from all its records."""
    session = Session.replay(name, records)
    return Imported(
        session.title, records, f"chatmem:{session.id}", name or str(session.header.get("name", "")), whole=True
    )


FORMAT = Format("json", ".json", write, read, recognises)


def write_lines(session: Session, records: list[Record]) -> str:
    """The session file itself: one record a line."""
    return "".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n" for record in records)


def recognises_lines(data: Any, path: Path | None) -> bool:
    return isinstance(data, list) and any(
        isinstance(r, dict) and r.get("type") == "session" and "chatmem" in r for r in data[:5]
    )


def read_lines(data: Any, path: Path | None) -> Iterator[Imported]:
    records = [r for r in data if isinstance(r, dict)]
    yield whole(records, next((str(r.get("name", "")) for r in records if r.get("type") == "session"), ""))


LINES = Format("jsonl", ".jsonl", write_lines, read_lines, recognises_lines)
