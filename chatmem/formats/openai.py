"""openai: a messages array as the chat completions API takes it, and one such array per line for fine-tuning.

The chat cache of shell-gpt is such an array, too. See https://platform.openai.com/docs/api-reference/chat/create.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, content_text, messages
from chatmem.history.records import Record
from chatmem.history.session import Session

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}


def array(session: Session) -> list[dict[str, str]]:
    """The conversation as messages: the system prompt, then the path."""
    system = [{"role": "system", "content": session.system}] if session.system else []
    return system + [{"role": m.role, "content": m.content} for m in session.path if m.role in ("user", "assistant")]


def write(session: Session, records: list[Record]) -> str:
    return json.dumps(array(session), ensure_ascii=False, indent=1) + "\n"


def write_line(session: Session, records: list[Record]) -> str:
    return json.dumps({"messages": array(session)}, ensure_ascii=False) + "\n"


def is_array(data: Any) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(m, dict) and m.get("role") in ROLES and "content" in m for m in data)
    )


def conversation(data: list[dict[str, Any]], source: str = "") -> ImportedConversation:
    """Messages as records. System messages become the session's system prompt."""
    system = "\n\n".join(content_text(m["content"]) for m in data if m["role"] in ("system", "developer"))
    records: list[Record] = [{"type": "settings", "system": system}] if system else []
    records += messages((m["role"], content_text(m["content"]), {}) for m in data)
    return ImportedConversation("", records, source)


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    yield conversation(data["messages"] if isinstance(data, dict) else data)


def detect(data: Any, path: Path | None) -> bool:
    return is_array(data.get("messages") if isinstance(data, dict) else data)


FORMAT = Format("openai", ".openai.json", write, read, detect)


def detect_lines(data: Any, path: Path | None) -> bool:
    return (
        isinstance(data, list) and bool(data) and all(isinstance(d, dict) and is_array(d.get("messages")) for d in data)
    )


def read_lines(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    for one in data:
        yield conversation(one["messages"])


LINES = Format("openai-jsonl", ".openai.jsonl", write_line, read_lines, detect_lines)


def read_cache(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    found = conversation(data)
    found.name = path.stem if path else ""
    yield found


SHELL_GPT = Format(
    "shell-gpt", "", None, read_cache, lambda data, path: is_array(data) and path is not None and not path.suffix
)
