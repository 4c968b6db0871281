"""Where something was said, in all sessions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import UsageError
from chatmem.history.records import header, new_id
from chatmem.recall import recall, search_words
from chatmem.stores import SessionStore, open_store
from tests.conftest import Run
from tests.databases import SCHEMES, Databases
from tests.repl.conftest import TypeKeys, keys, type_keys
from tests.server import Server

__all__ = ["keys", "type_keys"]


def begin(store: SessionStore, name: str, *texts: str) -> None:
    records: list[dict[str, Any]] = [header(name)]
    parent = None
    for number, text in enumerate(texts):
        role = ("user", "assistant")[number % 2]
        record = {"type": "message", "id": new_id(), "parent": parent, "role": role, "content": text}
        records.append(record | {"time": f"2026-05-{number % 28 + 1:02}T10:00:00Z", "status": "complete"})
        parent = record["id"]
    store.open(name, records).close()


@pytest.fixture(params=["file", "memory:", *SCHEMES])
def store(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> SessionStore:
    url = request.param if request.param in ("file", "memory:") else databases.url(request.param, tmp_path)
    return open_store(url, tmp_path, new_id())


def test_the_passage_that_answers_comes_first_with_its_session_turn_and_date(store: SessionStore) -> None:
    rng = random.Random(5)
    words = "garden music boat river lemon paper market doctor train guitar".split()
    for number in range(12):
        begin(store, f"talk {number}", *(" ".join(rng.choices(words, k=12)) for _ in range(8)))
    begin(store, "trip", "hello", "hi", "I bought the tickets for Lisbon at the station.", "Good.", "bye", "bye")
    first, *_ = recall(store, "Where did I buy the Lisbon tickets?", 5)
    assert first.text == "I bought the tickets for Lisbon at the station."
    assert (first.session, first.turn, first.source) == ("trip", 2, "trip, turn 2, 2026-05-03")


def test_what_no_session_has_is_not_found_and_a_question_without_words_is_an_error(store: SessionStore) -> None:
    begin(store, "talk", "hello there", "hi")
    assert recall(store, "Which zebra?", 5) == []
    with pytest.raises(UsageError, match="no words"):
        recall(store, "what about it?", 5)


def test_a_deleted_session_is_not_found(store: SessionStore) -> None:
    begin(store, "talk", "The zebra sleeps.", "Noted.")
    assert recall(store, "Which zebra?", 5)
    store.delete("talk")
    assert recall(store, "Which zebra?", 5) == []


def test_irregular_forms_and_endings_are_searched_for() -> None:
    assert {"buy", "bough"} <= set(search_words("Who bought it?"))
    assert search_words("the plans of Lisbon") == ["plan", "lisbo"]


def test_the_command_prints_passages_or_json_and_exits_9_without_one(run: Run, home: Path) -> None:
    begin(open_store("file", home / "data"), "trip", "The visa is from the embassy \x1b[31m.", "Good.")
    done = run("recall", "where", "is", "the", "visa?")
    assert done.returncode == 0 and "trip, turn 1, 2026-05-01 · user" in done.stdout
    (found,) = json.loads(run("recall", "visa", "-n", "1", "--json").stdout)
    assert (found["session"], found["turn"], found["role"]) == ("trip", 1, "user")
    assert run("recall", "zebra").returncode == 9 and run("recall", "the").returncode == 2


def test_a_recalled_passage_is_opened_or_quoted_in_the_next_question(
    type_keys: TypeKeys, server: Server, home: Path
) -> None:
    begin(open_store("file", home / "data"), "trip", "The visa is from the embassy.", "Good.", "Bye.", "Bye.")
    shown = type_keys(
        "/recall visa?\r", "q1\r", "Is it still true?\r", "/recall visa?\r", "1\r", "/recall visa?\r", "9\r"
    )
    asked = server.chats[0]["messages"][-1]["content"]
    assert asked == "[trip, turn 1, 2026-05-01, user:] “The visa is from the embassy.”\nIs it still true?"
    assert "Session 'trip'" in shown and "Turn 1:" in shown and "Passage 9 does not exist." in shown
