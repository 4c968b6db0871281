"""The file store: what a kill, a full disk, a second process or a stranger's hand can do to a session file."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import NotSaved, WrongUse
from chatmem.records import header, new_id, now
from chatmem.session import Session
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.lines import BROKEN, line_of, record_of, records_of


def message(text: str, parent: str | None = None, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": parent, "role": role, "content": text, "time": now()}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> JsonlStore:
    return JsonlStore(tmp_path / "data" / "sessions", said.append)


def begin(store: JsonlStore, *texts: str) -> Path:
    store.open("work", [header("work"), *(message(t) for t in texts)]).close()
    return store.path("work")


def contents(store: JsonlStore) -> list[str]:
    return [r["content"] for r in store.records("work") if r.get("type") == "message"]


def settle(store: JsonlStore) -> None:
    log = store.open("work")
    with log.turn():
        log.read()
    log.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_0600_and_folders_0700_under_any_umask(store: JsonlStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        begin(store, "x")
        log = store.open("work")
        with log.turn():
            log.partial(message("", role="assistant"))("text")
        log.close()
    finally:
        os.umask(before)
    for path in [store.folder.parent, *store.folder.parent.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_broken_tail_is_set_aside_and_said_before_the_next_line_is_written(
    store: JsonlStore, said: list[str]
) -> None:
    path = begin(store, "kept")
    with path.open("ab") as file:
        file.write(b'{"type":"message","id":"x","ro')
    settle(store)
    (torn,) = store.folder.glob("work.torn-*")
    assert torn.read_bytes() == b'{"type":"message","id":"x","ro' and torn.name in said[0]
    assert contents(store) == ["kept"] and path.read_bytes().endswith(b"\n")


def test_a_zero_filled_tail_is_set_aside(store: JsonlStore) -> None:
    path = begin(store, "kept")
    with path.open("ab") as file:
        file.write(b"\0" * 700 + b"\n" + b"\0" * 20)
    settle(store)
    assert contents(store) == ["kept"] and b"\0" not in path.read_bytes()


def test_a_whole_record_that_only_lacks_its_newline_is_kept(store: JsonlStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(line_of(message("two"))[:-1])
    assert contents(store) == ["one", "two"]
    settle(store)
    assert contents(store) == ["one", "two"] and path.read_bytes().endswith(b"\n")


def test_a_bad_line_in_the_middle_is_skipped_counted_and_never_removed(store: JsonlStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(b"not json\n" + line_of(message("two")))
    settle(store)
    assert contents(store) == ["one", "two"] and b"not json\n" in path.read_bytes()
    assert Session.replay("work", store.records("work")).damaged == 1


def test_readers_repair_nothing(store: JsonlStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(b'{"half')
    before = path.read_bytes()
    assert contents(store) == ["one"] and path.read_bytes() == before


def test_what_a_dead_process_left_of_a_reply_is_shown_and_then_stored_as_interrupted(store: JsonlStore) -> None:
    begin(store, "question")
    log = store.open("work")
    with log.turn():
        keep = log.partial(message("", role="assistant") | {"model": "m"})
        for piece in ("Hel", "lo \ud83c", "\udf89!"):
            keep(piece)
    log._partial = -1  # the process dies here
    shown = store.records("work")[-1]
    assert (shown["content"], shown["status"]) == ("Hello 🎉!", "interrupted")
    assert "Hello" not in store.path("work").read_text()
    settle(store)
    assert store.records("work")[-1] == shown and "Hello" in store.path("work").read_text()
    assert not store.path("work", ".partial").exists()


def test_a_partial_beside_its_stored_reply_is_dropped(store: JsonlStore) -> None:
    begin(store, "question")
    log, reply = store.open("work"), message("", role="assistant")
    with log.turn():
        log.partial(reply)("Hel")
        log.append([reply | {"content": "Hello"}])
    log._partial = -1
    assert contents(store) == ["question", "Hello"]
    settle(store)
    assert contents(store) == ["question", "Hello"] and not store.path("work", ".partial").exists()


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_partial_gives_what_is_whole_of_it(store: JsonlStore, cut: int) -> None:
    begin(store, "question")
    log = store.open("work")
    with log.turn():
        keep = log.partial(message("", role="assistant"))
        for piece in ("one ", "two ", "three "):
            keep(piece)
    log._partial = -1
    partial = store.path("work", ".partial")
    partial.write_bytes(partial.read_bytes()[: -cut or None])
    settle(store)
    assert "".join(contents(store)[1:]) in ("", "one ", "one two ", "one two three ")


def test_a_deleted_file_is_made_again_from_what_was_in_it(store: JsonlStore, said: list[str]) -> None:
    path = begin(store, "one")
    log = store.open("work")
    log.read()
    path.unlink()
    with log.turn():
        log.append([message("two")])
    assert contents(store) == ["one", "two"] and "deleted" in said[0]


def test_a_replaced_file_is_read_again(store: JsonlStore, said: list[str]) -> None:
    path = begin(store, "old")
    log = store.open("work")
    log.read()
    other = path.with_name("other")
    other.write_bytes(line_of(header("work")) + line_of(message("new")))
    other.replace(path)
    with log.turn():
        records, anew = log.read()
        log.append([message("after")])
    assert anew and [r.get("content") for r in records] == [None, "new"] and "replaced" in said[0]
    assert contents(store) == ["new", "after"]


def test_deleting_moves_into_the_trash_and_purging_erases(store: JsonlStore) -> None:
    begin(store, "secret")
    store.delete("work")
    (kept,) = (store.folder.parent / "trash").iterdir()
    assert b"secret" in kept.read_bytes()
    begin(store, "secret two")
    store.delete("work", purge=True)
    assert len(list((store.folder.parent / "trash").iterdir())) == 1 and store.names() == []


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder"])
def test_what_is_no_plain_file_is_refused_and_never_followed(store: JsonlStore, tmp_path: Path, kind: str) -> None:
    store.make_folder(store.folder)
    target = tmp_path / "target"
    target.write_text("outside")
    path = store.path("work")
    {"symlink": lambda: path.symlink_to(target), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    for attempt in (
        lambda: store.records("work"),
        lambda: store.open("work"),
        lambda: store.open("work", [header("work")]),
    ):
        with pytest.raises(WrongUse):
            attempt()
    assert target.read_text() == "outside"


def test_lines_are_split_at_newlines_only() -> None:
    record = {"type": "message", "content": "a\u2028b\u0085c\x0bd\re"}
    assert list(records_of(line_of(record).split(b"\n"))) == [record]


def test_lines_parsed_together_are_what_they_are_one_by_one(chance: random.Random) -> None:
    good = [line_of(message("x" * chance.randrange(50)))[:-1] for _ in range(300)]
    bad = [
        b"{",
        b"}",
        b"[]",
        b"1",
        b"null",
        b'{"a":1},{"b":2}',
        b'{"a":[1',
        b"2]}",
        b"\xff",
        b"[" * 5000,
        b'{"n":' + b"9" * 5000 + b"}",
    ]
    for _ in range(50):
        lines = [chance.choice(bad) if chance.random() < 0.02 else chance.choice(good) for _ in range(400)]
        assert list(records_of(lines)) == [record_of(line) or BROKEN for line in lines]


def mutated(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    length = chance.randrange(1, 40)
    kind = chance.randrange(4)
    if kind == 0:
        return data[:place] + bytes(b ^ (1 << chance.randrange(8)) for b in data[place : place + 1]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + data[place + length :]
    if kind == 2:
        return data[:place] + chance.randbytes(length) + data[place:]
    return data[:place] + b"\0" * length + data[place + length :]


def check_mutations(store: JsonlStore, chance: random.Random, times: int) -> None:
    path = begin(store, *(f"message {n} " * chance.randrange(1, 20) for n in range(12)))
    whole = path.read_bytes()
    intact = set(whole.split(b"\n"))
    for _ in range(times):
        data = whole
        for _ in range(chance.randrange(1, 4)):
            data = mutated(data, chance)
        path.write_bytes(data)
        survivors = [record_of(line) for line in data.split(b"\n") if line in intact and line]
        found = store.records("work")
        assert all(record in found for record in survivors)
        Session.replay("work", found).turns  # noqa: B018
        settle(store)
        assert all(record in store.records("work") for record in survivors)
        for torn in store.folder.glob("work.torn-*"):
            torn.unlink()


def test_every_intact_line_of_2000_mutated_files_is_read(store: JsonlStore, chance: random.Random) -> None:
    check_mutations(store, chance, 2000)


@pytest.mark.long
def test_every_intact_line_of_20000_mutated_files_is_read(store: JsonlStore, chance: random.Random) -> None:
    check_mutations(store, chance, 20_000)


def test_a_file_cut_at_every_byte_opens_with_all_its_whole_records(store: JsonlStore) -> None:
    path = begin(store, "one", "zwei ü", "三")
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        lines = whole[:end].split(b"\n")
        expected = [r for line in lines if (r := record_of(line))]
        settle(store)
        assert store.records("work") == expected
        for torn in store.folder.glob("work.torn-*"):
            torn.unlink()


class Faulty:
    """The module of system calls, whose k-th call fails."""

    def __init__(self, at: int, code: int) -> None:
        self.calls, self.at, self.code, self.failed = 0, at, code, ""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in ("fstat", "stat", "lstat", "close", "pread", "scandir"):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                self.failed = name
                if name == "write" and len(arguments[1]) > 1:
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("code", [28, 5, 122])
def test_an_error_at_any_system_call_loses_nothing_acknowledged(tmp_path: Path, code: int) -> None:
    at = 0
    while True:
        at += 1
        folder = tmp_path / f"{code}-{at}"
        faulty = Faulty(at, code)
        store = JsonlStore(folder / "sessions", system=faulty)
        acknowledged: list[str] = []
        log = None
        for text in ("one", "two", "three"):
            try:
                if log is None:
                    log = store.open("work", [header("work"), message(text)])
                else:
                    with log.turn():
                        log.read()
                        log.append([message(text)])
                acknowledged.append(text)
            except (NotSaved, OSError):
                pass
            except WrongUse:  # it was created after all, and only the answer was lost
                log = store.open("work")
        sound = JsonlStore(folder / "sessions")
        if acknowledged:
            settle(sound)
            assert [t for t in contents(sound) if t in acknowledged] == acknowledged, (at, faulty.failed)
            assert Session.replay("work", sound.records("work")).damaged <= 1
        if not faulty.failed:
            assert acknowledged == ["one", "two", "three"] and at > 8
            return
