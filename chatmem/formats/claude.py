"""claude: the export of Claude.ai, `conversations.json`, alone or in its zip; newer ones are trees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, Imported, message, text_of
from chatmem.session import Record, new_id

ROLES = {"human": "user", "assistant": "assistant"}


def recognises(data: Any, path: Path | None) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(c, dict) and isinstance(c.get("chat_messages"), list) for c in data)
    )


def read(data: Any, path: Path | None) -> Iterator[Imported]:
    for one in data:
        ident, title, created = (
            one.get(k) if isinstance(one.get(k), str) else "" for k in ("uuid", "name", "created_at")
        )
        yield Imported(title or "", list(_records(one)), f"claude:{ident}" if ident else "", created=created or "")


def _records(one: dict[str, Any]) -> Iterator[Record]:
    shown: dict[str, str] = {}
    before: str | None = None
    for found in one["chat_messages"]:
        role = ROLES.get(str(found.get("sender"))) if isinstance(found, dict) else None
        text = _text(found) if role else ""
        if not role or not text.strip():
            continue
        ident = found.get("uuid") if isinstance(found.get("uuid"), str) else new_id()
        parent = shown.get(str(found.get("parent_message_uuid"))) if "parent_message_uuid" in found else before
        time = found.get("created_at") if isinstance(found.get("created_at"), str) else ""
        more: dict[str, Any] = {"id": ident, "time": time}
        if role == "assistant":
            more["model"] = one.get("model") if isinstance(one.get("model"), str) else None
        yield message(role, text, parent, **more)
        shown[ident] = before = ident
    leaf = one.get("current_leaf_message_uuid")
    if isinstance(leaf, str) and leaf in shown and leaf != before:
        yield {"type": "head", "message": leaf}


def _text(found: dict[str, Any]) -> str:
    """What was said: the text parts, and the names and texts of what was attached."""
    content = found.get("content")
    parts = [p for p in content if isinstance(p, dict) and p.get("type") == "text"] if isinstance(content, list) else []
    text = text_of(parts) or text_of(found.get("text"))
    for attached in found.get("attachments") or ():
        if isinstance(attached, dict) and isinstance(attached.get("extracted_content"), str):
            text += f"\n\n{attached.get('file_name') or 'attachment'}:\n{attached['extracted_content']}"
    return text


FORMAT = Format("claude", "", None, read, recognises, many=True)
