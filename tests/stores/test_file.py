"""The file store: kills, full disks, other processes and edited files."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import SessionNotFoundError, StorageError, UsageError
from chatmem.history.records import header, new_id, utc_now
from chatmem.history.session import Session
from chatmem.stores.codec import MALFORMED, decode, decode_all, encode, is_changed
from chatmem.stores.file.log import FileLog
from chatmem.stores.file.store import FileStore
from tests.conftest import RecordProperty
from tests.fakes import Notices

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files and locks")
linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


def message(text: str, parent: str | None = None, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": parent, "role": role, "content": text, "time": utc_now()}


@pytest.fixture
def notices() -> Notices:
    return Notices()


@pytest.fixture
def store(tmp_path: Path, notices: Notices) -> FileStore:
    return FileStore(tmp_path / "data" / "sessions", notices)


DYING_WRITER = """
import os, signal, sys
from pathlib import Path
from chatmem.stores.codec import decode
from chatmem.stores.file.store import FileStore
root, reply, stored, *pieces = sys.argv[1:]
log = FileStore(Path(root)).open("work")
with log.exclusive():
    add = log.open_draft(decode(reply.encode()))
    for piece in pieces:
        add(piece.encode().decode("unicode_escape"))
    if stored:
        log.append([decode(reply.encode()) | {"content": stored}])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_in_reply(store: FileStore, reply: dict[str, Any], *pieces: str, stored: str = "") -> None:
    """A process receives the pieces of a reply, with escapes, perhaps stores it, and is killed."""
    arguments = [str(store.directory.root), encode(reply).decode().strip(), stored, *pieces]
    died = subprocess.run([sys.executable, "-c", DYING_WRITER, *arguments], check=False)
    assert died.returncode == -signal.SIGKILL


def begin(store: FileStore, *texts: str) -> Path:
    store.open("work", [header("work"), *(message(t) for t in texts)]).close()
    return store.path("work")


def contents(store: FileStore) -> list[str]:
    return [r["content"] for r in store.records("work") if r.get("type") == "message"]


