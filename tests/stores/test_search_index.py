"""The index of session files: it follows every change, and finds what was said without reading all files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import Record, header
from chatmem.stores import SessionStore, open_store
from chatmem.stores.codec import encode
from chatmem.stores.file import directory as directory_module
from chatmem.stores.file.store import FileStore
from chatmem.stores.search import Query


class CountingSystem:
    """The system calls, with a count of the names that were read from directories."""

    names = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @contextmanager
    def scandir(self, path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with os.scandir(path) as entries:
            yield self._counted(entries)

    def _counted(self, entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            self.names += 1
            yield entry


def message(number: int, content: str, time: str = "2026-05-03T10:00:00.000Z") -> Record:
    parent = f"m{number - 1}" if number else None
    return {"type": "message", "id": f"m{number}", "parent": parent, "role": "user", "content": content, "time": time}


def begin(store: FileStore, name: str, *contents: str) -> None:
    store.open(name, [header(name), *(message(n, content) for n, content in enumerate(contents))]).close()


def found(store: FileStore, text: str) -> list[str]:
    return sorted({hit.session for hit in store.search(Query.parse(text))})


def indexed(store: FileStore, term: str) -> int:
    """How many parts of files have a word in the full-text index."""
    with sqlite3.connect(store._index.path) as database:
        return len(database.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (term,)).fetchall())


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


@pytest.fixture(params=[0, 400], ids=["large", "small"])
def any_size(request: pytest.FixtureRequest, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A store whose directory counts as large, or as small."""
    monkeypatch.setattr(directory_module, "MANY_FILES", request.param)
    return store


def test_a_word_is_found_by_its_beginning_and_a_phrase_as_a_whole(any_size: FileStore) -> None:
    begin(any_size, "a", "We fly to Lisbon on Friday, 日本語の文章")
    begin(any_size, "b", "An isbon is unknown. foo_bar-baz")
    assert found(any_size, "lis") == ["a"] and found(any_size, "isbon") == ["b"] and found(any_size, "bon") == []
    assert found(any_size, '"to lisbon on fri"') == ["a"] and found(any_size, "本語") == ["a"] == found(any_size, "章")
    assert found(any_size, "foo_bar") == ["b"] == found(any_size, "bar-b") and found(any_size, "fly foo") == []
    assert found(any_size, "日語") == []


def test_all_words_must_be_in_one_message(any_size: FileStore) -> None:
    begin(any_size, "a", "red horse", "green sea")
    assert found(any_size, "red sea") == [] and found(any_size, "red hor") == ["a"]


def test_what_is_appended_is_found_and_listed(any_size: FileStore) -> None:
    begin(any_size, "a", "first")
    begin(any_size, "b", "other")
    log = any_size.open("a")
    with log.exclusive():
        log.read()
        log.append([message(1, "zebrafish", "2026-06-01T00:00:00.000Z")])
    log.close()
    assert found(any_size, "zebra") == ["a"]
    assert [(s.name, s.messages) for s in any_size.recent_sessions(5)] == [("a", 2), ("b", 1)]


def test_a_renamed_session_keeps_its_words_and_a_deleted_one_loses_them(any_size: FileStore) -> None:
    begin(any_size, "a", "zebrafish")
    begin(any_size, "b", "zebrafish too")
    any_size.rename("a", "c")
    assert found(any_size, "zebrafish") == ["b", "c"] and any_size.lookup("A") is None and any_size.lookup("C") == "c"
    any_size.delete("c", purge=True)
    assert found(any_size, "zebrafish") == ["b"] and indexed(any_size, "zebrafish") == 1
    any_size.delete("b")
    assert found(any_size, "zebrafish") == [] and indexed(any_size, "zebrafish") == 0


def test_files_that_others_added_changed_or_removed_are_noticed(any_size: FileStore, tmp_path: Path) -> None:
    begin(any_size, "a", "first")
    begin(any_size, "b", "second")
    any_size.refresh_index()
    other = FileStore(tmp_path / "elsewhere")
    begin(other, "c", "zebrafish")
    (tmp_path / "elsewhere" / "c.jsonl").rename(tmp_path / "sessions" / "C.jsonl")
    (tmp_path / "sessions" / "b.jsonl").unlink()
    assert found(any_size, "zebrafish") == ["C"] and sorted(s.name for s in any_size.recent_sessions(5)) == ["C", "a"]
    assert any_size.lookup("c") == "C" and found(any_size, "second") == []


def test_a_file_that_was_replaced_is_indexed_again(any_size: FileStore, tmp_path: Path) -> None:
    begin(any_size, "a", "zebrafish")
    assert found(any_size, "zebrafish") == ["a"]
    other = FileStore(tmp_path / "elsewhere")
    begin(other, "a", "seahorse and much more text than before")
    (tmp_path / "elsewhere" / "a.jsonl").rename(tmp_path / "sessions" / "a.jsonl")
    assert found(any_size, "seahorse") == ["a"] and found(any_size, "zebrafish") == []


def test_a_damaged_or_missing_index_is_built_again(any_size: FileStore) -> None:
    begin(any_size, "a", "zebrafish")
    assert found(any_size, "zebrafish") == ["a"]
    any_size._index.delete()
    assert found(any_size, "zebrafish") == ["a"]
    any_size._index.delete()
    any_size._index.path.write_bytes(b"not a database at all" * 100)
    assert found(any_size, "zebrafish") == ["a"] and [s.name for s in any_size.recent_sessions(1)] == ["a"]
    assert any_size._index.path.stat().st_mode & 0o777 == 0o600


