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
    for one in data:
        mapping = {str(k): v for k, v in one["mapping"].items() if isinstance(v, dict)}
        ident = one.get("conversation_id") or one.get("id") or ""
        records = list(_records(mapping, one))
        title = one.get("title") if isinstance(one.get("title"), str) else ""
        yield ImportedConversation(
            title or "", records, f"chatgpt:{ident}" if ident else "", created=_time(one.get("create_time"))
        )


def _records(mapping: dict[str, Any], one: dict[str, Any]) -> Iterator[Record]:
    """The visible messages, parents first, and the head."""
    parents = {ident: p if isinstance(p := node.get("parent"), str) else None for ident, node in mapping.items()}
    yield from tree(
        parents,
        lambda ident, parent: _visible(ident, mapping[ident].get("message"), parent, one),
        str(one.get("current_node")),
    )


def _visible(ident: str, found: Any, parent: str | None, one: dict[str, Any]) -> Record | None:
    if not isinstance(found, dict):
        return None
    author, content, meta = (_table(found.get(name)) for name in ("author", "content", "metadata"))
    role, kind = author.get("role"), content.get("content_type")
    if (
        role not in ("user", "assistant")
        or kind not in ("text", "multimodal_text")
        or found.get("recipient", "all") != "all"
    ):
        return None
    if meta.get("is_visually_hidden_from_conversation") or found.get("weight") == 0:
        return None
    text = content_text(content.get("parts")) or content_text(content.get("text"))
    if not text.strip():
        return None
    more: dict[str, Any] = {"id": ident, "time": _time(found.get("create_time"))}
    if role == "assistant":
        model = meta.get("model_slug") or one.get("default_model_slug")
        more["model"] = model if isinstance(model, str) else None
    return message(role, text, parent, **more)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


FORMAT = Format("chatgpt", "", None, read, detect, splittable=True)
