"""redis://user:password@host:6379/0 and rediss:// (TLS): sessions in Redis (redis-py).

Per user there is a hash of names, `chatmem:names:USER`. Per session there are a list of records, a set of their ids, a
hash, a lock with an expiry, and a hash of the users who have a name for it, all under `chatmem:SESSION:`. Operations
that must be atomic are Lua scripts. The server's `appendfsync` decides how durable a write is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from chatmem.errors import StorageError, StoreUnavailableError, UsageError
from chatmem.stores.database.address import Address
from chatmem.stores.database.base import LEASE_SECONDS, TIMEOUT, TRASH_SECONDS, Database, Line, SessionRow, owner_prefix

_FUNCTIONS = """
local function expire(session, seconds)
  for _, part in ipairs({'records', 'ids', 'session', 'users'}) do
    local key = 'chatmem:' .. session .. ':' .. part
    if seconds == '' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, seconds) end
  end
end
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2])
end
local function free(names, key, session)
  local found = redis.call('HGET', names, key)
  if not found then return true end
  local other = cjson.decode(found)[2]
  return other == session or redis.call('EXISTS', 'chatmem:' .. other .. ':session') == 0
end
local function name(user, key, session, entry)
  local names = 'chatmem:names:' .. user
  if not free(names, key, session) then return false end
  local users = 'chatmem:' .. session .. ':users'
  local old = redis.call('HGET', users, user)
  if old and old ~= key then redis.call('HDEL', names, old) end
  redis.call('HSET', names, key, entry)
  redis.call('HSET', users, user, key)
  return true
end
local function add(session, first)
  for i = first, #ARGV, 2 do
    if redis.call('SADD', 'chatmem:' .. session .. ':ids', ARGV[i]) == 1 then
      redis.call('RPUSH', 'chatmem:' .. session .. ':records', ARGV[i + 1])
    end
  end
  redis.call('HSET', 'chatmem:' .. session .. ':session', 'changed', now())
  return redis.call('LLEN', 'chatmem:' .. session .. ':records')
end
"""
_CREATE = """
if not name(ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
add(ARGV[3], 6)
expire(ARGV[3], ARGV[5])
return 1
"""
_LINK = """
if name(ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then
  expire(ARGV[3], ARGV[5])
  return 1
end
return 0
"""
_UNLINK = """
local users = 'chatmem:' .. ARGV[1] .. ':users'
local found = redis.call('HGETALL', users)
for i = 1, #found, 2 do
  if ARGV[2] == '*' or ARGV[2] == '=' .. found[i] then
    redis.call('HDEL', 'chatmem:names:' .. found[i], found[i + 1])
    redis.call('HDEL', users, found[i])
  end
end
if redis.call('HLEN', users) == 0 then expire(ARGV[1], ARGV[3]) end
"""
_APPEND = """
local lock = 'chatmem:' .. ARGV[1] .. ':lock'
if redis.call('GET', lock) ~= ARGV[2] then return -1 end
redis.call('PEXPIRE', lock, ARGV[4])
local last = add(ARGV[1], 5)
expire(ARGV[1], ARGV[3])
return last
"""
_LOCK = """
if redis.call('EXISTS', 'chatmem:' .. ARGV[1] .. ':session') == 0 then return -1 end
local lock = 'chatmem:' .. ARGV[1] .. ':lock'
local held = redis.call('GET', lock)
local replaceable = ARGV[4] ~= '' and held and string.sub(held, 1, #ARGV[4]) == ARGV[4]
if held and held ~= ARGV[2] and not replaceable then return 0 end
redis.call('SET', lock, ARGV[2], 'PX', ARGV[3])
return 1
"""
_UNLOCK = """
local lock = 'chatmem:' .. ARGV[1] .. ':lock'
if redis.call('GET', lock) == ARGV[2] then redis.call('DEL', lock) end
"""


class RedisDatabase(Database):
    """A connection to a Redis server. Sessions unused for `ttl` seconds expire there."""

    expires: ClassVar[bool] = True

    def __init__(self, url: str, ttl: float | None = None) -> None:
        address = Address.parse(url)
        self.display_url, self.identity = address.display_url, address.identity
        self.unencrypted = address.is_remote and address.scheme != "rediss"
        self.ttl = str(int(ttl)) if ttl else ""
        self._url = url
        self._lease = str(int(LEASE_SECONDS * 1000))

    @cached_property
    def _client(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            return redis.Redis.from_url(
                self._url,
                decode_responses=True,
                encoding_errors="replace",
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),  # the server may have been restarted
                client_name="chatmem",
            )
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{self.display_url} is not a valid Redis URL.", "It should look like redis://host:6379/0"
            ) from error

    def rows(self, user: str, key: str | None = None, session: str | None = None) -> list[SessionRow]:
        with self._connected() as client:
            if session is not None:
                key = client.hget(f"chatmem:{session}:users", user)
                if key is None:
                    return []
            names = f"chatmem:names:{user}"
            found = client.hgetall(names) if key is None else {key: client.hget(names, key)}
            known = {k: json.loads(value) for k, value in found.items() if value}
            with client.pipeline(transaction=False) as many:
                for _, ident, _ in known.values():
                    many.hget(f"chatmem:{ident}:session", "changed").llen(f"chatmem:{ident}:records")
                answers = iter(many.execute())
            rows = [(k, entry, next(answers), next(answers)) for k, entry in known.items()]
            if expired := [k for k, _, changed, _ in rows if changed is None]:
                client.hdel(names, *expired)
        return [
            SessionRow(name, ident, owner, last, float(changed))
            for _, (name, ident, owner), changed, last in rows
            if changed is not None
        ]

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        entry = json.dumps([name, session, None])
        return bool(self._run(_CREATE, user, key, session, entry, self.ttl, *(part for line in lines for part in line)))

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        return bool(self._run(_LINK, user, key, session, json.dumps([name, session, owner]), self.ttl))

    def unlink(self, session: str, user: str | None = None) -> None:
        self._run(_UNLINK, session, "*" if user is None else f"={user}", str(TRASH_SECONDS))

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        owner = next((entry.owner for entry in self.rows(user, session=session)), None)
        return self.link(user, key, name, session, owner)

    def purge(self, session: str) -> None:
        self.unlink(session)
        with self._connected() as client:
            client.delete(*(f"chatmem:{session}:{part}" for part in ("records", "ids", "session", "users", "lock")))

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self._connected() as client:
            return list(enumerate(client.lrange(f"chatmem:{session}:records", after, -1), after + 1))

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        parts = (part for line in lines for part in line)
        last = int(self._run(_APPEND, session, holder, self.ttl, self._lease, *parts))
        return None if last < 0 else last

    def lock(self, session: str, holder: str) -> bool | None:
        acquired = int(self._run(_LOCK, session, holder, self._lease, owner_prefix(holder)))
        return None if acquired < 0 else acquired > 0

    def unlock(self, session: str, holder: str) -> None:
        self._run(_UNLOCK, session, holder)

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()

    def _run(self, script: str, *arguments: str) -> Any:
        with self._connected() as client:
            return client.register_script(_FUNCTIONS + script)(args=arguments)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The client. Its exceptions are translated without their text, which may contain secrets."""
        import redis

        with self.circuit_breaker():
            try:
                yield self._client
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
                raise UsageError(
                    f"{self.display_url} refused the user or the password.", "Check the store's URL."
                ) from error
            except (redis.ConnectionError, redis.TimeoutError) as error:
                raise StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check that it is running.") from error
            except redis.RedisError as error:
                raise StorageError(f"{self.display_url} refused: {type(error).__name__}.") from error
