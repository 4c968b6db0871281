"""PostgreSQL behind PgBouncer, with a standby that takes over, and in an encoding of bytes: real servers."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatmem.chat.chat import Chat
from chatmem.errors import StorageError, UsageError
from chatmem.history.session import Session
from chatmem.stores import open_store
from chatmem.stores.database import log as database_log
from chatmem.stores.database.postgres import PostgresDatabase
from chatmem.stores.database.postgres_connection import is_broken
from tests.conftest import RecordProperty, Run
from tests.databases import pgbouncer, postgres_with_standby, running_server
from tests.fakes import Notices
from tests.stores.test_databases import ask, chat_on, texts

pytestmark = pytest.mark.claim("database faults: turns lost, torn or repeated")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server that only these tests use."""
    with running_server("postgresql") as (_, url):
        yield url


def port_of(url: str) -> int:
    found = re.search(r":(\d+)/", url)
    assert found
    return int(found[1])


@pytest.mark.parametrize("mode", ["transaction", pytest.param("session", marks=pytest.mark.long)])
@pytest.mark.parametrize("settings", [[], ["ignore_startup_parameters = options,extra_float_digits"]])
def test_piped_chats_behind_a_pooler_keep_every_message(
    server: str, tmp_path: Path, mode: str, settings: list[str]
) -> None:
    """Two connections serve three processes, so that each of them meets what the others set or prepared."""
    with pgbouncer(port_of(server), mode, *settings) as url:
        turns = 8
        lines = "".join(f"line {n}\n" for n in range(turns)).encode()
        names = [f"{mode}{len(settings)}-{n}" for n in range(3 if mode == "transaction" else 2)]
        command = [sys.executable, "-m", "chatmem", "chat", "-m", "offline", "--store", url, "-s"]
        processes = [
            subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for name in names
        ]
        for process in processes:
            process.communicate(lines, timeout=60)
        assert [process.returncode for process in processes] == [0] * len(names)
        for name in names:
            session = Session.replay(name, open_store(url, tmp_path, "").records(name))
            assert [t.question.content for t in session.turns] == [f"line {n}" for n in range(turns)]
            assert len(session.messages) == 2 * turns


def settings_of(url: str) -> tuple[str, str, int]:
    """Two limits that hold in a transaction, and the number of statements that are prepared."""
    database = PostgresDatabase(url)
    try:
        for _ in range(8):
            database.rows("nobody")
        with database.session() as execute:
            rows, _ = execute(
                "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), "
                "(SELECT count(*) FROM pg_prepared_statements)"
            )
    finally:
        database.close()
    return rows[0]  # type: ignore[return-value]


def test_the_limits_hold_in_every_transaction_and_nothing_is_prepared_behind_a_pooler(server: str) -> None:
    direct = settings_of(server)
    assert direct[:2] == ("4s", "3s") and direct[2] > 0
    with pgbouncer(port_of(server)) as url:
        assert settings_of(url) == ("4s", "3s", 0)
        assert settings_of(f"{url}?pooled=1") == ("4s", "3s", 0)
        import psycopg

        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:  # gets the same connections
            for _ in range(4):
                assert other.execute("SHOW statement_timeout").fetchone() == ("0",)
    assert settings_of(f"{server}?pooled=1") == ("4s", "3s", 0)
    assert settings_of(f"{server}?pooled=0")[:2] == ("4s", "3s")
    with pytest.raises(UsageError, match="pooled"):
        PostgresDatabase(f"{server}?pooled=maybe")


def test_a_connection_with_a_high_descriptor_is_not_taken_to_be_cut(server: str) -> None:
    import resource

    import psycopg

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip("this system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    read, write = os.pipe()
    copies = [os.dup(read) for _ in range(1_100)]
    try:
        with psycopg.connect(server) as connection:
            assert connection.fileno() >= 1024 and not is_broken(connection)
            connection.pgconn.finish()
            assert is_broken(connection)
    finally:
        for descriptor in (read, write, *copies):
            os.close(descriptor)


def test_an_option_that_the_pooler_or_the_driver_does_not_take_is_named(server: str) -> None:
    with pgbouncer(port_of(server)) as url, pytest.raises(UsageError, match="refuses an option"):
        PostgresDatabase(f"{url}?options=-c%20search_path=foo").rows("nobody")
    for option in ("prepare_threshold=x", "row_factory=x", "context=x", "nonsense=1"):
        with pytest.raises(UsageError, match="option"):
            PostgresDatabase(f"{server}?{option}").rows("nobody")


def test_a_lock_is_named_behind_a_pooler_too(server: str, tmp_path: Path) -> None:
    import psycopg

    with pgbouncer(port_of(server)) as url:
        chat = chat_on(open_store(url, tmp_path, ""), "locked")
        ask(chat, "one")
        chat.close()
        with psycopg.connect(server) as other:
            other.execute("SELECT 1 FROM chatmem_sessions FOR UPDATE")
            database = PostgresDatabase(url)
            (row,) = database.rows("", "locked") or database.rows("", session=None)[:1]
            with pytest.raises(StorageError, match="holds a lock"):
                database.lock(row.id, "someone")
            database.close()


def test_a_database_in_sql_ascii_holds_any_text(server: str, tmp_path: Path, run: Run) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bytes ENCODING SQL_ASCII TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = server.replace("/postgres", "/bytes")
    text = "Zürich, 東京, Москва 🙂"
    done = run("ask", "-m", "offline", "-s", "Grüße", "--store", url, text)
    assert done.returncode == 0, done.stderr
    assert text in run("sessions", "show", "Grüße", "--store", url).stdout
    assert "Grüße" in run("sessions", "list", "--store", url).stdout
    assert texts(open_store(url, tmp_path, ""), "grüße")[0] == text


@pytest.mark.long
@pytest.mark.timeout(600)
def test_3_promotions_of_a_standby_lose_and_double_nothing(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    """What the primary acknowledged is on the standby. The rest is in the outbox, and is moved once."""
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 0.5)
    record_property("cases", 3)
    for number in range(3):
        with postgres_with_standby() as (primary, promote, url):
            directory, notices, sent = tmp_path / str(number), Notices(), list[str]()
            chat = chat_on(open_store(url, directory, "", notices), "work", notices)

            def turns(count: int, when: str, chat: Chat = chat, sent: list[str] = sent) -> None:
                for turn in range(count):
                    ask(chat, text := f"{when}, turn {turn}")
                    sent.append(text)

            turns(3, "before")
            killer = threading.Timer(rng.random() * 0.05, primary.kill)
            killer.start()
            turns(4, "around")
            killer.join()
            turns(2, "between")
            promote()
            for last in range(200):
                turns(1, f"after {last}")
                if not list(directory.rglob("*.jsonl")):
                    break
            chat.close()
            session = open_store(url, directory, "").session("work")
            assert [turn.question.content for turn in session.turns if turn.reply] == sent
            assert len(session.messages) == len(session.path) == 2 * len(sent)
            assert len([text for text in notices if "unreachable" in text]) == 1, "one notice"
