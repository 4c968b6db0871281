"""Two machines, one folder: copies that a synchroniser left are found, named and merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import SessionLockedError, UsageError
from chatmem.history.names import conflict_copy_of
from chatmem.migrate import merge_sessions
from chatmem.stores import open_store
from tests.conftest import Run
from tests.stores.test_databases import ask, chat_on, texts

SYNCTHING = "work.sync-conflict-20261121-093000-ABCDEFG"
DROPBOX = "work (Ann's conflicted copy 2026-11-21)"
NEXTCLOUD = "work (conflicted copy 2026-11-21 093000)"


@pytest.mark.parametrize(
    "stem, name",
    [(SYNCTHING, "work"), (DROPBOX, "work"), (NEXTCLOUD, "work"), ("my trip (Conflicted Copy)", "my trip"), ("work", None),
     ("work.sync-conflict-2026", None), ("work (2)", None), (".x (conflicted copy)", None), ("work (conflicted copy) more", None),
     ("Bücher (Zoë's conflicted copy 2026-11-21)", "Bücher")],
)  # fmt: skip
def test_the_names_of_copies_are_recognised(stem: str, name: str | None) -> None:
    assert conflict_copy_of(stem) == name


@pytest.fixture
def sessions(home: Path) -> Path:
    return home / "data" / "sessions"


def diverge(home: Path, copy: str) -> None:
    """Let the session `work` and a copy of it go on separately. The copy is the newer one."""
    store = open_store("file", home / "data")
    chat = chat_on(store, "work")
    ask(chat, "one")
    chat.close()
    root = home / "data" / "sessions"
    elsewhere = home / "elsewhere" / "sessions"
    elsewhere.mkdir(parents=True)
    shutil.copy(root / "work.jsonl", elsewhere / "work.jsonl")
    chat = chat_on(store, "work")
    ask(chat, "here")
    chat.close()
    chat = chat_on(open_store("file", elsewhere.parent), "work")
    ask(chat, "there")
    chat.close()
    shutil.copy(elsewhere / "work.jsonl", root / f"{copy}.jsonl")


@pytest.mark.parametrize("copy", [SYNCTHING, DROPBOX, NEXTCLOUD])
def test_a_copy_is_named_with_the_command_that_merges_it(run: Run, home: Path, sessions: Path, copy: str) -> None:
    diverge(home, copy)
    for command in (["sessions", "list"], ["sessions", "check"], ["doctor"]):
        done = run(*command)
        assert "chatmem sessions merge work" in done.stdout + done.stderr, command
        assert copy.replace("'", "'\"'\"'") in done.stdout + done.stderr, command
    done = run("sessions", "merge", "work", copy)
    assert done.returncode == 0 and "Added 2 messages" in done.stderr and "2 branches" in done.stderr
    conversation = json.loads(run("sessions", "show", "work", "--json").stdout)["messages"]
    assert [m["content"] for m in conversation if m["role"] == "user"] == ["one", "there"]
    assert "here" in run("sessions", "show", "work", "--tree").stdout
    assert run("sessions", "check").returncode == 0 and "synchroniser" not in run("sessions", "list").stderr
    assert [path.name for path in sessions.glob("*.jsonl")] == ["work.jsonl"]
    assert any(path.name.startswith(copy) for path in (home / "data" / "trash").iterdir())
    assert run("sessions", "merge", "work", copy).returncode == 9


def test_two_sessions_of_a_database_are_merged(tmp_path: Path, home: Path, sessions: Path) -> None:
    from chatmem.migrate import copy_session

    diverge(home, "other")
    files, database = open_store("file", home / "data"), open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path)
    for name in ("work", "other"):
        copy_session(files, database, name)
    assert merge_sessions(database, "work", "other") == 2 and database.names() == ["work"]
    assert set(texts(database, "work")[::2]) == {"one", "here", "there"}
    assert merge_sessions(files, "other", "work") == 2, "in the other order too"
    assert files.session("other").head == database.session("work").head


def test_sessions_that_are_no_copies_or_in_use_are_not_merged(home: Path, sessions: Path) -> None:
    diverge(home, "copy")
    store = open_store("file", home / "data")
    ask(chat_on(store, "another"), "something else")
    before = (sessions / "work.jsonl").read_bytes()
    for other in ("another", "work"):
        with pytest.raises(UsageError):
            merge_sessions(store, "work", other)
    for busy in ("work", "copy"):
        with store.open(busy).exclusive(), pytest.raises(SessionLockedError):
            merge_sessions(open_store("file", home / "data"), "work", "copy")
    assert (sessions / "work.jsonl").read_bytes() == before and (sessions / "copy.jsonl").exists()


def test_a_merge_that_was_killed_before_the_copy_was_moved_is_completed_by_repeating_it(
    home: Path, sessions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(home, DROPBOX)
    store = open_store("file", home / "data")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "discard_conflict_copy", killed)
        merge_sessions(store, "work", DROPBOX)
    merged = (sessions / "work.jsonl").read_bytes()
    assert merge_sessions(store, "work", DROPBOX) == 0
    assert (sessions / "work.jsonl").read_bytes() == merged and store.conflict_copies() == {}


def test_a_copy_that_is_a_link_or_has_no_session_is_left_alone(home: Path, sessions: Path) -> None:
    diverge(home, DROPBOX)
    (sessions / f"{NEXTCLOUD}.jsonl").symlink_to(home / "elsewhere" / "sessions" / "work.jsonl")
    (sessions / "gone (conflicted copy).jsonl").write_text("{}\n")
    assert open_store("file", home / "data").conflict_copies() == {DROPBOX: "work"}
