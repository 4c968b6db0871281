"""Sessions in Redis (redis-py): one server, a cluster, or a service that Sentinel watches (see `redis_connection`).

Per session there are a list of records, a set of their ids, a hash, a hash of the users who have a name for it, and a
lock with an expiry, all under `chatmem:{SESSION}:` and so in one slot of a cluster: what must be atomic is a script on
them. Per user there is an index of names, the hash `chatmem:names:USER`, in a slot of its own.

An index entry counts only if the session's own hash says the same. So the two need not change at once: a process that
dies between them leaves an entry that is ignored after a while, or a session that expires. The server's `appendfsync`
decides how durable a write is, and `wait=N` in the URL whether it survives the loss of the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

from chatmem.stores.database.base import LEASE_SECONDS, TRASH_SECONDS, Database, Line, SessionRow, owner_prefix
from chatmem.stores.database.redis_connection import RedisConnection

CLAIM_SECONDS = 15
"""For how long an index entry is kept that its session does not confirm: another process may be about to."""
CREATION_SECONDS = 3_600
"""After how long a session expires that did not get its name."""
MAX_READS = 5
"""How often the index is read again when a session is renamed during the read."""
PARTS = ("records", "ids", "session", "users", "lock")
"""The keys of a session, as the scripts see them: `KEYS[1]` to `KEYS[5]`."""

_FUNCTIONS = """
local records, ids, session, users, lock = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local function expire(seconds)
  for _, key in ipairs({records, ids, session, users}) do
    if seconds == '' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, seconds) end
  end
end
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2])
end
local function add(first)
  for i = first, #ARGV, 2 do
    if redis.call('SADD', ids, ARGV[i]) == 1 then redis.call('RPUSH', records, ARGV[i + 1]) end
  end
  redis.call('HSET', session, 'changed', now())
  return redis.call('LLEN', records)
end
"""
_CREATE = """
add(2)
expire(ARGV[1])
return 1
"""
_NAME = """
if redis.call('EXISTS', session) == 0 then return false end
local old = redis.call('HGET', users, ARGV[1])
redis.call('HSET', users, ARGV[1], ARGV[2])
expire(ARGV[3])
return old or ''
"""
_UNDO_NAME = """
if redis.call('HGET', users, ARGV[1]) ~= ARGV[2] then return end
if ARGV[3] == '' then redis.call('HDEL', users, ARGV[1]) else redis.call('HSET', users, ARGV[1], ARGV[3]) end
"""
_UNNAME = """
local removed = {}
local found = redis.call('HGETALL', users)
for i = 1, #found, 2 do
  if ARGV[1] == '*' or ARGV[1] == '=' .. found[i] then
    redis.call('HDEL', users, found[i])
    table.insert(removed, found[i])
    table.insert(removed, found[i + 1])
  end