def repair(store: FileStore) -> None:
    log = store.open("work")
    with log.exclusive():
        log.read()
    log.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_0600_and_directories_0700_under_any_umask(store: FileStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        begin(store, "x")
        log = store.open("work")
        with log.exclusive():
            log.open_draft(message("", role="assistant"))("text")
        log.close()
    finally:
        os.umask(before)
    for path in [store.directory.root.parent, *store.directory.root.parent.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_torn_tail_is_moved_aside_with_a_notice_before_the_next_append(store: FileStore, notices: Notices) -> None:
    path = begin(store, "kept")
    with path.open("ab") as file:
        file.write(b'{"type":"message","id":"x","ro')
    repair(store)
    (torn,) = store.directory.root.glob("work.torn-*")
    assert torn.read_bytes() == b'{"type":"message","id":"x","ro' and torn.name in notices[0]
    assert contents(store) == ["kept"] and path.read_bytes().endswith(b"\n")


def test_a_tail_of_zeros_is_moved_aside(store: FileStore) -> None:
    path = begin(store, "kept")
    with path.open("ab") as file:
        file.write(b"\0" * 700 + b"\n" + b"\0" * 20)
    repair(store)
    assert contents(store) == ["kept"] and b"\0" not in path.read_bytes()


def test_a_complete_record_without_a_newline_is_kept(store: FileStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(encode(message("two"))[:-1])
    assert contents(store) == ["one", "two"]
    repair(store)
    assert contents(store) == ["one", "two"] and path.read_bytes().endswith(b"\n")


def test_a_malformed_line_in_the_middle_is_skipped_counted_and_never_removed(store: FileStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(b"not json\n" + encode(message("two")))
    repair(store)
    assert contents(store) == ["one", "two"] and b"not json\n" in path.read_bytes()
    assert Session.replay("work", store.records("work")).malformed_count == 1


def test_reading_repairs_nothing(store: FileStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(b'{"half')
    before = path.read_bytes()
    assert contents(store) == ["one"] and path.read_bytes() == before


def test_the_draft_of_a_killed_process_is_read_and_later_stored_as_interrupted(store: FileStore) -> None:
    begin(store, "question")
    die_in_reply(store, message("", role="assistant") | {"model": "m"}, "Hel", r"lo \ud83c", r"\udf89!")
    shown = store.records("work")[-1]
    assert (shown["content"], shown["status"]) == ("Hello 🎉!", "interrupted")
    assert "Hello" not in store.path("work").read_text()
    repair(store)
    assert store.records("work")[-1] == shown and "Hello" in store.path("work").read_text()
    assert not store.path("work", ".partial").exists()


def test_a_draft_whose_reply_was_stored_is_removed(store: FileStore) -> None:
    begin(store, "question")
    die_in_reply(store, message("", role="assistant"), "Hel", stored="Hello")
    assert store.path("work", ".partial").exists()
    assert contents(store) == ["question", "Hello"]
    repair(store)
    assert contents(store) == ["question", "Hello"] and not store.path("work", ".partial").exists()


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_torn_draft_gives_its_complete_pieces(store: FileStore, cut: int) -> None:
    begin(store, "question")
    die_in_reply(store, message("", role="assistant"), "one ", "two ", "three ")
    partial = store.path("work", ".partial")
    partial.write_bytes(partial.read_bytes()[: -cut or None])
    repair(store)
    assert "".join(contents(store)[1:]) in ("", "one ", "one two ", "one two three ")


def test_a_deleted_file_is_created_again_with_its_content(store: FileStore, notices: Notices) -> None:
    path = begin(store, "one")
    log = store.open("work")
    log.read()
    path.unlink()
    with log.exclusive():
        log.append([message("two")])
    assert contents(store) == ["one", "two"] and "deleted" in notices[0]


def test_a_replaced_file_is_read_again(store: FileStore, notices: Notices) -> None:
    path = begin(store, "old")
    log = store.open("work")
    log.read()
    other = path.with_name("other")
    other.write_bytes(encode(header("work")) + encode(message("new")))
    other.replace(path)
    with log.exclusive():
        records, replaced = log.read()
        log.append([message("after")])
    assert replaced and [r.get("content") for r in records] == [None, "new"] and "replaced" in notices[0]
    assert contents(store) == ["new", "after"]


@pytest.mark.parametrize(("mine", "other"), [("delete", "delete"), ("rename", "delete"), ("delete", "rename")])
def test_a_session_that_another_process_deletes_or_renames_at_the_same_time_is_there_once(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: str, other: str
) -> None:
    begin(store, "kept")
    exclusive, second = FileLog.exclusive, FileStore(tmp_path / "data" / "sessions")

    def change(store: FileStore, how: str) -> None:
        store.delete("work") if how == "delete" else store.rename("work", "new")

    def late(self: FileLog, wait: bool = True) -> contextlib.AbstractContextManager[None]:
        monkeypatch.setattr(FileLog, "exclusive", exclusive)
        change(second, other)
        return exclusive(self, wait)

    monkeypatch.setattr(FileLog, "exclusive", late)
    with pytest.raises(SessionNotFoundError, match="another process"):
        change(store, mine)
    assert len(store.names()) + len(store.trash()) == 1


def test_only_regular_files_with_a_valid_time_are_in_the_trash(store: FileStore) -> None:
    begin(store, "work")
    store.delete("work")
    trash = store.directory.root.parent / "trash"
    (trash / "gone.20260101T000000Z-1.jsonl").symlink_to(trash / "nothing")
    (trash / "link.20260101T000000Z-1.jsonl").symlink_to(next(trash.glob("work*")))
    (trash / "odd.20261399T000000Z-1.jsonl").write_text("{}\n")
    (trash / "dir.20260101T000000Z-1.jsonl").mkdir()
    os.mkfifo(trash / "pipe.20260101T000000Z-1.jsonl")
    assert [entry.name for entry in store.trash()] == ["work"]
    with pytest.raises(SessionNotFoundError):
        store.restore("dir")


def test_torn_tails_are_restored_with_their_session(store: FileStore) -> None:
    for name in ("work", "other"):
        store.open(name, [header(name), message("hi")]).close()
        (store.directory.root / f"{name}.torn-20260101T000000Z-1").write_text(name)
        store.delete(name)
    store.restore("work", "again")
    assert {path.name: path.read_text() for path in store.directory.root.glob("*.torn-*")} == {
        "again.torn-20260101T000000Z-1": "work"
    }


def test_deleting_moves_to_the_trash_and_purging_erases(store: FileStore) -> None:
    begin(store, "secret")
    store.delete("work")
    (kept,) = (store.directory.root.parent / "trash").iterdir()
    assert b"secret" in kept.read_bytes()
    begin(store, "secret two")
    store.delete("work", purge=True)
    assert len(list((store.directory.root.parent / "trash").iterdir())) == 1 and store.names() == []


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_anything_but_a_regular_file_is_refused_and_never_followed(store: FileStore, tmp_path: Path, kind: str) -> None:
    store.directory.make_dir(store.directory.root)
    target = tmp_path / "target"
    target.write_text("outside")
    path = store.path("work")
    create: dict[str, Callable[[], None]] = {
        "symlink": lambda: path.symlink_to(target),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    create[kind]()
    attempts: list[Callable[[], object]] = [
        lambda: store.records("work"),
        lambda: store.open("work"),
        lambda: store.open("work", [header("work")]),
    ]
    for attempt in attempts:
        with pytest.raises(UsageError):
            attempt()
    assert target.read_text() == "outside"


def test_lines_are_split_at_newlines_only() -> None:
    record = {"type": "message", "content": "a\u2028b\u0085c\x0bd\re"}
    assert list(decode_all(encode(record).split(b"\n"))) == [record]


def test_lines_decoded_together_equal_lines_decoded_one_by_one(rng: random.Random) -> None:
    good = [encode(message("x" * rng.randrange(50)))[:-1] for _ in range(300)]
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
        lines = [rng.choice(bad) if rng.random() < 0.02 else rng.choice(good) for _ in range(400)]
        assert list(decode_all(lines)) == [decode(line) or MALFORMED for line in lines]


def mutate(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    length = rng.randrange(1, 40)
    kind = rng.randrange(4)
    if kind == 0:
        return data[:place] + bytes(b ^ (1 << rng.randrange(8)) for b in data[place : place + 1]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + data[place + length :]
    if kind == 2:
        return data[:place] + rng.randbytes(length) + data[place:]
    return data[:place] + b"\0" * length + data[place + length :]


def check_mutations(store: FileStore, rng: random.Random, times: int) -> None:
    path = begin(store, *(f"message {n} " * rng.randrange(1, 20) for n in range(12)))
    whole = path.read_bytes()
    intact = set(whole.split(b"\n"))
    for _ in range(times):
        data = whole
        for _ in range(rng.randrange(1, 4)):
            data = mutate(data, rng)
        path.write_bytes(data)
        survivors = [decode(line) for line in data.split(b"\n") if line in intact and line]
        found = store.records("work")
        assert all(record in found for record in survivors)
        Session.replay("work", found).turns  # noqa: B018
        repair(store)
        assert all(record in store.records("work") for record in survivors)
        for torn in store.directory.root.glob("work.torn-*"):
            torn.unlink()


@pytest.mark.no_cover
@pytest.mark.claim("damaged session files: intact lines not read")
def test_every_intact_line_of_400_mutated_files_is_read(
    store: FileStore, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 400)
    check_mutations(store, rng, 400)


@pytest.mark.claim("damaged session files: intact lines not read")
@pytest.mark.long
def test_every_intact_line_of_20000_mutated_files_is_read(
    store: FileStore, rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 20_000)
    check_mutations(store, rng, 20_000)


def test_every_changed_letter_of_a_text_is_found_by_a_deep_check(store: FileStore) -> None:
    path = begin(store, "the quick brown fox", "zwei ü", "a lone \ud800 surrogate")
    whole = path.read_bytes()
    assert store.check("work", deep=True).ok
    start = whole.index(b"quick")
    for place in range(start, start + 5):
        path.write_bytes(whole[:place] + b"Z" + whole[place + 1 :])
        assert store.check("work").ok
        assert store.check("work", deep=True).changed_lines == [2]


@pytest.mark.parametrize("end", [b"}", b"}  \r", b',"more":1}'])
def test_a_line_whose_checksum_is_not_where_it_belongs_was_changed(store: FileStore, end: bytes) -> None:
    path = begin(store, "one")
    path.write_bytes(path.read_bytes().replace(b'"}\n', b'"' + end + b"\n"))
    assert store.check("work", deep=True).changed_lines == ([] if end == b"}" else [1, 2])


def test_a_record_without_a_checksum_is_not_checked(store: FileStore) -> None:
    path = begin(store, "one")
    path.write_bytes(re.sub(rb',"sum":"[0-9a-f]{8}"', b"", path.read_bytes()))
    assert store.check("work", deep=True).ok and b"sum" not in path.read_bytes()


def test_checksums_are_not_part_of_settings_or_marks(store: FileStore) -> None:
    begin(store, "one")
    log = store.open("work")
    with log.exclusive():
        log.append([{"type": "settings", "title": "New"}, {"type": "mark", "message": "m0", "pinned": True}])
    session = store.session("work")
    assert session.settings == {"title": "New"} and list(session.marks.values()) == [{"pinned": True}]


def test_unfinished_files_of_a_killed_process_are_removed_once_they_are_old_and_unlocked(store: FileStore) -> None:
    begin(store, "one")
    root = store.directory.root
    old = [root / ".killed.new", root / ".busy.new", root / ".work.link.77.tmp"]
    young = root / ".young.new"
    for file in (*old, young):
        file.write_bytes(b"{")
    for file in old:
        os.utime(file, (0, 0))
    with store.directory.lock("busy"):
        FileStore(root).list_sessions()
    assert sorted(p.name for p in root.glob(".*") if p.suffix in (".new", ".tmp")) == [".busy.new", ".young.new"]


def test_checking_reads_the_directory_as_often_for_100_sessions_as_for_1(store: FileStore) -> None:
    def scans() -> int:
        system = CountingSystem()
        assert all(report.ok for report in FileStore(store.directory.root, system=system).check_all())
        return system.scans

    begin(store, "one")
    before = scans()
    for number in range(100):
        store.open(f"s{number}", [header(f"s{number}")]).close()
    assert scans() == before


class CountingSystem:
    """The system calls, with a count of how often a directory is read."""

    scans = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def scandir(self, path: Path) -> Any:
        self.scans += 1
        return os.scandir(path)


def test_a_file_truncated_at_any_byte_opens_with_all_complete_records(store: FileStore) -> None:
    path = begin(store, "one", "zwei ü", "三")
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        lines = whole[:end].split(b"\n")
        expected = [r for line in lines if (r := decode(line))]
        repair(store)
        assert store.records("work") == expected
        for torn in store.directory.root.glob("work.torn-*"):
            torn.unlink()


class FaultySystem:
    """The `os` module, of which call number `at` fails."""

    def __init__(
        self, at: int, code: int, spared: Container[str] = ("fstat", "stat", "lstat", "close", "pread", "scandir")
    ) -> None:
        self.calls, self.at, self.code, self.failed, self.spared = 0, at, code, "", spared

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in self.spared or not callable(real):
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
def test_a_failure_of_any_system_call_loses_nothing_acknowledged(tmp_path: Path, code: int) -> None:
    at = 0
    while True:
        at += 1
        directory = tmp_path / f"{code}-{at}"
        faulty = FaultySystem(at, code)
        store = FileStore(directory / "sessions", system=faulty)
        acknowledged: list[str] = []
        log = None
        for text in ("one", "two", "three"):
            try:
                if log is None:
                    log = store.open("work", [header("work"), message(text)])
                else:
                    with log.exclusive():
                        log.read()
                        log.append([message(text)])
                acknowledged.append(text)
            except (StorageError, OSError):
                pass
            except UsageError:  # it was created, but the call that created it failed later
                log = store.open("work")
        intact = FileStore(directory / "sessions")
        if acknowledged:
            repair(intact)
            assert [t for t in contents(intact) if t in acknowledged] == acknowledged, (at, faulty.failed)
            assert Session.replay("work", intact.records("work")).malformed_count <= 1
        if not faulty.failed:
            assert acknowledged == ["one", "two", "three"] and at > 8
            return


def open_descriptors(directory: Path) -> list[str]:
    """The files below a directory that this process has open."""
    links = (str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
    return [link for link in links if link.startswith(str(directory))]


def test_a_file_that_is_truncated_while_it_is_open_is_read_again(store: FileStore) -> None:
    path = begin(store, "one", "two")
    log = store.open("work")
    log.read()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    records, replaced = log.read()
    assert replaced and [r.get("content") for r in records] == [None, "one"]


@posix
def test_a_file_that_is_renamed_while_it_is_open_is_followed_with_a_notice(store: FileStore, notices: Notices) -> None:
    path = begin(store, "one")
    log = store.open("work")
    path.rename(path.with_name("other.jsonl"))
    with log.exclusive():
        log.append([message("two")])
    assert log.name == "other" and notices == ["Session 'work' was renamed to 'other'."]
    assert [r["content"] for r in store.records("other") if r["type"] == "message"] == ["one", "two"]


@linux
def test_closing_and_repairing_leave_no_file_open(store: FileStore) -> None:
    path = begin(store, "one")
    with path.open("ab") as file:
        file.write(b'{"half')
    log = store.open("work")
    with log.exclusive():
        log.open_draft(message("", role="assistant"))("text")
    log.close()
    log.close()
    assert [path for path in open_descriptors(store.directory.root) if ".index." not in path] == []


def test_new_names_are_synced_to_the_directory(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = begin(store, "one")
    log, synced = store.open("work"), list[Path | None]()
    monkeypatch.setattr(store.directory, "sync", lambda path=None: synced.append(path))
    path.unlink()
    with log.exclusive():
        assert len(synced) == 1, "the file was created again"
    with path.open("ab") as file:
        file.write(b'{"half')
    with log.exclusive():
        assert len(synced) == 2, "the torn tail was moved to a new file"


def test_a_tail_that_was_set_aside_is_not_returned(store: FileStore) -> None:
    path = begin(store, "kept")
    log = store.open("work")
    log.read()
    with path.open("ab") as file:
        file.write(b"\0" * 10 + b"\n" + b"\0" * 10)
    with log.exclusive():
        assert log.read() == ([], False)


def test_a_recovered_draft_is_returned_as_a_new_record(store: FileStore) -> None:
    begin(store, "question")
    die_in_reply(store, message("", role="assistant"), "half a reply")
    log = store.open("work")
    log.read()
    with log.exclusive():
        records, _ = log.read()
    assert [r["content"] for r in records] == ["half a reply"]


def test_a_draft_that_was_stored_by_the_same_log_is_not_stored_again(store: FileStore) -> None:
    begin(store, "question")
    log, reply = store.open("work"), message("", role="assistant")
    with log.exclusive():
        log.open_draft(reply)("half")
        log.append([reply | {"content": "whole"}])
    log.close()
    log = store.open("work")
    with log.exclusive():
        log.open_draft(reply | {"id": "second"})("half")
        log.append([reply | {"id": "second", "content": "second"}])
        log.draft.close()  # type: ignore[attr-defined]  # as if the draft could not be removed
    with log.exclusive():
        pass
    assert contents(store) == ["question", "whole", "second"]


# Drafts whose record is not durable yet


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENOLCK])
def test_a_draft_stays_until_its_record_is_durable_whatever_call_fails(tmp_path: Path, code: int) -> None:
    at = 0
    while True:
        at += 1
        healthy = FileStore(tmp_path / f"{at}" / "sessions")
        begin(healthy, "question")
        log, reply = healthy.open("work"), message("", role="assistant")
        log.open_draft(reply)("half a reply")
        log.close()
        faulty = FaultySystem(at, code, spared=("close",))
        for _ in range(2):
            with contextlib.suppress(StorageError, OSError):
                other = FileStore(healthy.directory.root, system=faulty).open("work")
                with other.exclusive():
                    other.read()
                    other.open_draft(message("", role="assistant"))("the next reply")
                    other.append([message("the next reply", role="assistant")])
                    other.close_draft()
        repair(healthy)
        assert contents(healthy).count("half a reply") == 1, (at, faulty.failed)
        if not faulty.failed:
            assert at > 10
            break


@posix
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOLCK, errno.ENOSYS])
def test_a_draft_stays_where_sessions_cannot_be_locked(
    store: FileStore, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store, "question")
    live, reply = store.open("work"), message("", role="assistant")
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
        live.open_draft(reply)("half a reply")
        with contextlib.suppress(StorageError), store.open("work").exclusive():
            pass
        assert store.path("work", ".partial").exists() and contents(store) == ["question", "half a reply"]
        os.utime(store.path("work", ".partial"), (0, 0))
        with contextlib.suppress(StorageError), store.open("work").exclusive():
            assert not store.path("work", ".partial").exists(), "an abandoned draft is stored"
        assert contents(store) == ["question", "half a reply"]
    repair(store)
    assert contents(store) == ["question", "half a reply"] and not store.path("work", ".partial").exists()


def test_a_draft_is_complete_again_once_a_full_disk_has_space(tmp_path: Path) -> None:
    disk = FullDisk()
    store = FileStore(tmp_path / "sessions", system=disk)
    begin(store, "question")
    log = store.open("work")
    add = log.open_draft(message("", role="assistant"))
    add("one ")
    disk.free = 10
    add("two ")
    add("three ")
    disk.free = None
    add("four")
    log.close()
    repair(store)
    assert contents(store) == ["question", "one two three four"]


def test_a_draft_that_cannot_be_begun_leaves_no_file(tmp_path: Path) -> None:
    disk = FullDisk()
    store = FileStore(tmp_path / "sessions", system=disk)
    begin(store, "question")
    disk.free = 10
    store.open("work").open_draft(message("", role="assistant"))("one")
    assert not store.path("work", ".partial").exists()


class FullDisk:
    """The `os` module on a disk with `free` bytes left, None for any number."""

    free: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.free is None:
            return os.write(descriptor, data)
        if self.free == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, bytes(data)[: self.free])
        self.free -= written
        return written


@posix
def test_a_file_and_a_directory_that_other_users_can_use_are_made_private_with_a_notice(
    store: FileStore, notices: Notices
) -> None:
    path = begin(store, "one")
    path.chmod(0o666)
    path.parent.chmod(0o777)
    assert contents(store) == ["one"] and path.stat().st_mode & 0o777 == 0o666, "reading changes nothing"
    store.open("work").close()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert len(notices) == 2 and all("private now" in notice for notice in notices)
    store.open("work").close()
    assert len(notices) == 2


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOLCK, errno.EACCES])
def test_a_failure_of_any_system_call_is_a_storage_error_that_says_what_failed(tmp_path: Path, code: int) -> None:
    at = failures = 0
    while True:
        at += 1
        healthy = FileStore(tmp_path / f"{at}" / "sessions")
        begin(healthy, "one", "two")
        faulty = FaultySystem(at, code, spared=("close",))
        store = FileStore(healthy.directory.root, system=faulty)
        for action, *names in (
            (FileStore.names,),
            (FileStore.list_sessions,),
            (FileStore.records, "work"),
            (chat_once,),
            (FileStore.fork, "work", "fork"),
            (FileStore.check, "work"),
            (FileStore.rename, "work", "renamed"),
            (FileStore.delete, "renamed"),
        ):
            try:
                action(store, *names)  # type: ignore[arg-type]
            except StorageError as error:
                failures += 1
                assert os.strerror(code) in error.message and error.message != f"{os.strerror(code)}."
            except (UsageError, SessionNotFoundError):
                pass
        if not faulty.failed:
            assert failures > 10
            break


def chat_once(store: FileStore) -> None:
    log = store.open("work")
    try:
        with log.exclusive():
            log.read()
            log.open_draft(message("", role="assistant"))("three")
            log.append([message("three")])
            log.close_draft()
    finally:
        log.close()


def test_an_empty_record_is_a_line_that_can_be_read(store: FileStore) -> None:
    assert decode(encode({})) == {} and not is_changed(encode({}).strip())
