"""Sessions in databases: real servers, several users, several processes, killed clients."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.errors import (
    Notify,
    SessionLockedError,
    SessionNotFoundError,
    StorageError,
    StoreUnavailableError,
    UsageError,
    ignore_notices,
)
from chatmem.history.records import header, new_id, utc_now
from chatmem.history.session import Session
from chatmem.memory.strategies.buffer import BufferStrategy
from chatmem.migrate import copy_session
from chatmem.models.offline import OfflineModel
from chatmem.stores import SessionStore, open_store
from chatmem.stores.database import log as database_log
from chatmem.stores.database import remote_log
from chatmem.stores.database.address import Address, redact_url
from chatmem.stores.database.sql import SqlDatabase
from chatmem.stores.database.sqlite import is_network_file
from chatmem.stores.database.store import DatabaseStore
from chatmem.text import redact
from chatmem.tokens.counter import counter_for_model
from tests.conftest import Run
from tests.databases import SCHEMES, Databases
from tests.fakes import Notices, wait_until
from tests.server import OK, Server, delta

pytestmark = pytest.mark.claim("database faults: turns lost, torn or repeated")

As = Callable[..., SessionStore]


@pytest.fixture(params=["file", *SCHEMES])
def as_user(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> As:
    """Opens one store as different users."""
    url = databases.url(request.param, tmp_path) if request.param in SCHEMES else request.param
    unique = new_id()

    def as_user(name: str) -> SessionStore:
        return open_store(url, tmp_path, f"{name}-{unique}")

    return as_user


def question(text: str, parent: str | None = None, role: str = "user") -> dict[str, Any]:
    return {"type": "message", "id": new_id(), "parent": parent, "role": role, "content": text, "time": utc_now()}


def texts(store: SessionStore, name: str) -> list[str]:
    return [r["content"] for r in store.records(name) if r["type"] == "message"]


def chat_on(store: SessionStore, name: str, notify: Notify = ignore_notices, wait: bool = True) -> Chat:
    return Chat(
        store,
        name,
        lambda settings: TurnConfig(OfflineModel(), BufferStrategy(), lambda model: counter_for_model("offline", [])),
        notify,
        wait,
    )


def ask(chat: Chat, text: str) -> str:
    return "".join(piece.text for piece in chat.send(text))


# Users


def test_users_see_only_their_own_sessions(as_user: As) -> None:
    as_user("ann").open("diary", [header("diary"), question("secret")]).close()
    with pytest.raises(SessionNotFoundError) as caught:
        as_user("bob").find("diary")
    assert "diary" not in caught.value.hint and as_user("bob").names() == []
    as_user("bob").open("Diary", [header("Diary")]).close()  # the same name is free for another user
    assert texts(as_user("ann"), "diary") == ["secret"]


def test_a_shared_session_is_read_and_written_by_both_users_and_no_one_else(as_user: As) -> None:
    ann, bob = as_user("ann"), as_user("bob")
    ann.open("plan", [header("plan"), question("from ann")]).close()
    assert ann.share("plan", bob.user) == "plan"  # type: ignore[attr-defined]
    log = as_user("bob").open("plan")
    with log.exclusive():
        log.read()
        log.append([question("from bob")])
    log.close()
    assert texts(as_user("ann"), "plan") == texts(as_user("bob"), "plan") == ["from ann", "from bob"]
    (info,) = as_user("bob").list_sessions()
    assert info.owner == ann.user and as_user("ann").list_sessions()[0].owner is None  # type: ignore[attr-defined]
    assert as_user("eve").names() == []


def test_users_of_a_shared_session_wait_for_one_another(as_user: As) -> None:
    ann, bob = as_user("ann"), as_user("bob")
    ann.open("plan", [header("plan")]).close()
    ann.share("plan", bob.user)  # type: ignore[attr-defined]
    with ann.open("plan").exclusive(), pytest.raises(SessionLockedError), bob.open("plan").exclusive(wait=False):
        pass


def test_a_shared_name_that_is_taken_gets_a_number_and_each_user_renames_only_their_own(as_user: As) -> None:
    ann, bob = as_user("ann"), as_user("bob")
    bob.open("plan", [header("plan"), question("bob's own")]).close()
    ann.open("plan", [header("plan"), question("ann's")]).close()
    called = ann.share("plan", bob.user)  # type: ignore[attr-defined]
    assert called == "plan-2" and texts(bob, "plan-2") == ["ann's"] and texts(bob, "plan") == ["bob's own"]
    as_user("bob").rename("plan-2", "hers")
    as_user("ann").rename("plan", "mine")
    assert texts(as_user("bob"), "hers") == texts(as_user("ann"), "mine") == ["ann's"]
    as_user("bob").delete("hers")
    assert as_user("bob").names() == ["plan"] and as_user("ann").names() == ["mine"]


def test_a_session_that_its_owner_deletes_is_no_longer_shared(as_user: As) -> None:
    ann, bob = as_user("ann"), as_user("bob")
    ann.open("plan", [header("plan"), question("old")]).close()
    ann.share("plan", bob.user)  # type: ignore[attr-defined]
    ann.delete("plan")
    ann.open("plan", [header("plan"), question("private")]).close()
    assert as_user("bob").names() == []


def test_a_session_deleted_during_a_chat_is_saved_again(as_user: As) -> None:
    chat = chat_on(as_user("ann"), "work")
    ask(chat, "one")
    as_user("ann").delete("work")
    ask(chat, "two")
    chat.close()
    assert texts(as_user("ann"), "work")[::2] == ["one", "two"]


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_session_erased_during_a_chat_is_started_again(kind: str, tmp_path: Path, databases: Databases) -> None:
    url, user, notices = databases.url(kind, tmp_path), new_id(), Notices()
    chat = chat_on(open_store(url, tmp_path, user, notices), "work")
    ask(chat, "one")
    open_store(url, tmp_path, user).delete("work", purge=True)
    ask(chat, "two")
    records = open_store(url, tmp_path, user).records("work")
    assert records[0]["type"] == "session" and records[1]["content"] == "two"
    assert any("started again" in notice for notice in notices)


def test_a_rename_and_a_deletion_elsewhere_are_followed_with_a_notice(tmp_path: Path) -> None:
    url, notices = f"sqlite:///{tmp_path}/chats.db", Notices()
    chat, other = chat_on(open_store(url, tmp_path, "", notices), "work"), open_store(url, tmp_path, "")
    ask(chat, "one")
    other.rename("work", "renamed")
    ask(chat, "two")
    assert notices == ["Session 'work' was renamed to 'renamed'."] and chat.name == "renamed"
    other.delete("renamed")
    ask(chat, "three")
    assert notices[1:] == ["Session 'renamed' was deleted elsewhere; saved again as 'renamed'."]
    other.delete("renamed")
    other.open("renamed", [header("renamed"), question("another session")]).close()
    ask(chat, "four")
    assert notices[2:] == ["Session 'renamed' was deleted elsewhere; saved again as 'renamed-2'."]
    chat.close()
    assert texts(other, "renamed") == ["another session"]
    assert texts(other, "renamed-2")[::2] == ["one", "two", "three", "four"]


def test_a_chat_on_a_database_has_the_header_of_its_session_and_leaves_no_draft(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path, "")
    ask(chat_on(store, "work"), "one")
    chat = chat_on(store, "work")
    assert chat.session.id == store.records("work")[0]["id"]
    ask(chat, "two")
    assert not list(tmp_path.rglob("*.partial"))
    wait_until(lambda: not any(thread.name == "lease" for thread in threading.enumerate()), 4)


def test_a_process_that_waits_for_a_session_says_so_once_and_asks_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, notices, pauses = f"sqlite:///{tmp_path}/chats.db", Notices(), list[float]()
    open_store(url, tmp_path, "").open("work", [header("work")]).close()
    held = contextlib.ExitStack()
    held.enter_context(open_store(url, tmp_path / "another machine", "").open("work").exclusive())

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 30:
            held.close()

    monkeypatch.setattr("chatmem.stores.database.remote_log.time.sleep", sleep)
    with open_store(url, tmp_path, "", notices).open("work").exclusive():
        pass
    assert notices == ["Session 'work' is in use. Waiting for its turn to end (Ctrl-C cancels)."]
    assert len(pauses) == 30 and pauses == sorted(pauses) and pauses[0] <= 0.01 and pauses[-1] == 0.25


def test_a_message_with_an_id_that_exists_is_stored_as_another_one(tmp_path: Path) -> None:
    store, record = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path, ""), question("again")
    log = store.open("work", [header("work"), record])
    with log.exclusive():
        log.read()
        log.append([record])
        log.append([record])
    assert texts(store, "work") == ["again"] * 3


# Several writers

TURN_WRITER = """
import sys
from pathlib import Path
from chatmem.stores import open_store
from chatmem.history.records import new_id, utc_now
url, data, user, who, turns = sys.argv[1:]
log = open_store(url, Path(data), user).open("work")
for n in range(int(turns)):
    with log.exclusive():
        log.read()
        for word in ("asks", "answers"):
            log.append([{"type": "message", "id": new_id(), "parent": None, "role": "user",
                         "content": f"{who} {n} {word}", "time": utc_now()}])
