"""The JSON Schema of records describes the files that the program writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from chatmem.app import App
from chatmem.chat.chat import Chat
from chatmem.history import records
from chatmem.history.session import Session
from tests.conftest import Run
from tests.server import OK, Server, delta, stream

SCHEMA = json.loads((Path(records.__file__).parent / "session.schema.json").read_text())
DOCUMENT = Path(records.__file__).parents[2] / ".github" / "SESSION_FORMAT.md"
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
TYPES = ["session", "settings", "message", "summary", "mark", "forget", "head"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def use_every_record(chat: Chat) -> None:
    """Ask, retry, mark, undo and summarise, so that the session holds every type of record."""
    chat.update_settings(title="Numbers", memory={"strategy": "summary", "max_tokens": 400})
    for n in range(12):
        list(chat.send(f"question {n} " + "word " * 30))
    chat.set_turn_flags(1, pinned=True)
    chat.set_turn_flags(2, excluded=True)
    chat.summary.forget("question 3")
    list(chat.retry())
    chat.undo()
    chat.wait_for_summary(20)
    chat.close()


def test_every_record_that_is_written_matches_the_schema(home: Path, run: Run, server: Server) -> None:
    server.answers = [stream("reply " * 20, usage={"prompt_tokens": 9, "completion_tokens": 2})]
    server.answers += [stream("cut", finish="length")]
    use_every_record(App(offline=True).chat("work"))
    server.answers = [OK + delta("half")]
    run("ask", "-s", "broken", "question")
    run("sessions", "fork", "work", "copy")
    (home / "other.json").write_text('[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]')
    run("import", str(home / "other.json"), "-s", "imported")
    written = [record for path in (home / "data" / "sessions").glob("*.jsonl") for record in lines(path)]
    assert {record["type"] for record in written} == set(TYPES)
    assert {record["status"] for record in written if "status" in record} >= {"complete", "length", "truncated"}
    assert any("imported" in record for record in written) and any("forked" in record for record in written)
    assert any(record.get("usage") for record in written)
    for record in written:
        VALIDATOR.validate(record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": "message", "id": "a"},
        {"type": "message", "id": "", "parent": None, "role": "user", "content": "x", "time": ""},
        {"type": "message", "id": "a", "parent": None, "role": "user", "content": 7, "time": ""},
        {"type": "message", "id": "a", "parent": None, "role": "user", "content": "x", "time": "yesterday"},
        {"type": "message", "id": "a", "parent": None, "role": "assistant", "content": "", "time": "", "status": "ok"},
        {"type": "head"},
        {"type": "mark", "message": "a", "pinned": "yes"},
        {"type": "forget"},
        {"type": "summary", "id": "a", "from": "b", "to": "c", "level": 0, "text": "x", "sources": ["b"]},
        {"type": "session", "id": "a"},
    ],
)
def test_the_schema_refuses_malformed_records(record: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(record)


def test_the_schema_allows_unknown_types_and_fields() -> None:
    assert VALIDATOR.is_valid({"type": "later", "x": 1}) and VALIDATOR.is_valid(
        {"type": "head", "message": None, "x": 1}
    )


def test_the_schema_and_the_document_name_the_same_types_and_statuses() -> None:
    text = DOCUMENT.read_text()
    assert list(SCHEMA["$defs"].keys() & set(TYPES)) and set(TYPES) <= SCHEMA["$defs"].keys()
    assert re.findall(r"^\| `(\w+)` \| `", text, re.MULTILINE) == TYPES
    statuses = SCHEMA["$defs"]["message"]["properties"]["status"]["enum"]
    assert tuple(statuses) == records.STATUSES
    assert re.findall(r"^\| `(\w+)` \| [a-z]", text.partition("`status` is one of")[2], re.MULTILINE) == statuses


def test_a_session_that_matches_the_schema_is_read_without_malformed_records(home: Path, server: Server) -> None:
    use_every_record(App(offline=True).chat("work"))
    session = Session.replay("work", lines(home / "data" / "sessions" / "work.jsonl"))
    assert (session.malformed_count, session.unknown_count) == (0, 0)
