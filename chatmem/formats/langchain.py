"""langchain: `messages_to_dict` of langchain-core. Our own fields are in `additional_kwargs.chatmem`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, content_text, message
from chatmem.history.records import Message, Record
from chatmem.history.session import Session

TYPES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}


def to_langchain(message: Message) -> dict[str, Any]:
    """One message in the form of `message_to_dict` of langchain-core."""
    kind = "human" if message.role == "user" else "ai"
    own = {"id": message.id, "time": message.time, "model": message.model, "status": message.status}
    data: dict[str, Any] = {"content": message.content, "type": kind, "id": message.id}
    data |= {"additional_kwargs": {"chatmem": {k: v for k, v in own.items() if v}}, "response_metadata": {}}
    if kind == "ai" and message.usage and message.usage.prompt is not None:
        out = message.usage.completion or 0
        data["usage_metadata"] = {
            "input_tokens": message.usage.prompt,
            "output_tokens": out,
            "total_tokens": message.usage.prompt + out,
        }
    return {"type": kind, "data": data}


def from_langchain(message_dict: Any, parent: str | None) -> Record | None:
    """The record of a message in that form. None if it is neither a question nor a reply."""
    data = message_dict.get("data")
    role = TYPES.get(str(message_dict.get("type")))
    if role is None or not isinstance(data, dict):
        return None
    extra = data.get("additional_kwargs")
    own = extra.get("chatmem") if isinstance(extra, dict) else None
    own = {k: v for k, v in own.items() if isinstance(v, str)} if isinstance(own, dict) else {}
    ident = own.get("id") or (data.get("id") if isinstance(data.get("id"), str) else None)
    usage = data.get("usage_metadata")
    counts = (
        {"prompt": usage.get("input_tokens"), "completion": usage.get("output_tokens")}
        if isinstance(usage, dict)
        else None
    )
    fields: dict[str, Any] = {"id": ident, "time": own.get("time", "")}
    if role == "assistant":
        fields |= {"model": own.get("model"), "status": own.get("status", "complete"), "usage": counts}
    return message(role, content_text(data.get("content")), parent, **fields)


def write(session: Session, records: list[Record]) -> str:
    system = [{"type": "system", "data": {"content": session.system, "type": "system"}}] if session.system else []
    messages = [to_langchain(m) for m in session.path if m.role in ("user", "assistant")]
    return json.dumps(system + messages, ensure_ascii=False, indent=1) + "\n"


def detect(data: Any, path: Path | None) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(m, dict) and isinstance(m.get("data"), dict) and "type" in m for m in data)
    )


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    system = "\n\n".join(content_text(m["data"].get("content")) for m in data if m["type"] == "system")
    records: list[Record] = [{"type": "settings", "system": system}] if system else []
    parent = None
    for item in data:
        if record := from_langchain(item, parent):
            parent = record["id"]
            records.append(record)
    yield ImportedConversation("", records)


FORMAT = Format("langchain", ".langchain.json", write, read, detect)