def test_creating_and_opening_the_latest_session_reads_no_names_of_others(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_module, "MANY_FILES", 5)
    counts = []
    for number in range(60):
        if number in (20, 59):
            store.refresh_index()
            system = CountingSystem()
            again = FileStore(store.directory.root, system=system)
            begin(again, f"s{number}", "more")
            assert again.recent_sessions(1)[0].name == "s9" and again.lookup("nothing") is None
            counts.append(system.names)
        else:
            begin(store, f"s{number}", "text")
    assert counts[0] == counts[1]  # a few names, to see that the directory is large
    assert store.directory.knows_all_files()


def test_names_are_unique_ignoring_case_in_a_large_directory(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(store, "Work", "x")
    monkeypatch.setattr(directory_module, "MANY_FILES", 0)
    assert store.lookup("wORK") == "Work"
    with pytest.raises(Exception, match="already a session"):
        begin(store, "work", "y")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize("url", ["file", "sqlite"])
def test_sessions_that_are_opened_and_closed_leave_no_descriptor_open(url: str, tmp_path: Path) -> None:
    counts = []
    for number in range(120):
        store = open_store(f"sqlite:///{tmp_path}/chats.db" if url == "sqlite" else url, tmp_path)
        log = store.open(f"s{number}", [header(f"s{number}")])
        with log.exclusive():
            log.read()
            log.append([message(0, "text")])
        log.close()
        if number in (19, 119):
            counts.append(sum(path.startswith(str(tmp_path)) for path in open_files()))
    assert counts[0] == counts[1]


def open_files() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            yield str(Path(f"/proc/self/fd/{descriptor}").readlink())


def add_foreign(store: FileStore, name: str, content: str) -> None:
    """Another program adds a session file."""
    data = b"".join(map(encode, [header(name), message(0, content)]))
    store.directory.root.mkdir(exist_ok=True)
    (store.directory.root / f"{name}.jsonl").write_bytes(data)


def test_a_session_that_another_program_adds_during_a_turn_is_noticed(any_size: FileStore) -> None:
    begin(any_size, "a", "first")
    log = any_size.open("a")
    with log.exclusive():
        log.read()
        add_foreign(any_size, "c", "zebrafish")
        log.append([message(1, "second")])
    log.close()
    assert sorted(s.name for s in any_size.list_sessions()) == ["a", "c"] and found(any_size, "zebrafish") == ["c"]
    assert any_size.lookup("C") == "c"


@pytest.mark.parametrize("content", ["seahorse", "seahorses and much more text", "x"])
def test_a_file_that_is_rewritten_in_place_is_indexed_again(any_size: FileStore, content: str) -> None:
    add_foreign(any_size, "a", "zebrafish")
    assert found(any_size, "zebrafish") == ["a"]
    status = any_size.path("a").stat()
    add_foreign(any_size, "a", content)
    os.utime(any_size.path("a"), ns=(status.st_atime_ns, status.st_mtime_ns + 1_000))
    add_foreign(any_size, "b", "other")  # names have changed: the next search compares all files
    assert found(any_size, content) == ["a"] and found(any_size, "zebrafish") == []


def test_a_turn_after_a_torn_tail_is_found(any_size: FileStore) -> None:
    begin(any_size, "a", "first")
    with any_size.path("a").open("ab") as file:
        file.write(b"x" * 300 + b"\n")
    assert found(any_size, "first") == ["a"]
    log = any_size.open("a")
    with log.exclusive():
        log.read()
        log.append([message(1, "zebrafish " + "long " * 100)])
    log.close()
    assert found(any_size, "zebrafish") == ["a"] == found(any_size, "first")


def test_words_that_could_not_be_indexed_are_found_nevertheless(any_size: FileStore) -> None:
    begin(any_size, "a", "first")
    assert found(any_size, "first") == ["a"]
    locked = sqlite3.connect(any_size._index.path)
    locked.execute("BEGIN IMMEDIATE")
    begin(any_size, "b", "zebrafish")
    assert found(any_size, "zebrafish") == ["b"]
    locked.rollback()
    locked.close()
    assert found(any_size, "zebrafish") == ["b"] and len(any_size.recent_sessions(5)) == 2


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("давай", "да"),
        ("№5", "5"),
        ("Foo™bar", "bar"),
        ("5℃x", "x"),
        ("İstanbul", "stan"),
        ("ΟΔΟΣ", "οδ"),
        ("한국어로", "국어"),
    ],
)
def test_the_index_finds_what_reading_all_files_finds(any_size: FileStore, text: str, query: str) -> None:
    begin(any_size, "a", text)
    begin(any_size, "b", "something else")
    assert list(SessionStore.search(any_size, Query.parse(query))) == list(any_size.search(Query.parse(query)))
    assert found(any_size, query) == ["a"]


def test_no_word_of_a_purged_session_is_left_in_the_index(any_size: FileStore) -> None:
    for number in range(20):
        begin(any_size, f"s{number}", f"ordinary text {number}")
    begin(any_size, "secret", "qopsecretword")
    assert found(any_size, "qopsecretword") == ["secret"]
    any_size.delete("secret", purge=True)
    files = any_size.directory.root.parent.glob("sessions.index.sqlite*")
    assert not any(b"opsecretword" in file.read_bytes() for file in files)


def test_a_session_that_disappears_while_its_words_are_indexed_is_skipped(any_size: FileStore) -> None:
    for name in ("a", "b"):
        add_foreign(any_size, name, "text")

    def remove(names: Sequence[str], task: str) -> Iterator[str]:
        for name in names:
            any_size._index.remove(["b"])
            any_size.path("b").unlink(missing_ok=True)
            yield name

    any_size.list_sessions()
    any_size._index.index_words(remove)
    assert found(any_size, "text") == ["a"]