"""


def run_processes(url: str, directory: Path, user: str, processes: int, turns: int) -> list[str]:
    open_store(url, directory, user).open("work", [header("work")]).close()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TURN_WRITER, url, str(directory / f"machine{n}"), user, str(n), str(turns)]
        )
        for n in range(processes)
    ]
    assert [one.wait(240) for one in running] == [0] * processes
    return texts(open_store(url, directory, user), "work")


def assert_pairs(stored: list[str], processes: int, turns: int) -> None:
    assert len(stored) == 2 * processes * turns
    for asks, answers in zip(stored[::2], stored[1::2], strict=True):
        assert answers == asks.replace("asks", "answers")
    for who in range(processes):
        assert [t for t in stored if t.startswith(f"{who} ") and "asks" in t] == [
            f"{who} {n} asks" for n in range(turns)
        ]


@pytest.mark.parametrize("kind", SCHEMES)
def test_four_processes_neither_lose_nor_interleave_turns(kind: str, tmp_path: Path, databases: Databases) -> None:
    assert_pairs(run_processes(databases.url(kind, tmp_path), tmp_path, new_id(), 4, 25), 4, 25)


@pytest.mark.long
@pytest.mark.parametrize("kind", SCHEMES)
def test_four_processes_with_a_hundred_turns_each_neither_lose_nor_interleave_turns(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    assert_pairs(run_processes(databases.url(kind, tmp_path), tmp_path, new_id(), 4, 100), 4, 100)


LOCK_HOLDER = """
import sys, time
from pathlib import Path
from importlib import import_module
from chatmem.stores import DATABASES, open_store
url, data, user = sys.argv[1:]
import_module(DATABASES[url.partition(":")[0]].module)
for name, module in list(sys.modules.items()):
    if name.startswith("chatmem.stores.database") and hasattr(module, "LEASE_SECONDS"):
        module.LEASE_SECONDS = 1.0
