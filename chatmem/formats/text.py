"""text: roles and contents as plain text."""

from __future__ import annotations

from chatmem.formats.base import Format
from chatmem.history.records import Record
from chatmem.history.session import Session


def write(session: Session, records: list[Record]) -> str:
    return "\n".join(f"{m.role}: {m.content.rstrip()}\n" for m in session.path)


FORMAT = Format("text", ".txt", write)
