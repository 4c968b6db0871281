"""A database that goes away in the middle of a chat, and what waits for it here: real servers, killed and started again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatmem.records import header
from chatmem.session import Session
from chatmem.stores import database_log, open_store
from tests.conftest import Run
from tests.databases import SERVERS, DatabaseServer
from tests.stores.test_databases import ask, chat_on, question, texts


@pytest.fixture(params=list(SERVERS))
def own_server(request: pytest.FixtureRequest) -> Iterator[tuple[DatabaseServer, str]]:
    """A database server for one test alone, which may kill it."""
    start, url = SERVERS[request.param]
    pytest.importorskip({"postgres": "psycopg"}.get(request.param, request.param))
    with start() as server:
        yield server, url.format(port=server.port)


def test_a_chat_goes_on_while_the_server_is_away_and_all_of_it_is_there_once_when_it_is_back(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)  # only the turns themselves look
    server, url = own_server
    said: list[str] = []
    chat = chat_on(open_store(url, tmp_path, "", said.append), "work", said.append)
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    ask(chat, "three")
    chat.set(title="kept as well")
    assert len(said) == 1 and "cannot be reached" in said[0] and chat.not_saved is None
    (waiting,) = tmp_path.rglob("*.jsonl")
    assert [json.loads(line)["content"] for line in waiting.read_text().splitlines() if '"user"' in line] == [
        "two",
        "three",
    ]
    server.start()
    ask(chat, "four")
    assert not waiting.exists() and "is back" in said[1] and len(said) == 2
    ask(chat, "five")
    chat.close()
    kept = open_store(url, tmp_path, "").records("work")
    session = Session.replay("work", kept)
    assert [m.content for m in session.path if m.role == "user"] == ["one", "two", "three", "four", "five"]
    assert session.title == "kept as well" and len(session.messages) == len(session.path) == 10
    assert len({r["id"] for r in kept if r["type"] == "message"}) == 10 == sum(r["type"] == "message" for r in kept)


def test_what_waits_is_moved_in_the_background(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 0.05)
    server, url = own_server
    back = threading.Event()
    chat = chat_on(open_store(url, tmp_path, "", lambda line: back.set() if "is back:" in line else None), "work")
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    server.start()
    assert back.wait(30)
    assert texts(open_store(url, tmp_path, ""), "work")[::2] == ["one", "two"]
    ask(chat, "three")
    chat.close()
    assert texts(open_store(url, tmp_path, ""), "work")[::2] == ["one", "two", "three"]


def test_what_a_killed_process_left_waiting_is_found_and_moved_by_the_next(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    server.kill()
    ask(chat, "two")
    del chat  # without a word, as a kill does
    away = open_store(url, tmp_path, "")
    assert away.names() == ["work"] and texts(away, "work")[0] == "two"
    new = chat_on(away, "begun without the server")
    ask(new, "offline question")
    new.close()
    server.start()
    assert set(open_store(url, tmp_path, "").names()) == {"work", "begun without the server"}
    for name, first in (("work", "one"), ("begun without the server", "offline question")):
        chat = chat_on(open_store(url, tmp_path, ""), name)
        ask(chat, "and on")
        chat.close()
        said = texts(open_store(url, tmp_path / "another machine", ""), name)
        assert said[0] == first and said.count("and on") == 1
    assert not list(tmp_path.rglob("*.jsonl"))


def test_what_waits_finds_its_session_though_that_was_renamed_and_another_has_its_name_now(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path / "here", ""), "proj")
    ask(chat, "one")
    server.kill()
    ask(chat, "two, without the server")
    skeleton = question("", chat.session.head, "assistant")
    chat._log.partial(skeleton)("half a re")  # type: ignore[union-attr]  # and killed
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


def test_what_was_asked_without_a_known_session_goes_on_where_that_session_was(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    ask(chat_on(open_store(url, tmp_path, ""), "work"), "one")
    server.kill()
    said: list[str] = []
    away = chat_on(open_store(url, tmp_path, "", said.append), "WORK", said.append)
    ask(away, "two")
    away.close()
    assert len(said) == 1 and "What is said is kept in" in said[0]
    server.start()
    back = chat_on(open_store(url, tmp_path, ""), "work")
    ask(back, "three")
    assert [m.content for m in back.session.path if m.role == "user"] == ["one", "two", "three"]
    assert open_store(url, tmp_path, "").names() == ["work"] and not list(tmp_path.rglob("*.jsonl"))


def test_what_a_killed_process_left_of_a_reply_comes_before_what_the_next_one_asked(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    chat._log.partial(question("", chat.session.head, "assistant"))("half a re")  # type: ignore[union-attr]
    server.kill()
    ask(chat_on(open_store(url, tmp_path, ""), "work"), "two, without the server")
    server.start()
    back = chat_on(open_store(url, tmp_path, ""), "work")
    ask(back, "three")
    path = [m.content for m in back.session.path]
    wanted = ["one", "half a re", "two, without the server", "three"]
    assert [text for text in path if text in wanted] == wanted


def test_processes_of_one_machine_that_go_away_together_keep_every_question(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    open_store(url, tmp_path, "").open("work", [header("work")]).close()
    chats = [chat_on(open_store(url, tmp_path, ""), "work") for _ in range(4)]
    server.kill()
    threads = [threading.Thread(target=ask, args=(chat, f"from {n}")) for n, chat in enumerate(chats)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.start()
    for chat in chats:
        chat.refresh()
    said = texts(open_store(url, tmp_path, ""), "work")
    assert sorted(t for t in said if t.startswith("from")) == [f"from {n}" for n in range(4)] and len(said) == 8


def test_a_server_that_stands_still_is_away_after_some_seconds(
    own_server: tuple[DatabaseServer, str], tmp_path: Path
) -> None:
    server, url = own_server
    said: list[str] = []
    chat = chat_on(open_store(url, tmp_path, "", said.append), "work")
    ask(chat, "one")
    with server.standing_still():
        ask(chat, "two")
    assert any("cannot be reached" in line for line in said)
    chat.close()


def test_a_process_takes_its_own_lease_back_after_a_short_outage(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
    server, url = own_server
    chat = chat_on(open_store(url, tmp_path, ""), "work", wait=False)
    ask(chat, "one")
    pieces = chat.say("two")
    next(pieces)
    server.kill()
    list(pieces)
    server.start()
    ask(chat, "three")  # Busy, were the lease another's
    assert texts(open_store(url, tmp_path / "elsewhere", ""), "work")[::2] == ["one", "two", "three"]


def test_two_databases_of_one_server_have_two_places_here(
    own_server: tuple[DatabaseServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "AGAIN", 3600.0)
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


def test_expiry_keeps_no_chat_from_beginning_while_the_server_is_away(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    (tmp_path / "config.toml").write_text('discover = false\n[sessions]\nexpire = "30d"\n')
    done = run("chat", "-s", "x", "-m", "offline", "--store", "postgresql://u@127.0.0.1:1/x", input="hi\n")
    assert "Noted" in done.stdout and done.returncode == 0


def test_a_server_that_was_never_there_is_one_line(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    for url in ("redis://127.0.0.1:1/0", "postgresql://u:pass@127.0.0.1:1/x"):
        done = run("sessions", "list", "--store", url)
        assert done.returncode == 7 and done.stderr.count("\n") == 1 and "cannot be reached" in done.stderr
        assert "Traceback" not in done.stderr and "pass@" not in done.stderr
