"""markdown: a session to read; front matter, roles as headings, contents untouched."""

from __future__ import annotations

import json

from chatmem.formats.base import Format
from chatmem.session import Session


def write(session: Session) -> str:
    """The conversation as Markdown with YAML front matter (its values are JSON strings, which YAML reads)."""
    front = {"name": session.name, "title": session.title, "model": session.model}
    front |= {"created": session.created, "last_active": session.last_active}
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value),
        "---",
        "",
    ]
    if session.system:
        lines += ["## System", "", session.system, ""]
    for message in session.path:
        who = {"user": "User", "assistant": "Assistant"}.get(message.role, message.role.capitalize())
        status = "" if message.status == "complete" else f" ({message.status})"
        lines += [f"## {who}{status}", "", message.content, ""]
    return "\n".join(lines)


FORMAT = Format("markdown", ".md", write)
