"""Databases that refuse writes instead of vanishing: out of memory, read-only, full. Nothing acknowledged is lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.session import Session
from chatmem.stores import open_store
from chatmem.stores.database import log as database_log
from tests.conftest import Run
from tests.databases import SERVERS, Databases
from tests.fakes import Notices, wait_until
from tests.server import OK, Server, delta, stream
from tests.stores.test_databases import ask, chat_on, texts

pytestmark = pytest.mark.claim("refusing databases: turns lost or repeated")


@dataclass
class Refusal:
    """A database that can be made to refuse writes, and to accept them again."""

    url: str
    refuse: Callable[[], object]
    accept: Callable[[], object]
    clear: Callable[[], object]
    """Remove everything that a test stored."""


def redis_out_of_memory(url: str) -> Refusal:
    import redis

    client = redis.Redis.from_url(url)
    return Refusal(
        url,
        lambda: client.config_set("maxmemory", 1),
        lambda: client.config_set("maxmemory", 0),
        client.flushall,
    )


def redis_replica(url: str) -> Refusal:
    import redis

    client = redis.Redis.from_url(url)
    return Refusal(
        url, lambda: client.replicaof("127.0.0.1", 1), lambda: client.replicaof("NO", "ONE"), client.flushall
    )


def postgres_execute(url: str, *statements: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


def drop_tables(url: str) -> None:
    tables = "chatmem_schema, chatmem_sessions, chatmem_names, chatmem_records"
    postgres_execute(url, f"DROP TABLE IF EXISTS {tables}")


def postgres_read_only(url: str) -> Refusal:
    import psycopg

    def read_only(value: str) -> None:
        postgres_execute(
            url,
            "SET default_transaction_read_only = off",
            f"ALTER SYSTEM SET default_transaction_read_only = {value}",
            "SELECT pg_reload_conf()",
        )
        wait_until(lambda: current_value() == value)

    def current_value() -> str:
        with psycopg.connect(url) as connection:
            return str(connection.execute("SHOW default_transaction_read_only").fetchall()[0][0])

    return Refusal(url, lambda: read_only("on"), lambda: read_only("off"), lambda: drop_tables(url))


def postgres_disk_full(url: str) -> Refusal:
    """Takes leases, but stores no records."""
    refuse = (
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON chatmem_records FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    accept = "DROP TRIGGER IF EXISTS refuse ON chatmem_records"
    return Refusal(
        url, lambda: postgres_execute(url, *refuse), lambda: postgres_execute(url, accept), lambda: drop_tables(url)
    )


def sqlite_full(url: str) -> Refusal:
    def execute(statement: str) -> None:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute(statement)

    refuse = (
        "CREATE TRIGGER refuse BEFORE INSERT ON chatmem_records "
        "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    return Refusal(url, lambda: execute(refuse), lambda: execute("DROP TRIGGER IF EXISTS refuse"), lambda: None)


REFUSALS: dict[str, tuple[str, Callable[[str], Refusal]]] = {
    "redis out of memory": ("redis", redis_out_of_memory),
    "redis replica": ("redis", redis_replica),
    "postgresql read-only": ("postgresql", postgres_read_only),
    "postgresql disk full": ("postgresql", postgres_disk_full),
    "sqlite full": ("sqlite", sqlite_full),
}


@pytest.fixture(scope="session")
def own_databases() -> Iterator[Databases]:
    """Servers that only the tests of this module use."""
    running = Databases()
    yield running
    running.close()


@pytest.fixture(params=REFUSALS)
def database(request: pytest.FixtureRequest, own_databases: Databases, tmp_path: Path) -> Iterator[Refusal]:
    """An empty database, which accepts writes at first."""
    scheme, make = REFUSALS[request.param]
    refusal = make(own_databases.url(scheme, tmp_path))
    yield refusal
    refusal.accept()
    refusal.clear()


def assert_nothing_lost(url: str, data: Path, questions: list[str]) -> None:
    """The questions are stored in their order, each once, with replies and without a parent that does not exist."""
    records = open_store(url, data).records("work")
    ids = [r["id"] for r in records if r["type"] == "message"]
    assert len(set(ids)) == len(ids)
    assert all(r["parent"] is None or r["parent"] in ids for r in records if r["type"] == "message")
    path = Session.replay("work", records).path
    assert [m.content for m in path if m.role == "user"] == questions
    assert all(path[i + 1].role == "assistant" for i, m in enumerate(path) if m.role == "user")


@pytest.mark.parametrize("end", ["killed in the middle of a reply", "ended in order"])
def test_a_refused_question_is_on_disk_before_it_is_sent_and_stored_once_when_the_database_accepts_it(
    database: Refusal, end: str, run: Run, server: Server, home: Path
) -> None:
    on_disk, may_end = list[str](), threading.Event()

    def answer(request: Any, connection: Any) -> None:
        on_disk.extend(path.read_text() for path in (home / "data").rglob("databases/**/*.jsonl"))
        connection.sendall(OK + delta("What arrived. "))
        if end == "ended in order":
            connection.sendall(stream("And the rest.").removeprefix(OK))
        may_end.set()
        threading.Event().wait(0 if end == "ended in order" else 5)

    assert run("ask", "-s", "work", "--store", database.url, "one").returncode == 0
    database.refuse()
    server.answers = [answer]
    command = [sys.executable, "-m", "chatmem", "chat", "-s", "work", "--store", database.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as client:
        assert client.stdin and client.stdout and client.stderr
        client.stdin.write(b"two\n")
        client.stdin.flush()
        assert may_end.wait(60)
        if end == "ended in order":
            _, stderr = client.communicate(timeout=30)
            assert client.returncode == 0 and b"Saving to" in stderr and stderr.count(b"\n") == 1, stderr
        else:
            client.stdout.read(5)
            client.kill()
    assert len(on_disk) == 1 and '"content":"two"' in on_disk[0].replace(": ", ":")
    shown = json.loads(run("sessions", "show", "work", "--json", "--store", database.url).stdout)
    assert [m["content"] for m in shown["messages"] if m["role"] == "user"] == ["one", "two"]
    database.accept()
    done = run("ask", "-s", "work", "--store", database.url, "three")
    assert done.returncode == 0 and "Moved" in done.stderr, done.stderr
    assert_nothing_lost(database.url, home / "another machine", ["one", "two", "three"])
    assert not list((home / "data").rglob("databases/**/*.jsonl"))


def test_a_chat_continues_while_its_database_refuses_and_stores_everything_once_it_accepts(
    database: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)  # only turns try again
    notices = Notices()
    chat = chat_on(open_store(database.url, tmp_path, "", notices), "work", notices)
    ask(chat, "one")
    database.refuse()
    ask(chat, "two")
    ask(chat, "three")
    chat.update_settings(title="kept as well")
    assert chat.save_error is None and sum("Saving to" in notice for notice in notices) == 1
    database.accept()
    ask(chat, "four")
    chat.close()
    assert_nothing_lost(database.url, tmp_path / "elsewhere", ["one", "two", "three", "four"])
    assert open_store(database.url, tmp_path / "elsewhere").session("work").title == "kept as well"
    assert chat.session.title == "kept as well" and len(chat.session.path) == 8


def test_a_reply_is_kept_if_the_database_begins_to_refuse_while_it_arrives(database: Refusal, tmp_path: Path) -> None:
    chat = chat_on(open_store(database.url, tmp_path, ""), "work")
    ask(chat, "one")
    pieces = chat.send("two")
    next(pieces)
    database.refuse()
    list(pieces)
    assert chat.save_error is None
    chat.close()
    assert len(texts(open_store(database.url, tmp_path, ""), "work")) == 4
    database.accept()
    chat = chat_on(open_store(database.url, tmp_path, ""), "work")
    ask(chat, "three")
    chat.close()
    assert_nothing_lost(database.url, tmp_path / "elsewhere", ["one", "two", "three"])


def test_a_session_that_is_created_while_its_database_refuses_is_stored_later(
    database: Refusal, tmp_path: Path
) -> None:
    ask(chat_on(open_store(database.url, tmp_path, ""), "other"), "so that the tables exist")
    database.refuse()
    chat = chat_on(open_store(database.url, tmp_path, ""), "work")
    ask(chat, "one")
    chat.close()
    assert set(open_store(database.url, tmp_path).names()) == {"other", "work"}
    database.accept()
    chat = chat_on(open_store(database.url, tmp_path, ""), "work")
    ask(chat, "two")
    chat.close()
    assert_nothing_lost(database.url, tmp_path / "elsewhere", ["one", "two"])


def test_a_question_is_not_sent_if_the_outbox_cannot_be_written_either(
    database: Refusal, run: Run, server: Server, home: Path
) -> None:
    assert run("ask", "-s", "work", "--store", database.url, "one").returncode == 0
    database.refuse()
    for path in (home / "data").iterdir():
        if path.name == "databases":
            path.rename(home / "elsewhere")
    (home / "data" / "databases").write_text("a file in the way")
    done = run("ask", "-s", "work", "--store", database.url, "two")
    assert done.returncode == 7 and done.stdout == "" and len(server.chats) == 1
    assert done.stderr.count("\n") == 1 and "Nothing was sent." in done.stderr, done.stderr


def test_a_database_number_that_does_not_exist_loses_nothing(run: Run, home: Path) -> None:
    start, url = SERVERS["redis"]
    pytest.importorskip("redis")
    with start() as server:
        store = url.format(port=server.port).replace("/0", "/77")
        for question in ("one", "two"):
            done = run("ask", "-s", "work", "--store", store, question, "-m", "offline")
            assert done.returncode == 0 and "Saving to" in done.stderr, done.stderr
        assert texts(open_store(store, home / "data"), "work")[::2] == ["one", "two"]


def test_a_lock_held_by_another_connection_is_named_and_stops_no_other_session(tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    start, url = SERVERS["postgresql"]
    notices = Notices()
    with start() as server:
        address = url.format(port=server.port)
        chat = chat_on(open_store(address, tmp_path, "", notices), "work")
        ask(chat, "one")
        with psycopg.connect(address) as half_dead:
            half_dead.execute("UPDATE chatmem_sessions SET last = last")
            ask(chat, "two")
            half_dead.rollback()
            half_dead.execute("SELECT 1 FROM chatmem_sessions WHERE false FOR UPDATE")
            ask(chat_on(open_store(address, tmp_path, ""), "other"), "not disturbed")
        assert len(notices) == 1 and "Another connection to" in notices[0] and "holds a lock" in notices[0]
        chat.close()
        chat = chat_on(open_store(address, tmp_path, ""), "work")
        ask(chat, "three")
        assert_nothing_lost(address, tmp_path / "elsewhere", ["one", "two", "three"])


def test_the_server_ends_connections_whose_client_is_gone(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    start, url = SERVERS["postgresql"]
    with start() as server:
        store = open_store(url.format(port=server.port), tmp_path, "")
        with store.database.session() as execute:  # type: ignore[attr-defined]
            names = ("idle_in_transaction_session_timeout", "tcp_keepalives_idle", "lock_timeout", "statement_timeout")
            assert [execute(f"SHOW {name}")[0][0][0] for name in names] == ["10s", "10", "3s", "4s"]