log = open_store(url, Path(data), user).open("work")
with log.exclusive():
    log.read()
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_lease_of_a_killed_process_expires(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    open_store(url, tmp_path, user).open("work", [header("work")]).close()
    holder = subprocess.Popen([sys.executable, "-c", LOCK_HOLDER, url, str(tmp_path), user], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline() == b"held\n"
    with pytest.raises(SessionLockedError), open_store(url, tmp_path, user).open("work").exclusive(wait=False):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with open_store(url, tmp_path, user).open("work").exclusive():  # waits for the lease to expire
        pass


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_running_process_renews_its_lease(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = threading.Event()
    monkeypatch.setattr(remote_log, "LEASE_SECONDS", 0.03)
    url, user = databases.url(kind, tmp_path), new_id()
    store = open_store(url, tmp_path, user)
    store.open("work", [header("work")]).close()
    lock, holders = store.database.lock, list[str]()  # type: ignore[attr-defined]

    def count_calls(session: str, holder: str) -> bool | None:
        holders.append(holder)
        if holders.count(holder) > 3:
            renewed.set()
        return lock(session, holder)  # type: ignore[no-any-return]

    monkeypatch.setattr(store.database, "lock", count_calls)  # type: ignore[attr-defined]
    with store.open("work").exclusive():
        assert renewed.wait(10)


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_process_that_lost_its_lease_cannot_append(kind: str, tmp_path: Path, databases: Databases) -> None:
    store = open_store(databases.url(kind, tmp_path), tmp_path, new_id())
    store.open("work", [header("work")]).close()
    database, session = store.database, store.catalog.row("work").id  # type: ignore[attr-defined]
    assert database.lock(session, "one") and not database.lock(session, "two")
    database.unlock(session, "one")
    assert database.lock(session, "two")
    assert database.append(session, "one", [("x", "{}")]) is None
    assert database.append(session, "two", [("x", "{}")]) == 2
    assert [line for _, line in database.read(session, 1)] == ["{}"]


def test_an_insert_that_fails_half_way_stores_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path, "")
    store.open("work", [header("work")]).close()
    with sqlite3.connect(tmp_path / "chats.db") as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON chatmem_records WHEN NEW.record LIKE '%refused%' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    log = store.open("work")
    with log.exclusive():
        log.read()
        log.append([question("one"), question("refused")])
    assert log.unavailable
    log.close()
    with sqlite3.connect(tmp_path / "chats.db") as database:
        assert database.execute("SELECT COUNT(*) FROM chatmem_records").fetchone() == (1,)
    assert texts(store, "work") == ["one", "refused"], "both are in the outbox"


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_repeated_append_is_stored_once(kind: str, tmp_path: Path, databases: Databases) -> None:
    store = open_store(databases.url(kind, tmp_path), tmp_path, new_id())
    store.open("work", [header("work")]).close()
    database, session = store.database, store.catalog.row("work").id  # type: ignore[attr-defined]
    database.lock(session, "me")
    for _ in range(3):
        database.append(session, "me", [("a", '{"n":1}'), ("b", '{"n":2}')])
    database.append(session, "me", [("b", '{"n":2}'), ("c", '{"n":3}')])
    assert [json.loads(line).get("n") for _, line in database.read(session, 1)] == [1, 2, 3]


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_client_killed_in_the_middle_of_a_reply_loses_nothing(
    kind: str, tmp_path: Path, databases: Databases, server: Server
) -> None:
    arrived = threading.Event()

    def answer(request: Any, connection: Any) -> None:
        connection.sendall(OK + delta("What arrived. "))
        arrived.set()
        threading.Event().wait(5)

    server.answers = [answer]
    url = databases.url(kind, tmp_path)
    user = new_id()
    command = [sys.executable, "-m", "chatmem", "chat", "-s", "t", "--store", url, "--user", user]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
    assert client.stdin and client.stdout
    client.stdin.write(b"a question\n")
    client.stdin.flush()
    assert arrived.wait(20)
    client.stdout.read(5)
    client.kill()
    client.wait()
    client.stdin.close()
    client.stdout.close()
    store = open_store(url, tmp_path / "data", user)
    assert texts(store, "t") == ["a question", "What arrived. "]
    session = Session.replay("t", store.records("t"))
    assert session.path[-1].status == "interrupted"


SLOW_WRITER = """
import sys
from pathlib import Path
from chatmem.stores import open_store
from chatmem.history.records import new_id, utc_now
url, data, user = sys.argv[1:]
log = open_store(url, Path(data), user).open("work")
with log.exclusive():
    log.read()
    reply = {"type": "message", "id": new_id(), "parent": None, "role": "assistant", "content": "", "time": utc_now()}
    add = log.open_draft(reply)
    add("the first half")
    print("half", flush=True)
    sys.stdin.readline()
    log.append([reply | {"content": "the first half and the rest", "status": "complete"}])
    log.close_draft()
"""


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_draft_of_a_process_that_is_suspended_is_left_to_it(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    store = open_store(url, tmp_path, user)
    store.open("work", [header("work")]).close()
    command = [sys.executable, "-c", SLOW_WRITER, url, str(tmp_path), user]
    one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert one.stdin and one.stdout and one.stdout.readline() == b"half\n"
    with pytest.raises(SessionLockedError), store.open("work").exclusive(wait=False):  # even if its lease had run out
        pass
    one.communicate(b"\n")
    assert texts(open_store(url, tmp_path, user), "work") == ["the first half and the rest"]


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_session_of_many_records_is_created_completely_or_not_at_all(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    store, records = open_store(url, tmp_path, user), [header("big"), *(question(f"{n}") for n in range(2500))]
    append, calls = store.database.append, list[int]()  # type: ignore[attr-defined]

    def fail_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return append(*arguments)

    monkeypatch.setattr(store.database, "append", fail_second)  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        store.open("big", records)
    assert open_store(url, tmp_path, user).names() == []
    open_store(url, tmp_path, user).open("big", records).close()
    assert open_store(url, tmp_path, user).records("big") == records


def test_a_damaged_row_is_counted_and_the_rest_is_read(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chats.db"
    for name in ("one", "two"):
        run("ask", "hello", "-s", name, "-m", "offline", "--store", url)
    with sqlite3.connect(tmp_path / "chats.db") as database:
        database.execute("UPDATE chatmem_records SET record = '{bad' WHERE number = 3")
    assert "one" in run("sessions", "list", "--store", url).stdout
    assert run("sessions", "check", "one", "--store", url).returncode == 7
    assert "hello" in run("sessions", "show", "one", "--store", url).stdout


def test_a_role_that_may_not_create_tables_uses_existing_ones(databases: Databases, tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    url = databases.url("postgresql", tmp_path)
    open_store(url, tmp_path, new_id()).names()
    role = f"plain_{new_id()}"
    with psycopg.connect(url) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    plain = open_store(url.replace("chatmem@", f"{role}@"), tmp_path, new_id())
    plain.open("work", [header("work"), question("hi")]).close()
    assert texts(plain, "work") == ["hi"]


def test_a_database_or_role_that_does_not_exist_is_a_usage_error(databases: Databases, tmp_path: Path) -> None:
    url = databases.url("postgresql", tmp_path)
    for wrong in (url.replace("/postgres", "/nosuch"), url.replace("chatmem@", "nobody@"), f"{url}?sslmode=require"):
        with pytest.raises(UsageError):
            open_store(wrong, tmp_path, "").names()


def test_a_deleted_session_is_kept_for_a_month_whatever_its_age(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path, "")
    for name in ("old", "older"):
        store.open(name, [header(name), question("hi")]).close()
    for name, left in (("old", 2), ("older", 1)):
        with sqlite3.connect(tmp_path / "chats.db") as database:
            database.execute("UPDATE chatmem_sessions SET changed = changed - 40 * 86400")
        store.delete(name)
        with sqlite3.connect(tmp_path / "chats.db") as database:
            held = "SELECT COUNT(DISTINCT session) FROM chatmem_records WHERE number > 1"  # one record marks a deletion
            assert database.execute(held).fetchone() == (left,)
    assert [entry.name for entry in store.trash()] == ["older"]


def test_a_session_that_is_being_restored_is_not_removed_for_its_age(databases: Databases, tmp_path: Path) -> None:
    for scheme in ("sqlite", "postgresql"):
        store = open_store(databases.url(scheme, tmp_path), tmp_path, new_id())
        assert isinstance(store, DatabaseStore) and isinstance(store.database, SqlDatabase)
        begin_and_delete(store, "held", "left")
        (held,) = (entry for entry in store.trash() if entry.name == "held")
        with store._trash._lease(held):
            with store.database.session() as execute:
                execute("UPDATE chatmem_sessions SET changed = changed - 40 * 86400")
            store.database._sweep()
        assert [entry.name for entry in store.trash()] == ["held"]
        assert store.restore("held") == "held" and texts(store, "held") == ["hi"]


def begin_and_delete(store: SessionStore, *names: str) -> None:
    for name in names:
        store.open(name, [header(name), question("hi")]).close()
        store.delete(name)


def test_completion_lists_the_sessions_of_the_given_user(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from chatmem.app import App
    from chatmem.cli.options import session_names

    url = f"sqlite:///{tmp_path}/chats.db"
    for user in ("", "bob"):
        App({"store": url, "user": user}).store.open(f"of {user or 'nobody'}", [header("x")]).close()
    context: Any = SimpleNamespace(params={"store": url, "user": "bob"})
    assert [name for name, _ in session_names(context, "of")] == ["of bob"]


# Addresses


SECRET = "h0rse-battery"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/x",
        f"postgresql://u:{SECRET}@127.0.0.1:notaport/x",
        f"postgresql://u:{SECRET}@127.0.0.1:99999999/x",
        f"postgresql://u:{SECRET}@[::1/x",
        f"postgresql://u:{SECRET}@127.0.0.1:1/x?no_such_option=1",
        f"postgresql://127.0.0.1:1/x?password={SECRET}&sslmode=nonsense",
        f"postgresql://u:{SECRET}/slash@127.0.0.1:1/x",
        f"redis://:{SECRET}@127.0.0.1:1/0",
        f"redis://:{SECRET}@127.0.0.1:1/nonsense",
        f"redis://:{SECRET}@127.0.0.1:1/0?socket_timeout=x",
        f"rediss://:{SECRET}@127.0.0.1:1/0",
        f"mongodb://u:{SECRET}@127.0.0.1:1/x?bogus=%",
        f"mongodb://u:{SECRET}@:::/x",
        f"nosuch://u:{SECRET}@host/x",
        f"sqlite://u:{SECRET}@host/x",
        f"redis:/:{SECRET}@127.0.0.1:1/0",
        f"redis:u:{SECRET}@127.0.0.1:1/0",
        f"postgresql:/u:{SECRET}@127.0.0.1:1/0",
    ],
)
def test_no_message_shows_a_password(run: Run, url: str) -> None:
    done = run("sessions", "list", "--store", url)
    assert SECRET not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert SECRET not in redact_url(url)


@pytest.mark.parametrize("scheme", ["postgresql", "redis", "mongodb", "sqlite"])
@pytest.mark.parametrize("command", [["ask", "hi", "-s", "t", "-m", "offline"], ["config", "show", "--debug"]])
def test_no_command_shows_a_password(run: Run, scheme: str, command: list[str]) -> None:
    done = run(*command, "--store", f"{scheme}://u:{SECRET}@127.0.0.1:1/x")
    assert SECRET not in done.stdout + done.stderr and ("Traceback" in done.stderr) <= ("--debug" in command)


def test_an_address_is_parsed() -> None:
    one = Address.parse("postgresql://ann:p%40ss%2F@db1:5432,[::1]:6543/chats?sslmode=require")
    assert (one.user, one.password, one.path) == ("ann", "p@ss/", "chats") and one.query == {"sslmode": "require"}
    assert one.hosts == (("db1", "5432"), ("::1", "6543")) and one.is_remote and "p@ss" not in one.display_url
    assert not Address.parse("redis://127.0.0.1/0").is_remote and not Address.parse("postgresql:///x").is_remote


def test_the_secrets_of_an_address_are_redacted_wherever_they_are_quoted() -> None:
    Address.parse("postgresql://ann:p%40ssw0rd%2F@db1/chats?sslpassword=open+sesame")
    assert redact("p@ssw0rd/ or open sesame is wrong") == "… or … is wrong"


def test_records_that_are_stored_although_the_append_failed_later_are_not_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path)
    log = store.open("work", [header("work")])
    append = remote_log.RemoteLog.append_lines

    def fails_after_storing(self: Any, lines: Any) -> None:
        append(self, lines)
        raise StoreUnavailableError("cut")

    with log.exclusive():
        log.read()
        monkeypatch.setattr(remote_log.RemoteLog, "append_lines", fails_after_storing)
        log.append([{"type": "settings", "title": "New"}, question("one")])
        monkeypatch.undo()
    with log.exclusive():
        log.read()
    log.close()
    assert [record["type"] for record in store.records("work")] == ["session", "settings", "message"]


def test_a_record_that_was_stored_already_does_not_make_the_next_one_late(tmp_path: Path) -> None:
    notices = Notices()
    store = open_store(f"sqlite:///{tmp_path}/chats.db", tmp_path, "", notices)
    log = store.open("work", [header("work"), one := question("one")])
    with log.exclusive():
        log.read()
        ident = store.catalog.row("work").id  # type: ignore[attr-defined]
        holder = log._remote._holder  # type: ignore[attr-defined]
        lines = [(str(one["id"]), json.dumps(one))]
        assert store.database.append(ident, holder, lines)  # type: ignore[attr-defined]
        log.read()
        log.append([question("two", str(one["id"]))])
    assert texts(store, "work") == ["one", "two"] and notices == []


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("redis://db.example/0", True),
        ("rediss://db.example/0", False),
        ("redis://localhost/0", False),
        ("postgresql://db.example/x", True),
        ("postgresql://db.example/x?sslmode=verify-full", False),
        ("mongodb://db.example/x", True),
        ("mongodb://db.example/x?tls=true", False),
        ("mongodb+srv://db.example/x", False),
        ("mongodb://db.example/x?tls=TRUE", False),
        ("postgresql:///x?host=db.example", True),
        ("postgresql://localhost/x?hostaddr=10.1.2.3", True),
    ],
)
def test_a_remote_host_without_tls_causes_a_warning(url: str, warned: bool, tmp_path: Path) -> None:
    pytest.importorskip(
        {"redis": "redis", "rediss": "redis", "postgresql": "psycopg"}.get(url.partition(":")[0], "pymongo")
    )
    notices = Notices()
    open_store(url, tmp_path, "", notices)
    assert bool(notices) == warned


def test_a_missing_driver_is_named_with_its_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        open_store("postgresql://x/y", tmp_path)
    assert "pip install 'psycopg[binary]>=3.3'" in caught.value.hint


def test_sqlite_uses_no_shared_memory_on_a_network_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {tmp_path}/net nfs4 rw 0 0\n")
    assert is_network_file(tmp_path / "net" / "chats.db", mounts) and not is_network_file(tmp_path / "chats.db", mounts)


def test_a_sqlite_file_is_private_and_its_directory_must_exist(run: Run, tmp_path: Path) -> None:
    run("ask", "hi", "-s", "t", "-m", "offline", "--store", f"sqlite:///{tmp_path}/chats.db")
    assert (tmp_path / "chats.db").stat().st_mode & 0o777 == 0o600
    done = run("sessions", "list", "--store", "sqlite:///no/such/directory/chats.db")
    assert done.returncode == 2 and "four slashes" in done.stderr


# Expiry


def test_redis_expires_sessions_and_each_turn_postpones_it(tmp_path: Path, databases: Databases) -> None:
    redis = pytest.importorskip("redis")
    url, user = databases.url("redis", tmp_path), new_id()
    store = open_store(url, tmp_path, user, ttl=100)
    chat = chat_on(store, "work")
    ask(chat, "one")
    session = store.catalog.row("work").id  # type: ignore[attr-defined]
    client = redis.Redis.from_url(url)
    keys = [f"chatmem:{{{session}}}:{part}" for part in ("records", "ids", "session", "users")]
    for name in keys:
        client.expire(name, 5)
    ask(chat, "two")
    chat.close()
    assert all(client.ttl(name) > 90 for name in keys)
    for name in keys:
        client.pexpire(name, 1)
    wait_until(lambda: not client.exists(*keys))
    assert open_store(url, tmp_path, user).names() == []
    open_store(url, tmp_path, user).open("work", [header("work")]).close()


def test_a_use_without_expiry_removes_it(tmp_path: Path, databases: Databases) -> None:
    redis = pytest.importorskip("redis")
    url, user = databases.url("redis", tmp_path), new_id()
    store = open_store(url, tmp_path, user, ttl=100)
    store.open("work", [header("work")]).close()
    name = f"chatmem:{{{store.catalog.row('work').id}}}:records"  # type: ignore[attr-defined]
    assert redis.Redis.from_url(url).ttl(name) > 0
    ask(chat_on(open_store(url, tmp_path, user), "work"), "one")
    assert redis.Redis.from_url(url).ttl(name) == -1


def test_expired_sessions_of_sql_stores_are_deleted_at_start(run: Run, tmp_path: Path, databases: Databases) -> None:
    for kind in ("sqlite", "postgresql"):
        url, user = databases.url(kind, tmp_path), new_id()
        store = open_store(url, tmp_path, user)
        old = question("long ago") | {"time": "2020-01-01T00:00:00.000Z"}
        store.open("old", [header("old") | {"created": "2020-01-01T00:00:00.000Z"}, old]).close()
        (tmp_path / "config.toml").write_text('discover = false\n[sessions]\nexpire = "30d"\n')
        run("chat", "-s", "new", "-m", "offline", "--store", url, "--user", user, input="hi\n")
        assert open_store(url, tmp_path, user).names() == ["new"]


# Copies


def store_varied_session(store: SessionStore, name: str) -> None:
    """A session with branches, summaries, marks and unusual characters."""
    first = question("eins \u2028 \x00 日本語 \ud83d")
    second = question("zwei", first["id"], "assistant") | {"status": "complete", "model": "m", "usage": {"prompt": 3}}
    third = question("drei", first["id"])
    part = {"type": "summary", "id": new_id(), "from": first["id"], "to": second["id"], "level": 0, "text": "notes"}
    rest: list[dict[str, Any]] = [
        {"type": "mark", "message": first["id"], "pinned": True},
        {"type": "head", "message": second["id"]},
    ]
    later: list[dict[str, Any]] = [{"type": "settings", "title": "t"}, {"type": "of the future", "x": [1, {"y": None}]}]
    odd = [question("odd") | {"id": ident} for ident in ("a\x00b", "a\ud83d", "a\ud83e", "x" * 5000)]
    twice = question("the same id again, far away") | {"id": first["id"]}
    many = [*odd, *(question(f"message {n}") for n in range(1200)), twice, question("rid") | {"rid": "theirs"}]
    store.open(name, [header(name), first, second, third, part, *rest, *rest, *later, *many]).close()


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_copy_is_lossless_in_both_directions_and_resumes(kind: str, tmp_path: Path, databases: Databases) -> None:
    here, user = open_store("file", tmp_path / "one"), new_id()
    there, back = open_store(databases.url(kind, tmp_path), tmp_path, user), open_store("file", tmp_path / "two")
    store_varied_session(here, "work")
    records = here.records("work")
    there.open("work", records[:700]).close()  # an earlier copy that was interrupted
    assert copy_session(here, there, "work") == len(records) - 700
    assert copy_session(here, there, "work") == 0 and there.records("work") == records
    copy_session(there, back, "work")
    assert back.records("work") == records
    files = [directory / "sessions" / "work.jsonl" for directory in (tmp_path / "one", tmp_path / "two")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_copy_never_overwrites_another_session(tmp_path: Path) -> None:
    one, two = open_store("file", tmp_path / "one"), open_store("file", tmp_path / "two")
    one.open("work", [header("work"), question("mine")]).close()
    two.open("work", [header("work"), question("another")]).close()
    with pytest.raises(UsageError):
        copy_session(one, two, "work")
    assert texts(two, "work") == ["another"]


def test_copying_sharing_and_listing_from_the_command_line(run: Run, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/chats.db"
    for name in ("one", "two"):
        run("ask", f"hello from {name}", "-s", name, "-m", "offline")
    done = run("sessions", "copy", "--from", "file", "--to", database, "--all")
    assert done.returncode == 0 and "Copied and verified 2 sessions" in done.stderr
    done = run("sessions", "share", "one", "--with", "bob", "--store", database)
    assert "chatmem chat --user bob -s one" in done.stderr
    listed = json.loads(run("sessions", "list", "--json", "--store", database, "--user", "bob").stdout)
    assert [(one["name"], one["owner"]) for one in listed] == [("one", "")]
    assert "shared" in run("sessions", "list", "--store", database, "--user", "bob").stdout
    assert "hello from one" in run("export", "one", "--store", database, "--user", "bob").stdout
    assert run("sessions", "search", "hello", "--store", database).stdout.count("hello from") == 4
    assert "separated, not authenticated" in run("sessions", "share", "--help").stdout


# A process that was suspended for longer than its lease lasts


def expire_lease(chat: Chat) -> None:
    """Take the lease away from a chat, as the database does after `LEASE_SECONDS` without renewal."""
    log = chat.journal._log
    log._remote.catalog.database.unlock(log._remote.ident, log._remote._holder)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_late_reply_is_stored_on_a_branch_and_the_newer_turn_stays(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    url, user, notices = databases.url(kind, tmp_path), new_id(), Notices()
    late = chat_on(open_store(url, tmp_path / "one machine", user, notices), "work", notices)
    ask(late, "one")
    pieces = late.send("asked before the process was suspended")
    next(pieces)
    expire_lease(late)
    other = chat_on(open_store(url, tmp_path / "another machine", user), "work")
    ask(other, "the newer turn")
    list(pieces)
    stored = open_store(url, tmp_path / "a third machine", user).session("work")
    assert stored.path[-2].content == "the newer turn" and stored.path[-1].role == "assistant"
    assert len(stored.messages) == 6 and {len(stored.children(m.id)) for m in stored.path} == {0, 1, 2}
    assert [n for n in notices if "on its own branch" in n] == [
        "Another process continued session 'work' in the meantime. This turn is on its own branch."
    ]
    assert late.save_error is None
    ask(late, "both go on")
    ask(other, "from the same end")
    path = open_store(url, tmp_path / "a third machine", user).session("work").path
    assert [m.content for m in path if m.role == "user"][-3:] == ["the newer turn", "both go on", "from the same end"]


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_late_reply_during_the_turn_of_another_process_is_kept_and_stored_later(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    url, user, notices = databases.url(kind, tmp_path), new_id(), Notices()
    late = chat_on(open_store(url, tmp_path / "one machine", user, notices), "work", notices)
    ask(late, "one")
    pieces = late.send("asked before the process was suspended")
    next(pieces)
    expire_lease(late)
    other = chat_on(open_store(url, tmp_path / "another machine", user), "work")
    newer = other.send("the newer turn")
    next(newer)
    list(pieces)
    assert late.save_error is None and len(list((tmp_path / "one machine").rglob("*.jsonl"))) == 1
    list(newer)
    ask(late, "two")
    stored = open_store(url, tmp_path / "a third machine", user).session("work")
    assert [m.content for m in stored.path if m.role == "user"][-2:] == ["the newer turn", "two"]
    assert len(stored.messages) == 8 and any("on its own branch" in notice for notice in notices)
    assert not list((tmp_path / "one machine").rglob("*.jsonl"))


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_lease_that_was_lost_and_regained_alone_changes_nothing(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    url, user, notices = databases.url(kind, tmp_path), new_id(), Notices()
    chat = chat_on(open_store(url, tmp_path, user, notices), "work", notices)
    ask(chat, "one")
    pieces = chat.send("two")
    next(pieces)
    expire_lease(chat)
    list(pieces)
    assert notices == [] and texts(open_store(url, tmp_path / "elsewhere", user), "work")[::2] == ["one", "two"]


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_lease_of_a_killed_process_is_taken_at_once_on_its_machine_and_nowhere_else(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    open_store(url, tmp_path / "here", user).open("work", [header("work")]).close()
    command = [sys.executable, "-c", SLOW_WRITER, url, str(tmp_path / "here"), user]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"half\n"
        process.kill()
    elsewhere = open_store(url, tmp_path / "elsewhere", user).open("work")
    with pytest.raises(SessionLockedError), elsewhere.exclusive(wait=False):
        pass
    with open_store(url, tmp_path / "here", user).open("work").exclusive(wait=False):
        pass
    with elsewhere.exclusive(wait=False):
        pass
    assert texts(open_store(url, tmp_path / "elsewhere", user), "work") == ["the first half"]


# A connection that is cut


@pytest.mark.parametrize("method", ["rows", "read", "lock", "append", "unlock"])
@pytest.mark.parametrize("call", range(1, 7))
def test_a_connection_that_is_cut_at_any_request_loses_no_question(
    method: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    url = f"sqlite:///{tmp_path}/chats.db"
    ask(chat_on(open_store(url, tmp_path, ""), "work"), "one")
    store, calls = open_store(url, tmp_path, ""), iter(range(1, 1000))
    request = getattr(store.database, method)  # type: ignore[attr-defined]

    def cut(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise StoreUnavailableError("The connection was cut.")
        return request(*arguments, **named)

    monkeypatch.setattr(store.database, method, cut)  # type: ignore[attr-defined]
    chat = chat_on(store, "work")
    for text in ("two", "three"):
        assert ask(chat, text)
    assert chat.save_error is None
    chat.close()
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "four")
    stored = open_store(url, tmp_path / "elsewhere", "").session("work")
    assert [m.content for m in stored.path if m.role == "user"] == ["one", "two", "three", "four"]
    assert len(stored.messages) == len(stored.path) == 8


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_reply_of_a_dead_process_does_not_replace_a_turn_that_another_machine_added_since(
    kind: str, tmp_path: Path, databases: Databases
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    chat = chat_on(open_store(url, tmp_path / "here", user), "work")
    ask(chat, "one")
    pieces = chat.send("asked before the process died")
    next(pieces)
    chat.journal._log.open_draft(question("", chat.session.head, "assistant"))("half a re")  # type: ignore[union-attr]
    expire_lease(chat)
    other = chat_on(open_store(url, tmp_path / "elsewhere", user), "work")
    ask(other, "the newer turn")
    directory = next((tmp_path / "here").rglob("*.partial")).parent
    for path in [*directory.iterdir()]:  # the process died: nothing of it holds a lock
        if path.suffix == ".turn":
            path.unlink()
    again = chat_on(open_store(url, tmp_path / "here", user), "work")
    ask(again, "two")
    stored = open_store(url, tmp_path / "a third machine", user).session("work")
    assert [m.content for m in stored.path if m.role == "user"][-2:] == ["the newer turn", "two"]
    assert any(m.status == "interrupted" for m in stored.messages.values())


@pytest.mark.parametrize("kind", ["file", *SCHEMES])
@pytest.mark.parametrize("content", [None, b"", b'{"type":"mess'], ids=["no piece", "nothing", "half a record"])
def test_a_reply_that_arrives_after_a_process_died_before_the_first_piece_of_its_own_survives_a_kill_too(
    kind: str, content: bytes | None, tmp_path: Path, databases: Databases
) -> None:
    url, user = databases.url(kind, tmp_path) if kind in SCHEMES else kind, new_id()
    store = open_store(url, tmp_path, user)
    chat = chat_on(store, "work")
    ask(chat, "one")
    chat.journal._log.open_draft(question("", chat.session.head, "assistant"))  # type: ignore[union-attr]
    if content is not None:
        next(tmp_path.rglob("*.partial")).write_bytes(content)
    log = open_store(url, tmp_path, user).open("work")
    with log.exclusive():
        log.open_draft(question("", chat.session.head, "assistant"))("half a re")
    assert texts(store, "work")[-1] == "half a re"


def test_the_draft_of_a_living_process_is_left_to_it_by_one_that_began_without_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 3600.0)
    url = f"sqlite:///{tmp_path}/chats.db"
    chat = chat_on(open_store(url, tmp_path, ""), "work")
    ask(chat, "one")
    pieces = chat.send("two")
    next(pieces)
    away = open_store(url, tmp_path, "")
    with monkeypatch.context() as patch:

        def refuse() -> None:
            raise sqlite3.OperationalError("database is locked")

        patch.setattr(away.database, "connect", refuse)  # type: ignore[attr-defined]
        other = chat_on(away, "work", wait=False)
        ask(other, "asked without the database")
    expire_lease(chat)
    with pytest.raises(SessionLockedError):
        ask(other, "while the reply arrives")
    list(pieces)
    ask(other, "three")
    stored = open_store(url, tmp_path, "").session("work")
    assert [m.status for m in stored.messages.values() if m.role == "assistant"] == ["complete"] * 4
    assert {m.content for m in stored.path if m.role == "user"} >= {"one", "two", "three"}


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_reply_whose_append_only_seemed_to_fail_is_stored_once(
    kind: str, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, user = databases.url(kind, tmp_path), new_id()
    store = open_store(url, tmp_path, user)
    chat = chat_on(store, "work")
    ask(chat, "one")
    append = store.database.append  # type: ignore[attr-defined]

    def lose_the_answer(*arguments: Any) -> None:
        append(*arguments)
        raise StoreUnavailableError("The connection was cut.")

    def refuse(*_: Any) -> None:
        raise StorageError("The disk is full.")

    pieces = chat.send("two")
    next(pieces)
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "append", lose_the_answer)  # type: ignore[attr-defined]
        patch.setattr("chatmem.stores.database.outbox.Outbox.open", refuse)
        list(pieces)
        assert chat.save_error
    ask(chat, "three")
    assert chat.save_error is None
    records = open_store(url, tmp_path / "elsewhere", user).records("work")
    ids = [record["id"] for record in records if record["type"] == "message"]
    assert len(ids) == len(set(ids)) == 6
