"""sharegpt: the conversation format of training tools (LLaMA-Factory, Axolotl)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, content_text, messages
from chatmem.history.records import Record
from chatmem.history.session import Session

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
}


def write(session: Session, records: list[Record]) -> str:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[m.role], "value": m.content} for m in session.path if m.role in names]
    body: dict[str, Any] = {"id": session.id, "conversations": turns}
    if session.system:
        body["system"] = session.system
    return json.dumps([body], ensure_ascii=False, indent=1) + "\n"


def detect(data: Any, path: Path | None) -> bool:
    data = [data] if isinstance(data, dict) else data
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(c, dict) and isinstance(c.get("conversations"), list) for c in data)
    )


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    for conversation in [data] if isinstance(data, dict) else data:
        turns = [t for t in conversation["conversations"] if isinstance(t, dict)]
        system = conversation.get("system") or next(
            (content_text(t.get("value")) for t in turns if t.get("from") == "system"), ""
        )
        records: list[Record] = [{"type": "settings", "system": str(system)}] if system else []
        records += messages((ROLES.get(str(t.get("from")), ""), content_text(t.get("value")), {}) for t in turns)
        yield ImportedConversation(
            "", records, f"sharegpt:{conversation['id']}" if isinstance(conversation.get("id"), str | int) else ""
        )


FORMAT = Format("sharegpt", ".sharegpt.json", write, read, detect)
