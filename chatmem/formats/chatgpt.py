"""chatgpt: the export of ChatGPT, `conversations*.json`, alone or in its zip.

Each conversation is a tree (`mapping`). The path to `current_node` is the conversation, other children are branches.
Hidden, tool and empty nodes are skipped. Images become placeholders.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, content_text, message, tree
from chatmem.history.records import Record


def detect(data: Any, path: Path | None) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(c, dict) and isinstance(c.get("mapping"), dict) for c in data)
    )


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    for conversation in data:
        mapping = {str(k): v for k, v in conversation["mapping"].items() if isinstance(v, dict)}
        ident = conversation.get("conversation_id") or conversation.get("id") or ""
        records = list(_records(mapping, conversation))
        title = conversation.get("title") if isinstance(conversation.get("title"), str) else ""
        yield ImportedConversation(
            title or "", records, f"chatgpt:{ident}" if ident else "", created=_time(conversation.get("create_time"))
        )


def _records(mapping: dict[str, Any], conversation: dict[str, Any]) -> Iterator[Record]:
    """The visible messages, parents first, and the head."""
    parents = {ident: p if isinstance(p := node.get("parent"), str) else None for ident, node in mapping.items()}
    yield from tree(
        parents,
        lambda ident, parent: _visible(ident, mapping[ident].get("message"), parent, conversation),
        str(conversation.get("current_node")),
    )


def _visible(ident: str, node_message: Any, parent: str | None, conversation: dict[str, Any]) -> Record | None:
    if not isinstance(node_message, dict):
        return None
    author, content, metadata = (_table(node_message.get(name)) for name in ("author", "content", "metadata"))
    role, kind = author.get("role"), content.get("content_type")
    if (
        role not in ("user", "assistant")
        or kind not in ("text", "multimodal_text")
        or node_message.get("recipient", "all") != "all"
    ):
        return None
    if metadata.get("is_visually_hidden_from_conversation") or node_message.get("weight") == 0:
        return None
    text = content_text(content.get("parts")) or content_text(content.get("text"))
    if not text.strip():
        return None
    fields: dict[str, Any] = {"id": ident, "time": _time(node_message.get("create_time"))}
    if role == "assistant":
        model = metadata.get("model_slug") or conversation.get("default_model_slug")
        fields["model"] = model if isinstance(model, str) else None
    return message(role, text, parent, **fields)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    try:
        time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


FORMAT = Format("chatgpt", "", None, read, detect, splittable=True)