end
if redis.call('HLEN', users) == 0 then expire(ARGV[2]) end
return removed
"""
_APPEND = """
if redis.call('GET', lock) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', lock, ARGV[3])
local last = add(5)
expire(redis.call('HLEN', users) == 0 and ARGV[4] or ARGV[2])
return last
"""
_LOCK = """
if redis.call('EXISTS', session) == 0 then return -1 end
local held = redis.call('GET', lock)
local replaceable = ARGV[3] ~= '' and held and string.sub(held, 1, #ARGV[3]) == ARGV[3]
if held and held ~= ARGV[1] and not replaceable then return 0 end
redis.call('SET', lock, ARGV[1], 'PX', ARGV[2])
return 1
"""
_UNLOCK = """
if redis.call('GET', lock) == ARGV[1] then redis.call('DEL', lock) end
"""
_REPLACE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.sub(ARGV[3], 1, -2) .. ', ' .. redis.call('TIME')[1] .. ']')
end
return 1
"""
"""Replaces an index entry, if it is still the one that was read. Empty: none. The new one gets the server's time."""
_NOW = "return redis.call('TIME')[1]"
_MIGRATE = """
local parts = {'records', 'ids', 'session', 'users'}
if redis.call('EXISTS', 'chatmem:{' .. ARGV[1] .. '}:session') == 1 then return 0 end
if redis.call('EXISTS', 'chatmem:' .. ARGV[1] .. ':session') == 0 then return 0 end
for _, part in ipairs(parts) do
  local old = 'chatmem:' .. ARGV[1] .. ':' .. part
  if redis.call('EXISTS', old) == 1 then redis.call('RENAME', old, 'chatmem:{' .. ARGV[1] .. '}:' .. part) end
end
redis.call('DEL', 'chatmem:' .. ARGV[1] .. ':lock')
return 1
"""
"""Gives a session the keys of this version. Its former ones were in different slots, so they are on a single server."""


class _Entry(NamedTuple):
    """An entry of a user's index. `claimed` is the server's time when it was made, 0 in entries of earlier versions."""

    name: str
    session: str
    owner: str | None
    claimed: float = 0.0

    @classmethod
    def parse(cls, text: str) -> _Entry | None:
        """The entry in a text. None for a damaged one. Fields that a later version may add are ignored."""
        try:
            name, session, owner, claimed = [*json.loads(text), 0.0][:4]
        except (ValueError, TypeError, RecursionError):
            return None
        is_valid = isinstance(name, str) and isinstance(session, str) and isinstance(claimed, int | float)
        return cls(name, session, owner if isinstance(owner, str) else None, claimed) if is_valid else None


class RedisDatabase(Database):
    """A connection to Redis. Sessions unused for `ttl` seconds expire there."""

    expires: ClassVar[bool] = True

    def __init__(self, url: str, ttl: float | None = None) -> None:
        self._redis = RedisConnection(url)
        address = self._redis.address
        self.display_url, self.identity = address.display_url, address.identity
        self.unencrypted = address.is_remote and not self._redis.is_tls
        self.ttl = str(int(ttl)) if ttl else ""
        self._lease = str(int(LEASE_SECONDS * 1000))

    def rows(self, user: str, key: str | None = None, session: str | None = None) -> list[SessionRow]:
        for _ in range(MAX_READS):
            rows, is_renamed = self._read_rows(user, key, session)
            if not is_renamed:
                break
        return rows

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        """First the session, which expires unless it gets its name."""
        parts = (part for line in lines for part in line)
        self._run(_CREATE, session, str(CREATION_SECONDS), *parts, durable=True)
        if self.link(user, key, name, session, None):
            return True
        self.purge(session)
        return False

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        """First the name, which counts once the session confirms it."""
        if not self._claim(user, key, _Entry(name, session, owner)):
            return False
        old = self._run(_NAME, session, user, key, self.ttl, durable=True)
        held = self._entry(user, key)[1]
        if old is None or held is None or held.session != session:
            # The session is gone, or another process that saw the name unconfirmed for long has claimed it.
            self._run(_UNDO_NAME, session, user, key, old or "")
            self._release(user, key, session)
            return False
        if old and old != key:
            self._release(user, old, session)
        return True

    def unlink(self, session: str, user: str | None = None) -> None:
        removed = self._run(_UNNAME, session, "*" if user is None else f"={user}", str(TRASH_SECONDS))
        for who, key in zip(removed[::2], removed[1::2], strict=True):
            self._release(who, key, session)

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        owner = next((entry.owner for entry in self.rows(user, session=session)), None)
        return self.link(user, key, name, session, owner)

    def purge(self, session: str) -> None:
        self.unlink(session)
        with self._connected() as client:
            client.delete(*_keys(session))

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self._connected() as client:
            return list(enumerate(client.lrange(f"chatmem:{{{session}}}:records", after, -1), after + 1))

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        parts = (part for line in lines for part in line)
        limits = (self.ttl, self._lease, str(TRASH_SECONDS))
        last = int(self._run(_APPEND, session, holder, *limits, *parts, durable=True))
        return None if last < 0 else last

    def lock(self, session: str, holder: str) -> bool | None:
        acquired = int(self._run(_LOCK, session, holder, self._lease, owner_prefix(holder)))
        return None if acquired < 0 else acquired > 0

    def unlock(self, session: str, holder: str) -> None:
        self._run(_UNLOCK, session, holder)

    def close(self) -> None:
        self._redis.close()

    # The index of a user

    def _read_rows(self, user: str, key: str | None, session: str | None) -> tuple[list[SessionRow], bool]:
        """The rows, and whether a session among them was being renamed, so that they may lack it."""
        with self._connected() as client:
            if session is not None:
                key = client.hget(f"chatmem:{{{session}}}:users", user)
                if key is None:
                    return [], False
            index = f"chatmem:names:{user}"
            found = client.hgetall(index) if key is None else {key: client.hget(index, key)}
            entries = {key: entry for key, text in found.items() if text and (entry := _Entry.parse(text))}
            rows, unconfirmed = self._look_up(client, user, entries)
            now = self._now(index) if unconfirmed else 0.0
            for name, (entry, _) in unconfirmed.items():
                if now - entry.claimed >= CLAIM_SECONDS:
                    self._redis.run(_REPLACE, [index], [name, found[name], ""])
        by_id = {row.id: row for row in rows}  # one that is being renamed may have both names
        if session is not None:
            return [by_id[session]] if session in by_id else [], session not in by_id
        is_renamed = any(elsewhere and entry.session not in by_id for entry, elsewhere in unconfirmed.values())
        return list(by_id.values()), is_renamed and key is None

    def _look_up(
        self, client: Any, user: str, entries: dict[str, _Entry]
    ) -> tuple[list[SessionRow], dict[str, tuple[_Entry, bool]]]:
        """The rows of the entries that their sessions confirm; the others, and whether their sessions say otherwise."""
        rows, unconfirmed = self._confirmed(client, user, entries)
        if unconfirmed and not self._redis.is_cluster:
            self._migrate(client, [entry.session for entry, _ in unconfirmed.values()])
            migrated, unconfirmed = self._confirmed(
                client, user, {key: entry for key, (entry, _) in unconfirmed.items()}
            )
            rows += migrated
        return rows, unconfirmed

    @staticmethod
    def _confirmed(
        client: Any, user: str, entries: dict[str, _Entry]
    ) -> tuple[list[SessionRow], dict[str, tuple[_Entry, bool]]]:
        with client.pipeline(transaction=False) as many:
            for entry in entries.values():
                session = f"chatmem:{{{entry.session}}}"
                many.hget(f"{session}:users", user)
                many.hget(f"{session}:session", "changed")
                many.llen(f"{session}:records")
            answers = iter(many.execute() if entries else ())
        rows, others = [], {}
        for key, entry in entries.items():
            confirmed, changed, last = next(answers), next(answers), next(answers)
            if confirmed == key and changed is not None:
                rows.append(SessionRow(entry.name, entry.session, entry.owner, last, float(changed)))
            else:  # a session that is gone will not confirm it any more
                others[key] = entry if changed is not None else entry._replace(claimed=0.0), confirmed is not None
        return rows, others

    def _claim(self, user: str, key: str, entry: _Entry) -> bool:
        """Make an index entry. False if the key leads to another session, or changes all the time."""
        for _ in range(MAX_READS):
            text, held = self._entry(user, key)
            if held and held.session != entry.session:
                with self._connected() as client:
                    rows, unconfirmed = self._look_up(client, user, {key: held})
                    if rows or self._now(f"chatmem:names:{user}") - unconfirmed[key][0].claimed < CLAIM_SECONDS:
                        return False
            if self._replace(user, key, text, json.dumps(entry[:3])):
                return True
        return False

    def _release(self, user: str, key: str, session: str) -> None:
        """Remove an index entry that leads to a session."""
        text, held = self._entry(user, key)
        if held and held.session == session:
            self._replace(user, key, text, "")

    def _entry(self, user: str, key: str) -> tuple[str, _Entry | None]:
        with self._connected() as client:
            text = client.hget(f"chatmem:names:{user}", key) or ""
        return text, _Entry.parse(text) if text else None

    def _replace(self, user: str, key: str, old: str, new: str) -> bool:
        with self._connected():
            return bool(self._redis.run(_REPLACE, [f"chatmem:names:{user}"], [key, old, new], durable=bool(new)))

    def _now(self, index: str) -> float:
        """The time of the server that has an index, in seconds: clocks of clients differ."""
        return float(self._redis.run(_NOW, [index], []))

    @staticmethod
    def _migrate(client: Any, sessions: Sequence[str]) -> None:
        """Give sessions that an earlier version stored their new keys. It may be repeated at any time."""
        with client.pipeline(transaction=False) as many:
            for session in sessions:
                many.eval(_MIGRATE, 0, session)
            many.execute()

    # Requests

    def _run(self, script: str, session: str, *arguments: str, durable: bool = False) -> Any:
        with self._connected():
            return self._redis.run(_FUNCTIONS + script, _keys(session), arguments, durable)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with self.circuit_breaker(), self._redis.translated() as client:
            yield client


def _keys(session: str) -> list[str]:
    return [f"chatmem:{{{session}}}:{part}" for part in PARTS]
