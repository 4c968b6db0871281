"""markdown: a readable document with front matter and roles as headings. Its own output can be imported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.formats.base import Format, ImportedConversation, message
from chatmem.history.records import STATUSES, Record
from chatmem.history.session import Session

_HEADING = re.compile(
    r"^## (User|Assistant|System)(?: \((\w+)\))? <!-- chatmem(?: ([\w:.\-]*) ([\w:.\-]*))? -->$", re.MULTILINE
)

_PLAIN = re.compile(r"[\w:.\-]*")


def write(session: Session, records: list[Record]) -> str:
    """The conversation as Markdown with YAML front matter (its values are JSON strings, which are valid YAML).

    Each role heading ends in a comment, which tells it from a heading inside a message.
    """
    front = {"name": session.name, "title": session.title, "model": session.model, "id": session.id}
    front |= {"created": session.created, "last_active": session.last_active}
    lines = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value),
        "---",
        "",
    ]
    if session.system:
        lines += ["## System <!-- chatmem -->", "", session.system, ""]
    for entry in session.path:
        label = {"user": "User", "assistant": "Assistant"}.get(entry.role)
        if label:
            status = "" if entry.status == "complete" else f" ({entry.status})"
            ident, time = (text if _PLAIN.fullmatch(text) else "" for text in (entry.id, entry.time))
            lines += [f"## {label}{status} <!-- chatmem {ident} {time} -->", "", entry.content, ""]
    return "\n".join(lines)


def detect(data: Any, path: Path | None) -> bool:
    has_front_matter = isinstance(data, str) and data.startswith("---\n")
    return has_front_matter and bool(_HEADING.search(data) or re.match(r'---\nname: ".*"\n(?s:.*?)\nid: "', data))


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    front = dict(re.findall(r"^(\w+): (.*)$", data.partition("\n---\n")[0], re.MULTILINE))
    values: dict[str, str] = {}
    for key, value in front.items():
        try:
            values[key] = str(json.loads(value))
        except ValueError:
            values[key] = value
    records: list[Record] = []
    parent: str | None = None
    headings = list(_HEADING.finditer(data))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        text = data[heading.end() : following.start() if following else len(data)].removeprefix("\n\n")
        text = text.removesuffix("\n\n" if following else "\n")
        if heading[1] == "System":
            records.append({"type": "settings", "system": text})
            continue
        fields: dict[str, Any] = {"id": heading[3] or None, "time": heading[4] or ""}
        if heading[1] == "Assistant":
            fields |= {"model": values.get("model"), "status": heading[2] if heading[2] in STATUSES else "complete"}
        records.append(message(heading[1].lower(), text, parent, **fields))
        parent = records[-1]["id"]
    ident = f"markdown:{values['id']}" if values.get("id") else ""
    yield ImportedConversation(
        values.get("title", ""), records, ident, values.get("name", ""), values.get("created", "")
    )


FORMAT = Format("markdown", ".md", write, read, detect)
