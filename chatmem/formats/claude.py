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
    for one in data:
        ident, title, created = (
            one.get(k) if isinstance(one.get(k), str) else "" for k in ("uuid", "name", "created_at")
        )
        yield ImportedConversation(
            title or "", list(_records(one)), f"claude:{ident}" if ident else "", created=created or ""
        )


def _records(one: dict[str, Any]) -> Iterator[Record]:
    """The messages with text, parents first, and the head. Without a parent, a message follows the previous one."""
    found: dict[str, dict[str, Any]] = {}
    parents: dict[str, str | None] = {}
    last: str | None = None
    for said in one["chat_messages"]:
        if isinstance(said, dict):
            ident = said.get("uuid")
            ident = ident if isinstance(ident, str) and ident not in found else new_id()
            found[ident] = said
            parents[ident] = str(said["parent_message_uuid"]) if "parent_message_uuid" in said else last
            last = ident
    leaf = one.get("current_leaf_message_uuid")
    head = leaf if isinstance(leaf, str) and leaf in found else last
    yield from tree(parents, lambda ident, parent: _record(ident, found[ident], parent, one), head)


def _record(ident: str, said: dict[str, Any], parent: str | None, one: dict[str, Any]) -> Record | None:
    role = ROLES.get(str(said.get("sender")))
    text = _text(said) if role else ""
    if not role or not text.strip():
        return None
    more: dict[str, Any] = {"id": ident, "time": said.get("created_at")}
    if not isinstance(more["time"], str):
        more["time"] = ""
    if role == "assistant":
        more["model"] = one.get("model") if isinstance(one.get("model"), str) else None
    return message(role, text, parent, **more)


def _text(found: dict[str, Any]) -> str:
    """The text parts of a message, and the names and texts of its attachments."""
    content = found.get("content")
    parts = [p for p in content if isinstance(p, dict) and p.get("type") == "text"] if isinstance(content, list) else []
    text = content_text(parts) or content_text(found.get("text"))
    for attached in found.get("attachments") or ():
        if isinstance(attached, dict) and isinstance(attached.get("extracted_content"), str):
            text += f"\n\n{attached.get('file_name') or 'attachment'}:\n{attached['extracted_content']}"
    return text


FORMAT = Format("claude", "", None, read, detect, splittable=True)
