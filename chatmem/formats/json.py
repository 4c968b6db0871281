"""json: a session whole, as one object for other programs."""

from __future__ import annotations

import json
from typing import Any

from chatmem.formats.base import Format
from chatmem.session import Message, Session


def message_record(session: Session, message: Message) -> dict[str, Any]:
    """A message of the path as `sessions show --json` gives it."""
    place = session.places.get(message.id)
    usage = message.usage.record() if message.usage else None
    return {
        "id": message.id,
        "turn": 0 if place is None else place + 1,
        "role": message.role,
        "content": message.content,
        "status": message.status if message.role == "assistant" else None,
        "time": message.time,
        "model": message.model,
        "usage": usage,
    }


def write(session: Session) -> str:
    """One object: `session` and the `messages` of the current path."""
    about = {"name": session.name, "id": session.id, "title": session.title, "created": session.created}
    body = {
        "session": about | {"settings": session.settings},
        "messages": [message_record(session, m) for m in session.path],
    }
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


FORMAT = Format("json", ".json", write)
