"""Redis as a cluster and behind Sentinel: real servers, slots that move, masters that die."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.errors import StoreUnavailableError, UsageError
from chatmem.history.records import header, new_id
from chatmem.history.session import Session
from chatmem.stores import open_store
from chatmem.stores.database import log as database_log
from chatmem.stores.database import redis as redis_database
from chatmem.stores.database.redis import RedisDatabase
from chatmem.stores.database.redis_connection import RedisConnection
from tests.conftest import RecordProperty, Run
from tests.databases import Databases, DatabaseServer, redis_cluster, redis_with_sentinel
from tests.fakes import wait_until
from tests.stores.test_databases import ask, chat_on, question, texts

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.claim("database faults: turns lost, torn or repeated")


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[DatabaseServer]]:
    """A cluster of three masters."""
    with redis_cluster(masters=3) as servers:
        yield servers


def url_of(servers: list[DatabaseServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def test_a_cluster_of_three_masters_works_from_the_command_line(cluster: list[DatabaseServer], run: Run) -> None:
    store = ["--store", url_of(cluster)]
    names: list[str] = []
    while len(names) < 6 or not all("chatmem:" in server.command_to("KEYS", "*") for server in cluster):
        names.append(f"s{len(names)}")
        assert len(names) < 50, "every master gets a part"
        done = run("ask", f"The word is w{len(names) - 1}.", "-s", names[-1], "-m", "offline", *store)
        assert done.returncode == 0, done.stderr
    one_node = ["--store", f"redis://127.0.0.1:{cluster[1].port}"]
    assert run("ask", "Which word?", "-s", "s3", "-m", "offline", *one_node).stdout.count("w3") == 1
    assert run("sessions", "rename", "s3", "renamed", *one_node).returncode == 0
    assert run("sessions", "delete", "s4", "--yes", *store).returncode == 0
    listed = {row["name"] for row in json.loads(run("sessions", "list", "--json", *store).stdout)}
    assert listed == {*names, "renamed"} - {"s3", "s4"}
    assert "w5" in run("sessions", "search", "w5", *store).stdout
    assert run("sessions", "check", *store).returncode == 0


def test_the_keys_of_a_session_are_in_one_slot(cluster: list[DatabaseServer], tmp_path: Path) -> None:
    store = open_store(url_of(cluster), tmp_path, new_id())
    ask(chat_on(store, "work"), "one")
    ident = store.catalog.row("work").id  # type: ignore[attr-defined]
    keys = "\n".join(server.command_to("KEYS", f"*{ident}*") for server in cluster).split()
    assert {f"chatmem:{{{ident}}}:{part}" for part in ("records", "ids", "session", "users")} <= set(keys)
    assert len({cluster[0].command_to("CLUSTER", "KEYSLOT", key) for key in keys}) == 1


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1", "redis+sentinel://h/chats/x", "redis://h?wait=some"])
def test_an_invalid_url_is_named(url: str) -> None:
    with pytest.raises(UsageError):
        _ = RedisConnection(url).client


# The index and the sessions are in different slots: a process may die between two requests


@pytest.fixture
def database(databases: Databases, tmp_path: Path) -> Iterator[RedisDatabase]:
    database = RedisDatabase(databases.url("redis+cluster", tmp_path))
    yield database
    database.close()


class Killed(BaseException):
    """Ends an operation between two requests."""


def interrupted(database: RedisDatabase, operation: Callable[[], object], requests: int) -> bool:
    """Run an operation, but end it after some requests. Returns whether it was ended."""
    run, left = database._redis.run, [requests]

    def run_or_die(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return run(*arguments, **options)

    database._redis.run = run_or_die  # type: ignore[method-assign]
    try:
        operation()
    except Killed:
        return True
    finally:
        database._redis.run = run  # type: ignore[method-assign]
    return False


def names(database: RedisDatabase, user: str) -> dict[str, str]:
    return {row.name: row.id for row in database.rows(user)}


@pytest.mark.parametrize("requests", range(4))
def test_a_creation_that_was_killed_leaves_the_name_free_or_the_session_whole(
    database: RedisDatabase, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    user, first, second = new_id(), new_id(), new_id()
    was_killed = interrupted(database, lambda: database.create(user, "work", "Work", first, [("a", "{}")]), requests)
    assert was_killed == (requests < 3)
    if names(database, user):
        assert names(database, user) == {"Work": first} and database.read(first, 0) == [(1, "{}")]
        assert not database.create(user, "work", "Work", second, [("b", "{}")])
    else:
        monkeypatch.setattr(redis_database, "CLAIM_SECONDS", 0)  # later
        assert database.create(user, "work", "Work", second, [("b", "{}")])
        assert names(database, user) == {"Work": second}
    if requests in (1, 2):  # a session that did not get its name expires
        with database._connected() as client:
            assert 0 < client.ttl(f"chatmem:{{{first}}}:records") <= redis_database.CREATION_SECONDS
    assert database.create(user, "other", "Other", first, [("a", "{}"), ("c", "{}")]) in (True, False)


@pytest.mark.parametrize("requests", range(6))
def test_a_rename_that_was_killed_leaves_one_name(
    database: RedisDatabase, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    user, session = new_id(), new_id()
    database.create(user, "old", "Old", session, [("a", "{}")])
    interrupted(database, lambda: database.rename(user, session, "new", "New"), requests)
    (name,) = names(database, user)
    assert name in ("Old", "New") and database.rows(user, session=session)[0].name == name
    assert [row.name for row in database.rows(user, name.lower())] == [name]
    assert database.rename(user, session, "new", "New") and names(database, user) == {"New": session}
    other = new_id()
    monkeypatch.setattr(redis_database, "CLAIM_SECONDS", 0)  # later
    assert database.create(user, "old", "Old", other, [("b", "{}")]), "the old name is free"


@pytest.mark.parametrize("requests", range(4))
def test_a_removal_that_was_killed_can_be_repeated(
    database: RedisDatabase, monkeypatch: pytest.MonkeyPatch, requests: int
) -> None:
    ann, bob, session = new_id(), new_id(), new_id()
    database.create(ann, "work", "Work", session, [("a", "{}")])
    database.link(bob, "theirs", "Theirs", session, ann)
    interrupted(database, lambda: database.unlink(session), requests)
    if requests:
        assert names(database, ann) == names(database, bob) == {}
    database.unlink(session)
    assert names(database, ann) == names(database, bob) == {}
    assert database.read(session, 0) == [(1, "{}")], "a chat in the middle of it can go on"
    monkeypatch.setattr(redis_database, "CLAIM_SECONDS", 0)  # later
    assert database.create(ann, "work", "Work", new_id(), [("b", "{}")])


def test_a_name_that_two_processes_claim_leads_to_one_session(databases: Databases, tmp_path: Path) -> None:
    url, user = databases.url("redis+cluster", tmp_path), new_id()
    for number in range(4):
        results: dict[str, bool] = {}
        start = threading.Barrier(3)

        def create(session: str, key: str, results: dict[str, bool], start: threading.Barrier) -> None:
            one = RedisDatabase(url)
            start.wait()
            results[session] = one.create(user, key, key, session, [("a", "{}")])
            one.close()

        sessions = [new_id() for _ in range(3)]
        threads = [
            threading.Thread(target=create, args=(session, f"n{number}", results, start)) for session in sessions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [session for session, created in results.items() if created]
        database = RedisDatabase(url)
        assert [row.id for row in database.rows(user, f"n{number}")] == [winner]
        assert all(not database.read(session, 0) for session in sessions if session != winner)
        database.close()


def test_a_session_is_always_listed_while_it_is_renamed(databases: Databases, tmp_path: Path) -> None:
    url, user, session = databases.url("redis+cluster", tmp_path), new_id(), new_id()
    RedisDatabase(url).create(user, "n0", "n0", session, [("a", "{}")])
    over, missing, lists = threading.Event(), list[str](), list[int]()

    def list_again() -> None:
        database = RedisDatabase(url)
        while not over.is_set():
            if not (found := database.rows(user, session=session)) or found[0].id != session:
                missing.append("by its id")
            if [row.id for row in database.rows(user)] != [session]:
                missing.append("in the list")
            lists.append(1)

    threads = [threading.Thread(target=list_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    renamer = RedisDatabase(url)
    for number in range(1, 50):
        assert renamer.rename(user, session, f"n{number}", f"n{number}")
    over.set()
    for thread in threads:
        thread.join()
    assert len(lists) > 10 and missing == []


def test_two_names_given_at_once_leave_the_session_reachable(databases: Databases, tmp_path: Path) -> None:
    url, user = databases.url("redis+cluster", tmp_path), new_id()
    one = RedisDatabase(url)
    for number in range(8):
        session, start = new_id(), threading.Barrier(2)
        one.create(f"owner {user}", f"s{number}", "s", session, [("a", "{}")])

        def link(key: str, session: str, start: threading.Barrier) -> None:
            start.wait()
            RedisDatabase(url).link(user, key, key, session, "owner")

        threads = [threading.Thread(target=link, args=(f"{number}{end}", session, start)) for end in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [row.id for row in one.rows(user, session=session)] == [session]
        assert [row.id for row in one.rows(user)].count(session) == 1


def test_damaged_entries_of_the_index_do_not_hide_the_others(database: RedisDatabase) -> None:
    user, session = new_id(), new_id()
    database.create(user, "work", "Work", session, [("a", "{}")])
    with database._connected() as client:
        for number, text in enumerate(["garbage", "[]", "[1,2,3]", "{}", "7", '["a"]', b"\xff\xfe"]):
            client.hset(f"chatmem:names:{user}", f"k{number}", text)
        known = json.loads(client.hget(f"chatmem:names:{user}", "work"))
        client.hset(f"chatmem:names:{user}", "work", json.dumps([*known, "of a later version"]))
    assert names(database, user) == {"Work": session}
    assert database.create(user, "k0", "New", new_id(), [("b", "{}")])
    assert not database.create(user, "k6", "Unreadable", new_id(), [("b", "{}")]), "but it ends"


def test_a_name_for_a_session_that_is_gone_is_refused_and_leaves_nothing(database: RedisDatabase) -> None:
    user, session = new_id(), new_id()
    assert not database.link(user, "work", "Work", session, "ann") and names(database, user) == {}
    with database._connected() as client:
        assert not client.exists(f"chatmem:{{{session}}}:users", f"chatmem:names:{user}")


def test_an_append_to_a_deleted_session_does_not_keep_it_for_ever(database: RedisDatabase) -> None:
    user, session = new_id(), new_id()
    database.create(user, "work", "Work", session, [("a", "{}")])
    assert database.lock(session, "me")
    database.unlink(session)
    assert database.append(session, "me", [("b", "{}")]) == 2
    with database._connected() as client:
        assert client.ttl(f"chatmem:{{{session}}}:records") > 0


def test_the_outbox_of_a_store_is_the_same_with_and_without_wait() -> None:
    plain, waiting = RedisDatabase("redis://h:1/0"), RedisDatabase("redis://h:1/0?wait=2")
    assert plain.identity == waiting.identity and waiting._redis.replicas == 2
    assert RedisDatabase("redis://h:1/0?wait=2&db=3")._redis._plain_url == "redis://h:1/0?db=3"


# Data of earlier versions


def store_as_before(client: Any, user: str, key: str, name: str, session: str, texts: list[str]) -> None:
    """Store a session under the keys of version 0.1."""
    records = [header(name), *(question(text) for text in texts)]
    for record in records:
        client.rpush(f"chatmem:{session}:records", json.dumps(record))
        client.sadd(f"chatmem:{session}:ids", record["id"])
    client.hset(f"chatmem:{session}:session", "changed", time.time())
    client.hset(f"chatmem:{session}:users", user, key)
    client.hset(f"chatmem:names:{user}", key, json.dumps([name, session, None]))


def test_sessions_of_an_earlier_version_are_found_read_and_continued(databases: Databases, tmp_path: Path) -> None:
    url, user = databases.url("redis", tmp_path), new_id()
    client = redis.Redis.from_url(url)
    sessions = {f"s{n}": new_id() for n in range(30)}
    for name, session in sessions.items():
        store_as_before(client, user, name, name, session, [f"from {name}"])
    ask(chat_on(open_store(url, tmp_path, user), "s7"), "and on")
    assert set(open_store(url, tmp_path, user).names()) == set(sessions)
    assert texts(open_store(url, tmp_path, user), "s7")[:2] == ["from s7", "and on"]
    assert texts(open_store(url, tmp_path, user), "s8") == ["from s8"]
    for session in sessions.values():
        assert not client.keys(f"chatmem:{session}:*") and client.exists(f"chatmem:{{{session}}}:records")
    assert open_store(url, tmp_path, user).rename("s8", "renamed") is None
    assert texts(open_store(url, tmp_path, user), "renamed") == ["from s8"]


def test_a_migration_by_several_processes_at_once_moves_each_session_once(databases: Databases, tmp_path: Path) -> None:
    url, user = databases.url("redis", tmp_path), new_id()
    client = redis.Redis.from_url(url)
    sessions = {f"s{n}": new_id() for n in range(50)}
    for name, session in sessions.items():
        store_as_before(client, user, name, name, session, [f"from {name}"])
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(RedisDatabase(url).rows(user)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 4
    for name in sessions:
        assert texts(open_store(url, tmp_path, user), name) == [f"from {name}"]


# Slots that move, masters that die


def check_turns(url: str, directory: Path, user: str, name: str, sent: list[str]) -> None:
    session: Session = open_store(url, directory, user).session(name)
    assert [turn.question.content for turn in session.turns if turn.reply] == sent
    assert len(session.messages) == len(session.path) == 2 * len(sent)


def move_slot(masters: list[DatabaseServer], key: str, rng: random.Random) -> None:
    """Move the slot of a key to another master, key by key, as resharding does."""
    slot = masters[0].command_to("CLUSTER", "KEYSLOT", key).strip()
    ids = [server.command_to("CLUSTER", "MYID").strip() for server in masters]
    owner = next(n for n, server in enumerate(masters) if "MOVED" not in server.command_to("EXISTS", key))
    target = rng.choice([n for n in range(len(masters)) if n != owner])
    masters[target].command_to("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
    masters[owner].command_to("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while keys := masters[owner].command_to("CLUSTER", "GETKEYSINSLOT", slot, "100").split():
        for name in keys:
            masters[owner].command_to("MIGRATE", "127.0.0.1", str(masters[target].port), name, "0", "5000")
    for number in (target, owner, *range(len(masters))):
        masters[number].command_to("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("wait", ["", "?wait=1"])
def test_slots_that_move_during_chats_lose_and_double_nothing(tmp_path: Path, rng: random.Random, wait: str) -> None:
    with redis_cluster(masters=3, replicas=1 if wait else 0) as servers:
        url, user, sent = url_of(servers) + wait, new_id(), dict[str, list[str]]()
        over = threading.Event()

        def talk(name: str) -> None:
            chat, sent[name] = chat_on(open_store(url, tmp_path / name, user), name), []
            while not over.is_set() or len(sent[name]) < 20:
                ask(chat, text := f"{name} turn {len(sent[name])}")
                sent[name].append(text)
            chat.close()

        threads = [threading.Thread(target=talk, args=(f"t{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(sent) == 3 and all(len(turns) > 1 for turns in sent.values()))
        rows = RedisDatabase(url).rows(user)
        for _ in range(30):
            move_slot(servers[:3], f"chatmem:{{{rng.choice(rows).id}}}:session", rng)
            move_slot(servers[:3], f"chatmem:names:{user}", rng)
        over.set()
        for thread in threads:
            thread.join()
        for name, turns in sent.items():
            check_turns(url, tmp_path / name, user, name, turns)


def masters_of(servers: list[DatabaseServer], expected: int) -> list[DatabaseServer]:
    """The masters, once there are as many as expected and all other living servers follow one of them."""
    living = {server: server.command_to("INFO", "replication") for server in servers if server.process}
    masters = [server for server, info in living.items() if "role:master" in info]
    follow = all("master_link_status:up" in info for server, info in living.items() if server not in masters)
    return masters if len(masters) == expected and follow else []


def check_failovers(
    servers: list[DatabaseServer], expected: int, url: str, directory: Path, rng: random.Random, times: int
) -> None:
    """Kill a master in the middle of turns, wait for its replica to take over, start it again, and so on."""
    user = new_id()
    chat, sent = chat_on(open_store(url, directory, user), "work"), list[str]()

    def turns(count: int, when: str) -> None:
        for turn in range(count):
            ask(chat, text := f"{when}, turn {turn}")
            sent.append(text)

    for number in range(times):
        wait_until(lambda: len(masters_of(servers, expected)) == expected)
        turns(rng.randrange(1, 4), f"before {number}")
        victim = rng.choice(masters_of(servers, expected) or servers[:1])
        killer = threading.Timer(rng.random() * 0.05, victim.kill)
        killer.start()
        turns(rng.randrange(2, 6), f"around {number}")
        killer.join()
        wait_until(lambda: len(masters_of(servers, expected)) == expected)
        turns(rng.randrange(1, 4), f"after {number}")
        victim.start()
    wait_until(lambda: len(masters_of(servers, expected)) == expected)
    for number in range(600):
        turns(1, f"the last one {number}")
        if not list(directory.rglob("*.jsonl")):
            break
    chat.close()
    check_turns(url, directory, user, "work", sent)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_10_failovers_of_a_cluster_lose_and_double_nothing(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 0.5)
    record_property("cases", 10)
    with redis_cluster(masters=3, replicas=1) as servers:
        check_failovers(servers, 3, url_of(servers) + "?wait=1", tmp_path, rng, 10)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_3_failovers_by_sentinel_lose_and_double_nothing(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    monkeypatch.setattr(database_log, "RECONNECT_INTERVAL", 0.5)
    record_property("cases", 3)
    with redis_with_sentinel() as (servers, url):
        check_failovers(servers, 1, url + "?wait=1", tmp_path, rng, 3)


@pytest.mark.long
def test_a_write_that_no_replica_has_is_not_acknowledged(tmp_path: Path) -> None:
    with redis_cluster(masters=1) as (server,):
        database = RedisDatabase(f"redis://127.0.0.1:{server.port}?wait=1")
        with pytest.raises(StoreUnavailableError, match="0 of 1 replicas"):
            database.create("ann", "work", "Work", new_id(), [("a", "{}")])
        database.close()
