"""The promise of a store, kept by every one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import Busy, NoSuchSession, WrongUse
from chatmem.records import header, new_id, now
from chatmem.stores import Store, open_store
from tests.databases import Databases

Open = Callable[[], Store]


@pytest.fixture(params=["file", "memory:", "sqlite", "redis", "postgres", "mongo"])
def open_(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Open:
    """Opens the same place again and again, as other processes would; what keeps nothing is one object."""
    url, user = databases.url(request.param, tmp_path), new_id()  # a user of its own, so that it begins empty
    first = open_store(url, tmp_path, user)
    return (lambda: open_store(url, tmp_path, user)) if first.kept else (lambda: first)


@pytest.fixture
def store(open_: Open) -> Store:
    return open_()


def question(text: str = "hi", parent: str | None = None) -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": parent, "role": "user", "content": text, "time": now()}


def begin(store: Store, name: str, *records: dict[str, Any]) -> None:
    store.open(name, [header(name), *records]).close()


def test_an_empty_store_has_no_sessions(store: Store) -> None:
    assert store.names() == [] and store.outlines() == []


def test_what_was_appended_is_read_back_in_order_by_others(open_: Open) -> None:
    records = [question(f"text {n} \u2028 \x85 \n 日本語") for n in range(50)]
    begin(open_(), "work", records[0])
    log = open_().open("work")
    with log.turn():
        log.read()
        for record in records[1:]:
            log.append([record])
    assert open_().records("work")[1:] == records


def test_reading_on_gives_only_what_is_new(open_: Open) -> None:
    begin(open_(), "work")
    reader, writer = open_().open("work"), open_().open("work")
    assert len(reader.read()[0]) == 1
    with writer.turn():
        writer.append([one := question("one"), two := question("two")])
    assert reader.read() == ([one, two], False)
    assert reader.read() == ([], False)


def test_several_records_are_appended_all_or_none_and_a_name_is_taken_once(open_: Open) -> None:
    begin(open_(), "Work")
    with pytest.raises(WrongUse):
        begin(open_(), "wORK")
    assert open_().names() == ["Work"]


def test_a_session_is_found_ignoring_case(store: Store) -> None:
    begin(store, "Café")
    assert store.find("CAFÉ") == "Café"


def test_an_unknown_session_is_refused_with_near_names(store: Store) -> None:
    begin(store, "holiday")
    with pytest.raises(NoSuchSession) as caught:
        store.find("holidy")
    assert "'holiday'" in caught.value.hint


def test_renaming_keeps_everything_and_clobbers_nothing(open_: Open) -> None:
    begin(open_(), "one", question("kept"))
    begin(open_(), "two")
    with pytest.raises(WrongUse):
        open_().rename("one", "TWO")
    open_().rename("one", "three")
    assert sorted(open_().names()) == ["three", "two"]
    assert any(r.get("content") == "kept" for r in open_().records("three"))


def test_a_log_follows_its_session_to_a_new_name(open_: Open) -> None:
    begin(open_(), "old")
    log = open_().open("old")
    open_().rename("old", "new")
    with log.turn():
        log.read()
        log.append([question("after")])
    assert log.name == "new"
    assert any(r.get("content") == "after" for r in open_().records("new"))


def test_a_deleted_session_is_gone(open_: Open) -> None:
    begin(open_(), "work")
    open_().delete("work")
    assert open_().names() == []
    with pytest.raises(NoSuchSession):
        open_().records("work")


def test_one_writer_at_a_time(open_: Open) -> None:
    begin(open_(), "work")
    one, two = open_().open("work"), open_().open("work")
    with one.turn():
        with pytest.raises(Busy), two.turn(wait=False):
            pass
        with pytest.raises(Busy):
            open_().rename("work", "other") if open_().kept else two.turn(wait=False).__enter__()
    with two.turn(wait=False):
        pass


def test_writers_that_wait_lose_and_interleave_nothing(open_: Open) -> None:
    begin(open_(), "work")

    def talk(who: str) -> None:
        log = open_().open("work")
        for n in range(25):
            with log.turn():
                log.read()
                log.append([question(f"{who} {n} asks")])
                log.append([question(f"{who} {n} answers")])

    threads = [threading.Thread(target=talk, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [r["content"] for r in open_().records("work")[1:]]
    assert len(texts) == 200
    for asks, answers in zip(texts[::2], texts[1::2], strict=True):
        assert answers == asks.replace("asks", "answers")
    for who in "abcd":
        assert [t for t in texts if t.startswith(who) and "asks" in t] == [f"{who} {n} asks" for n in range(25)]


def test_outlines_are_listed_by_last_use(open_: Open) -> None:
    for name, time in (
        ("a", "2026-01-01T00:00:00.000Z"),
        ("b", "2026-03-01T00:00:00.000Z"),
        ("c", "2026-02-01T00:00:00.000Z"),
    ):
        begin(open_(), name, question(name) | {"time": time})
    assert [o.name for o in open_().outlines()] == ["b", "c", "a"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\x00b", "x" * 300, "con", ".hidden", "-s"])
def test_no_name_leaves_the_store(store: Store, name: str) -> None:
    with pytest.raises(WrongUse):
        store.open(name, [header("x")])
    with pytest.raises((WrongUse, NoSuchSession)):
        store.records(name)
