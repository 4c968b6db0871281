"""What every store guarantees."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat.journal import Journal
from chatmem.errors import ChatmemError, SessionLockedError, SessionNotFoundError, UsageError
from chatmem.history.records import header, new_id, utc_now
from chatmem.stores import SessionStore, open_store
from chatmem.stores.codec import is_changed
from chatmem.stores.database.store import DatabaseStore
from tests.databases import SCHEMES, Databases

Open = Callable[[], SessionStore]


@pytest.fixture(params=["file", "memory:", *SCHEMES, "redis+cluster"])
def open_(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Open:
    """Opens the same store again, as other processes would. A store that is not persistent is a single object."""
    url = request.param if request.param in ("file", "memory:") else databases.url(request.param, tmp_path)
    user = new_id()  # a new user has no sessions
    first = open_store(url, tmp_path, user)
    return (lambda: open_store(url, tmp_path, user)) if first.persistent else (lambda: first)


@pytest.fixture
def store(open_: Open) -> SessionStore:
    return open_()


def question(text: str = "hi", parent: str | None = None) -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": parent, "role": "user", "content": text, "time": utc_now()}


def begin(store: SessionStore, name: str, *records: dict[str, Any]) -> None:
    store.open(name, [header(name), *records]).close()


def test_an_empty_store_has_no_sessions(store: SessionStore) -> None:
    assert store.names() == [] and store.list_sessions() == []


def test_appended_records_are_read_in_order_by_others(open_: Open) -> None:
    records = [question(f"text {n} \u2028 \x85 \n 日本語") for n in range(50)]
    begin(open_(), "work", records[0])
    log = open_().open("work")
    with log.exclusive():
        log.read()
        for record in records[1:]:
            log.append([record])
    assert open_().records("work")[1:] == records


def test_every_stored_line_has_a_checksum_that_matches(store: SessionStore) -> None:
    begin(store, "work", question("one \u2028 日本語"), question("two"))
    report = store.check("work", deep=True)
    assert report.changed_lines == [] and report.records == 3
    assert all(b',"sum":"' in line and not is_changed(line.rstrip(b"\n")) for line in store._lines("work"))


def test_reading_again_returns_only_new_records(open_: Open) -> None:
    begin(open_(), "work")
    reader, writer = open_().open("work"), open_().open("work")
    assert len(reader.read()[0]) == 1
    with writer.exclusive():
        writer.append([one := question("one"), two := question("two")])
    assert reader.read() == ([one, two], False)
    assert reader.read() == ([], False)


def test_an_append_that_fails_half_way_stores_nothing(open_: Open) -> None:
    begin(open_(), "work")
    log = open_().open("work")

    def records() -> Iterator[dict[str, Any]]:
        yield question("one")
        raise RuntimeError

    with log.exclusive():
        log.read()
        with pytest.raises(RuntimeError):
            log.append(records())
        log.append([question("two")])
    assert [r["content"] for r in open_().records("work")[1:]] == ["two"]


def test_a_name_is_taken_once_ignoring_case(open_: Open) -> None:
    begin(open_(), "Work")
    with pytest.raises(UsageError):
        begin(open_(), "wORK")
    assert open_().names() == ["Work"]


def test_a_session_is_found_ignoring_case(store: SessionStore) -> None:
    begin(store, "Café")
    assert store.find("CAFÉ") == "Café"


def test_an_unknown_session_is_refused_with_similar_names(store: SessionStore) -> None:
    begin(store, "holiday")
    with pytest.raises(SessionNotFoundError) as caught:
        store.find("holidy")
    assert "'holiday'" in caught.value.hint


def test_renaming_keeps_everything_and_overwrites_nothing(open_: Open) -> None:
    begin(open_(), "one", question("kept"))
    begin(open_(), "two")
    with pytest.raises(UsageError):
        open_().rename("one", "TWO")
    open_().rename("one", "three")
    assert sorted(open_().names()) == ["three", "two"]
    assert any(r.get("content") == "kept" for r in open_().records("three"))


def test_a_log_follows_its_session_to_a_new_name(open_: Open) -> None:
    begin(open_(), "old")
    log = open_().open("old")
    open_().rename("old", "new")
    with log.exclusive():
        log.read()
        log.append([question("after")])
    assert log.name == "new"
    assert any(r.get("content") == "after" for r in open_().records("new"))


def test_a_deleted_session_is_gone(open_: Open) -> None:
    begin(open_(), "work")
    open_().delete("work")
    assert open_().names() == []
    with pytest.raises(SessionNotFoundError):
        open_().records("work")


def test_a_deleted_session_can_be_restored_with_all_records(open_: Open) -> None:
    if not open_().has_trash:
        pytest.skip("this store has no trash")
    records = [question("one"), question("two")]
    begin(open_(), "Work", *records)
    open_().delete("Work")
    (deleted,) = open_().trash()
    assert (deleted.name, deleted.title, deleted.turns) == ("Work", "one", 1) and deleted.deleted[:2] == "20"
    assert open_().restore("work") == "Work"
    assert open_().records("work")[1:] == records and open_().trash() == []
    assert [info.name for info in open_().list_sessions()] == ["Work"]


def test_restoring_takes_the_last_deleted_session_and_never_replaces_another(open_: Open) -> None:
    if not open_().has_trash:
        pytest.skip("this store has no trash")
    for text in ("first", "second", "third"):
        begin(open_(), "work", question(text))
        if text != "third":
            open_().delete("work")
    with pytest.raises(UsageError, match="already"):
        open_().restore("work")
    with pytest.raises(SessionNotFoundError, match="not in the trash"):
        open_().restore("other")
    assert open_().restore("work", "again") == "again" and open_().restore("WORK", "first") == "first"
    found = {name: open_().records(name)[1]["content"] for name in open_().names()}
    assert found == {"work": "third", "again": "second", "first": "first"}


def test_a_deleted_session_is_restored_once_when_many_try_under_different_names(open_: Open) -> None:
    if not open_().has_trash:
        pytest.skip("this store has no trash")
    begin(open_(), "work", question("kept"))
    open_().delete("work")
    together, restored = threading.Barrier(4), []

    def restore(number: int) -> None:
        store = open_()
        store.trash()
        together.wait()
        with contextlib.suppress(ChatmemError):
            restored.append(store.restore("work", f"name{number}"))

    threads = [threading.Thread(target=restore, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(restored) == 1 and open_().names() == restored and open_().trash() == []
    assert open_().records(restored[0])[1]["content"] == "kept"


def test_a_marker_that_a_killed_deletion_left_behind_is_replaced(open_: Open) -> None:
    store = open_()
    if not isinstance(store, DatabaseStore):
        pytest.skip("this store has no markers")
    begin(store, "before")
    store._trash.add(store.database.rows(store.user)[0])
    assert store.trash() == []
    store.rename("before", "after")
    store.delete("after")
    assert [entry.name for entry in open_().trash()] == ["after"]


def test_a_session_that_was_removed_gets_no_name(open_: Open) -> None:
    store = open_()
    if not isinstance(store, DatabaseStore):
        pytest.skip("this store has no names apart from the sessions")
    begin(store, "work", question())
    store.delete("work")
    (deleted,) = store.trash()
    store.database.purge(deleted.key)
    with pytest.raises(SessionNotFoundError, match="removed from the trash"):
        store._restore(deleted, "work")
    assert not store.database.link(store.user, "work", "work", deleted.key, None)
    begin(store, "work", question("the name is free"))
    assert open_().names() == ["work"] and open_().trash() == []


def test_a_session_that_was_purged_is_not_in_the_trash(open_: Open) -> None:
    begin(open_(), "work")
    open_().delete("work", purge=True)
    assert open_().trash() == []


def test_one_writer_at_a_time(open_: Open) -> None:
    begin(open_(), "work")
    one, two = open_().open("work"), open_().open("work")
    with one.exclusive():
        with pytest.raises(SessionLockedError), two.exclusive(wait=False):
            pass
        with pytest.raises(SessionLockedError):
            open_().rename("work", "other") if open_().persistent else two.exclusive(wait=False).__enter__()
    with two.exclusive(wait=False):
        pass


def test_writers_that_wait_neither_lose_nor_interleave_turns(open_: Open) -> None:
    begin(open_(), "work")

    def write_turns(who: str) -> None:
        log = open_().open("work")
        for n in range(25):
            with log.exclusive():
                log.read()
                log.append([question(f"{who} {n} asks")])
                log.append([question(f"{who} {n} answers")])

    threads = [threading.Thread(target=write_turns, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    texts = [r["content"] for r in open_().records("work")[1:]]
    assert len(texts) == 200
    for asks, answers in zip(texts[::2], texts[1::2], strict=True):
        assert answers == asks.replace("asks", "answers")
    for who in "abcd":
        assert [t for t in texts if t.startswith(who) and "asks" in t] == [f"{who} {n} asks" for n in range(25)]


def test_sessions_are_listed_by_last_use(open_: Open) -> None:
    for name, time in (
        ("a", "2026-01-01T00:00:00.000Z"),
        ("b", "2026-03-01T00:00:00.000Z"),
        ("c", "2026-02-01T00:00:00.000Z"),
    ):
        begin(open_(), name, question(name) | {"time": time})
    assert [info.name for info in open_().list_sessions()] == ["b", "c", "a"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\x00b", "x" * 300, "con", ".hidden", "-s"])
def test_an_invalid_name_is_refused(store: SessionStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.open(name, [header("x")])
    with pytest.raises((UsageError, SessionNotFoundError)):
        store.records(name)


def test_a_new_session_needs_no_search_for_similar_names(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(store, "work")
    monkeypatch.setattr(type(store), "not_found", lambda *_: pytest.fail("searched for similar names"))
    Journal(store, "new").open({})
    assert store.lookup("new") is None and store.lookup("WORK") == "work"
