"""llm: the `logs.db` of simonw's llm, with the tables before and since version 0.36. Import only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chatmem.formats.base import Format, ImportedConversation, import_error, message, messages
from chatmem.history.records import Record, new_id

if TYPE_CHECKING:
    import sqlite3


def detect(data: Any, path: Path | None) -> bool:
    return isinstance(data, bytes) and data[:16] == b"SQLite format 3\0"


def read(data: Any, path: Path | None) -> Iterator[ImportedConversation]:
    import sqlite3  # imported lazily: slow

    assert path is not None
    database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    database.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables & {"responses", "threads"}:
            raise import_error(f"{path.name} is a database, but not one of llm.")
        if {"conversations", "responses"} <= tables:
            yield from _conversations(database)
        if {"threads", "turns", "messages", "parts"} <= tables:
            yield from _threads(database)
    except sqlite3.Error as error:
        raise import_error(f"{path.name} cannot be read: {error}.") from error
    finally:
        database.close()


def _conversations(database: sqlite3.Connection) -> Iterator[ImportedConversation]:
    """Up to 0.35: one row per prompt and response, in the order of ids."""
    for conversation in database.execute("SELECT id, name FROM conversations ORDER BY id").fetchall():
        rows = database.execute(
            "SELECT * FROM responses WHERE conversation_id = ? ORDER BY id", (conversation["id"],)
        ).fetchall()
        records: list[Record] = []
        system = next((row["system"] for row in rows if row["system"]), None)
        if system:
            records.append({"type": "settings", "system": system})
        turns: list[tuple[str, str, dict[str, Any]]] = []
        for row in rows:
            time = _time(row["datetime_utc"])
            keys = row.keys()
            counts = {
                "prompt": row["input_tokens"] if "input_tokens" in keys else None,
                "completion": row["output_tokens"] if "output_tokens" in keys else None,
            }
            turns.append(("user", row["prompt"] or "", {"time": time}))
            turns.append(
                (
                    "assistant",
                    row["response"] or "",
                    {"time": time, "model": row["model"], "usage": counts if counts["prompt"] else None},
                )
            )
        records += messages(turns)
        if turns:
            yield ImportedConversation(conversation["name"] or "", records, f"llm:{conversation['id']}")


def _threads(database: sqlite3.Connection) -> Iterator[ImportedConversation]:
    """Since 0.36: each message refers to the previous one by its hash, a thread to its last message."""
    for thread in database.execute("SELECT id, name, tip_message_hash FROM threads ORDER BY id").fetchall():
        chain: list[sqlite3.Row] = []
        current, seen = thread["tip_message_hash"], set()
        while current and current not in seen:
            seen.add(current)
            row = database.execute("SELECT hash, parent_hash, role FROM messages WHERE hash = ?", (current,)).fetchone()
            if row is None:
                break
            chain.append(row)
            current = row["parent_hash"]
        turns = {
            t["tip_message_hash"]: t
            for t in database.execute("SELECT * FROM turns WHERE thread_id = ?", (thread["id"],))
        }
        records: list[Record] = []
        parent: str | None = None
        for row in reversed(chain):
            parts = database.execute(
                "SELECT type, text FROM parts WHERE message_hash = ? ORDER BY position", (row["hash"],)
            )
            text = "\n".join(p["text"] for p in parts if p["text"] and p["type"] in ("text", "TextPart", None))
            if row["role"] == "system" and text:
                records.append({"type": "settings", "system": text})
            elif row["role"] in ("user", "assistant") and text:
                turn = turns.get(row["hash"])
                fields: dict[str, Any] = {"id": new_id(), "time": _time(turn["datetime_utc"]) if turn else ""}
                if row["role"] == "assistant" and turn:
                    fields |= {
                        "model": turn["model"],
                        "usage": {"prompt": turn["input_tokens"], "completion": turn["output_tokens"]},
                    }
                records.append(message(row["role"], text, parent, **fields))
                parent = records[-1]["id"]
        if parent:
            yield ImportedConversation(thread["name"] or "", records, f"llm:{thread['id']}")


def _time(text: object) -> str:
    return (
        f"{text}Z" if isinstance(text, str) and text and not text.endswith("Z") and "+" not in text else str(text or "")
    )


FORMAT = Format("llm", "", None, read, detect)
