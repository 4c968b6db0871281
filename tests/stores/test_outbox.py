"""A database that becomes unavailable during a chat, and the outbox that replaces it: real servers, killed and started again."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from chatmem.history.records import header
from chatmem.history.session import Session
from chatmem.stores import open_store
from chatmem.stores.database import log as database_log
from tests.conftest import Run
from tests.databases import DatabaseServer
from tests.fakes import Notices
from tests.stores.test_databases import ask, chat_on, question, texts

pytestmark = pytest.mark.claim("unreachable databases: turns lost or repeated")


def test_a_chat_continues_without_its_server_and_everything_is_stored_once_when_it_is_back(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)  # only turns reconnect
    server, url = own_server
    notices = Notices()
    chat = chat_on(open_store(url, tmp_path, "", notices), "work", notices)
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    ask(chat, "three")
    chat.update_settings(title="kept as well")
    assert len(notices) == 1 and "Store unreachable; saving to" in notices[0] and chat.save_error is None
    (waiting,) = tmp_path.rglob("*.jsonl")
    assert [json.loads(line)["content"] for line in waiting.read_text().splitlines() if '"user"' in line] == [
        "two",
        "three",
    ]
    server.start()
    ask(chat, "four")
    assert not waiting.exists() and "Moved 5 records" in notices[1] and len(notices) == 2
    ask(chat, "five")
    chat.close()
    kept = open_store(url, tmp_path, "").records("work")
    session = Session.replay("work", kept)
    assert [m.content for m in session.path if m.role == "user"] == ["one", "two", "three", "four", "five"]
    assert session.title == "kept as well" and len(session.messages) == len(session.path) == 10
    assert len({r["id"] for r in kept if r["type"] == "message"}) == 10 == sum(r["type"] == "message" for r in kept)


def test_the_outbox_is_moved_in_the_background(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 0.05)
    server, url = own_server
    back = threading.Event()
    chat = chat_on(
        open_store(url, tmp_path, "", lambda text, action=None: back.set() if "Moved" in text else None), "work"
    )
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    server.start()
    assert back.wait(30)
    assert texts(open_store(url, tmp_path, ""), "work")[::2] == ["one", "two"]
    ask(chat, "three")
    chat.close()
    assert texts(open_store(url, tmp_path, ""), "work")[::2] == ["one", "two", "three"]


def test_the_outbox_of_a_killed_process_is_moved_by_the_next_one(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    del chat  # as if it was killed
    away = open_store(url, tmp_path, "")
    assert away.names() == ["work"] and texts(away, "work")[0] == "two"
    new = chat_on(away, "started offline")
    ask(new, "offline question")
    new.close()
    server.start()
    assert set(open_store(url, tmp_path, "").names()) == {"work", "started offline"}
    for name, first in (("work", "one"), ("started offline", "offline question")):
        chat = chat_on(open_store(url, tmp_path, ""), name)
        ask(chat, "and on")
        chat.close()
        stored = texts(open_store(url, tmp_path / "another machine", ""), name)
        assert stored[0] == first and stored.count("and on") == 1
    assert not list(tmp_path.rglob("*.jsonl"))


def test_the_outbox_finds_its_session_after_a_rename(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path / "here", ""), "proj")
    ask(chat, "one")
    server.kill()
    ask(chat, "two, without the server")
    skeleton = question("", chat.session.head, "assistant")
    chat.journal._log.open_draft(skeleton)("half a re")  # type: ignore[union-attr]  # as if it was killed
    server.start()
    there = open_store(url, tmp_path / "elsewhere", "")
    there.rename("proj", "archive")
    there.open("proj", [header("proj"), question("another")]).close()
    here = open_store(url, tmp_path / "here", "")
    ask(chat_on(here, "proj"), "for the other one")
    assert not {"two, without the server", "half a re"} & set(texts(there, "proj"))
    ask(chat_on(open_store(url, tmp_path / "here", ""), "ARCHIVE"), "three")
    wanted = ["one", "two, without the server", "half a re", "three"]
    assert [text for text in texts(there, "archive") if text in wanted] == wanted


def test_questions_asked_offline_continue_the_session_of_that_name(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    ask(chat_on(open_store(url, tmp_path, ""), "work"), "one")
    server.kill()
    notices = Notices()
    away = chat_on(open_store(url, tmp_path, "", notices), "WORK", notices)
    ask(away, "two")
    away.close()
    assert len(notices) == 1 and "Store unreachable; saving to" in notices[0]
    server.start()
    back = chat_on(open_store(url, tmp_path, ""), "work")
    ask(back, "three")
    assert [m.content for m in back.session.path if m.role == "user"] == ["one", "two", "three"]
    assert open_store(url, tmp_path, "").names() == ["work"] and not list(tmp_path.rglob("*.jsonl"))


def test_the_draft_of_a_killed_process_precedes_later_questions(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    chat.journal._log.open_draft(question("", chat.session.head, "assistant"))("half a re")  # type: ignore[union-attr]
    server.kill()
    ask(chat_on(open_store(url, tmp_path, ""), "work"), "two, without the server")
    server.start()
    back = chat_on(open_store(url, tmp_path, ""), "work")
    ask(back, "three")
    path = [m.content for m in back.session.path]
    wanted = ["one", "half a re", "two, without the server", "three"]
    assert [text for text in path if text in wanted] == wanted


def test_processes_that_lose_the_server_together_keep_every_question(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    open_store(url, tmp_path, "").open("work", [header("work")]).close()
    chats = [chat_on(open_store(url, tmp_path, ""), "work") for _ in range(4)]
    server.kill()
    threads = [threading.Thread(target=ask, args=(chat, f"from {n}")) for n, chat in enumerate(chats)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    server.start()
    for chat in chats:
        chat.refresh()
    stored = texts(open_store(url, tmp_path, ""), "work")
    assert sorted(t for t in stored if t.startswith("from")) == [f"from {n}" for n in range(4)] and len(stored) == 8


def test_a_server_that_never_answers_counts_as_unreachable(
    own_server: tuple[DatabaseServer, str], tmp_path: Path
) -> None:
    server, url = own_server
    notices = Notices()
    chat = chat_on(open_store(url, tmp_path, "", notices), "work")
    ask(chat, "one")
    with server.suspended():
        ask(chat, "two")
    assert any("Store unreachable" in notice for notice in notices)
    chat.close()


def test_a_process_takes_its_own_lease_back_after_a_short_outage(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work", wait=False)
    ask(chat, "one")
    pieces = chat.send("two")
    next(pieces)
    server.kill()
    list(pieces)
    server.start()
    ask(chat, "three")  # fails if another process held the lease
    assert texts(open_store(url, tmp_path / "elsewhere", ""), "work")[::2] == ["one", "two", "three"]


def test_two_databases_of_one_server_have_separate_outboxes(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    if not url.startswith("redis"):
        pytest.skip("Redis numbers its databases")
    server.kill()
    ask(chat_on(open_store(f"{url}?db=1", tmp_path, ""), "work"), "for one")
    server.start()
    ask(chat_on(open_store(f"{url}?db=2", tmp_path, ""), "work"), "for two")
    ask(chat_on(open_store(f"{url}?db=1", tmp_path, ""), "work"), "again")
    assert texts(open_store(f"{url}?db=2", tmp_path, ""), "work")[::2] == ["for two"]
    assert texts(open_store(f"{url}?db=1", tmp_path, ""), "work")[::2] == ["for one", "again"]


def test_a_chat_with_expiry_starts_without_its_server(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    (tmp_path / "config.toml").write_text('discover = false\n[sessions]\nexpire = "30d"\n')
    done = run("chat", "-s", "x", "-m", "offline", "--store", "postgresql://u@127.0.0.1:1/x", input="hi\n")
    assert "Noted" in done.stdout and done.returncode == 0


def test_an_unreachable_server_is_reported_in_one_line(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    for url in ("redis://127.0.0.1:1/0", "postgresql://u:pass@127.0.0.1:1/x"):
        done = run("sessions", "list", "--store", url)
        assert done.returncode == 7 and done.stderr.count("\n") == 1 and "Cannot reach" in done.stderr
        assert "Traceback" not in done.stderr and "pass@" not in done.stderr


def test_the_lease_is_left_to_expire_when_the_server_is_lost_during_a_turn(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    store = open_store(url, tmp_path, "")
    chat, unlocked = chat_on(store, "work"), list[str]()
    ask(chat, "one")
    unlock = store.database.unlock  # type: ignore[attr-defined]

    def count_calls(session: str, holder: str) -> None:
        unlocked.append(holder)
        unlock(session, holder)

    monkeypatch.setattr(store.database, "unlock", count_calls)  # type: ignore[attr-defined]
    ask(chat, "two")
    assert len(unlocked) == 1
    pieces = chat.send("three")
    next(pieces)
    server.kill()
    list(pieces)
    assert len(unlocked) == 1


def test_a_session_that_begins_without_its_server_keeps_its_settings(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    server.kill()
    first = [header("work"), {"type": "settings", "title": "kept"}]
    log = open_store(url, tmp_path, "").open("work", first)
    with log.exclusive():
        log.append([question("one")])
    log.close()
    assert open_store(url, tmp_path, "").session("work").title == "kept"
    server.start()
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "two")
    chat.close()
    stored = open_store(url, tmp_path / "elsewhere", "").session("work")
    assert stored.title == "kept" and stored.id == first[0]["id"]


def test_the_session_of_a_chat_stays_the_same_when_it_moves_to_the_outbox_and_back(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    before = chat.session.header
    server.kill()
    ask(chat, "two")
    ask(chat, "three")
    assert chat.session.header == before
    server.start()
    ask(chat, "four")
    assert chat.session.header == before
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in links if str(tmp_path) in link], "no file of the outbox is open"


def test_the_draft_of_a_killed_process_is_moved_once(own_server: tuple[DatabaseServer, str], tmp_path: Path) -> None:
    _, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    chat.journal._log.open_draft(question("", chat.session.head, "assistant"))("half a re")  # type: ignore[union-attr]
    for _ in range(2):
        chat_on(open_store(url, tmp_path, ""), "work").close()
        assert not list(tmp_path.rglob("*.partial"))
    assert texts(open_store(url, tmp_path / "elsewhere", ""), "work").count("half a re") == 1


def test_what_was_saved_in_the_outbox_follows_what_other_machines_added_meanwhile(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    notices = Notices()
    chat = chat_on(open_store(url, tmp_path / "here", "", notices), "work", notices)
    ask(chat, "one")
    server.kill()
    ask(chat, "two, offline")
    ask(chat, "three, offline")
    server.start()
    other = chat_on(open_store(url, tmp_path / "elsewhere", ""), "work")
    ask(other, "two, elsewhere")
    other.close()
    ask(chat, "four")
    path = open_store(url, tmp_path / "a third machine", "").session("work").path
    wanted = ["one", "two, elsewhere", "two, offline", "three, offline", "four"]
    assert (
        [m.content for m in path if m.role == "user"]
        == wanted
        == [m.content for m in chat.session.path if m.role == "user"]
    )
    assert any("What was saved here follows it." in notice for notice in notices)


def test_an_undo_in_the_outbox_leaves_what_other_machines_added_meanwhile(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path / "here", ""), "work")
    ask(chat, "one")
    server.kill()
    ask(chat, "two, offline")
    chat.undo()
    ask(chat, "three, offline")
    server.start()
    other = chat_on(open_store(url, tmp_path / "elsewhere", ""), "work")
    ask(other, "two, elsewhere")
    other.close()
    ask(chat, "four")
    path = open_store(url, tmp_path / "a third machine", "").session("work").path
    assert [m.content for m in path if m.role == "user"] == ["one", "two, elsewhere", "three, offline", "four"]


def test_the_first_records_of_a_session_are_moved_once_even_if_the_outbox_cannot_be_emptied(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, url = own_server
    server.kill()
    log = open_store(url, tmp_path, "").open("work", [header("work"), {"type": "settings", "title": "old"}])
    log.close()
    server.start()
    with monkeypatch.context() as patch:
        patch.setattr("chatmem.stores.database.outbox.Outbox.remove", lambda *_: None)
        chat_on(open_store(url, tmp_path, ""), "work").close()
    chat = chat_on(open_store(url, tmp_path / "elsewhere", ""), "work")
    chat.update_settings(title="new")
    chat.close()
    chat_on(open_store(url, tmp_path, ""), "work").close()
    stored = open_store(url, tmp_path / "elsewhere", "").session("work")
    assert stored.title == "new"
