"""claude: the export of Claude.ai, `conversations.json`, alone or in its zip. Newer exports are trees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, content_text, message, tree
from chatmem.history.records import Record, new_id

ROLES = {"human": "user", "assistant": "assistant"}


def detect(data: Any, path: Path | None) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(c, dict) and isinstance(c.get("chat_messages"), list) for c in data)
    )


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    for conversation in data:
        ident, title, created = (
            conversation.get(k) if isinstance(conversation.get(k), str) else "" for k in ("uuid", "name", "created_at")
        )
        yield ImportedConversation(
            title or "", list(_records(conversation)), f"claude:{ident}" if ident else "", created=created or ""
        )


def _records(conversation: dict[str, Any]) -> Iterator[Record]:
    """The messages with text, parents first, and the head. Without a parent, a message follows the previous one."""
    entries: dict[str, dict[str, Any]] = {}
    parents: dict[str, str | None] = {}
    last: str | None = None
    for entry in conversation["chat_messages"]:
        if isinstance(entry, dict):
            ident = entry.get("uuid")
            ident = ident if isinstance(ident, str) and ident not in entries else new_id()
            entries[ident] = entry
            parents[ident] = str(entry["parent_message_uuid"]) if "parent_message_uuid" in entry else last
            last = ident
    leaf = conversation.get("current_leaf_message_uuid")
    head = leaf if isinstance(leaf, str) and leaf in entries else last
    yield from tree(parents, lambda ident, parent: _record(ident, entries[ident], parent, conversation), head)


def _record(ident: str, entry: dict[str, Any], parent: str | None, conversation: dict[str, Any]) -> Record | None:
    role = ROLES.get(str(entry.get("sender")))
    text = _text(entry) if role else ""
    if not role or not text.strip():
        return None
    fields: dict[str, Any] = {"id": ident, "time": entry.get("created_at")}
    if not isinstance(fields["time"], str):
        fields["time"] = ""
    if role == "assistant":
        fields["model"] = conversation.get("model") if isinstance(conversation.get("model"), str) else None
    return message(role, text, parent, **fields)


def _text(entry: dict[str, Any]) -> str:
    """The text parts of a message, and the names and texts of its attachments."""
    content = entry.get("content")
    parts = [p for p in content if isinstance(p, dict) and p.get("type") == "text"] if isinstance(content, list) else []
    text = content_text(parts) or content_text(entry.get("text"))
    for attached in entry.get("attachments") or ():
        if isinstance(attached, dict) and isinstance(attached.get("extracted_content"), str):
            text += f"\n\n{attached.get('file_name') or 'attachment'}:\n{attached['extracted_content']}"
    return text


FORMAT = Format("claude", "", None, read, detect, splittable=True)
