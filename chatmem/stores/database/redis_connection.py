"""Clients of Redis: one server, a cluster, or a service that Sentinel watches.

    redis://user:password@host:6379/0             one server, or any node of a cluster, which is recognised
    redis+cluster://host1,host2,host3             a cluster
    redis+sentinel://host1,host2/service/0        the master of a service

`rediss` instead of `redis` uses TLS, also to the sentinels. Their user and password are the options
`sentinel_username` and `sentinel_password`. Other options after the `?` are those of redis-py, and `wait=N`: a write
counts only once N replicas have it (`WAIT`). Without it, a failover may lose the writes of the last moments.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from chatmem.errors import StorageError, StoreUnavailableError, UsageError
from chatmem.stores.database.address import Address
from chatmem.stores.database.base import TIMEOUT

WAIT_MILLISECONDS = 2_000
"""How long a write may take to reach the replicas."""
MAX_ATTEMPTS = 20
RETRY_DELAY = 0.1
"""How often a script is sent to a cluster that moves the slot of its keys, and the seconds between."""
SENTINEL_PORT = 26_379


class RedisConnection:
    """A client, made on first use. Raises UsageError for an invalid URL."""

    def __init__(self, url: str) -> None:
        self.address = address = Address.parse(url)
        self.display_url = address.display_url
        wait = address.query.pop("wait", "0")
        if not re.fullmatch(r"[0-9]{1,3}", wait):
            raise UsageError(f"wait = {wait!r} is not valid in a store's URL.", "It is a number of replicas.")
        self.replicas = int(wait)
        """How many replicas must have a write."""
        self.is_tls = address.scheme.startswith("rediss")
        self._kind = address.scheme.partition("+")[2]
        self._plain_url = re.sub(r"\A(rediss?)(\+\w+)?", r"\1", re.sub(r"(?<=[?&])wait=\d+(&|\Z)", "", url), flags=re.I)

    @property
    def is_cluster(self) -> bool:
        import redis

        return isinstance(self.client, redis.RedisCluster)

    @cached_property
    def client(self) -> Any:
        try:
            if self._kind == "cluster":
                return self._cluster()
            return self._sentinel() if self._kind == "sentinel" else self._single()
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{self.display_url} is not a valid Redis URL.", "It should look like redis://host:6379/0"
            ) from error

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str], durable: bool = False) -> Any:
        """Run a Lua script on keys of one slot. A `durable` one returns once enough replicas have its writes."""
        if not (durable and self.replicas):
            return self.client.register_script(script)(keys=keys, args=arguments)
        answer, copies = self._run_and_wait(script, keys, arguments)
        if copies < self.replicas:
            raise StoreUnavailableError(
                f"{copies} of {self.replicas} replicas of {self.display_url} have the last write.",
                "Check that they are running.",
            )
        return answer

    @contextlib.contextmanager
    def translated(self) -> Iterator[Any]:
        """The client. Its exceptions are translated without their text, which may contain secrets."""
        import redis

        try:
            yield self.client
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise UsageError(
                f"{self.display_url} refused the user or the password.", "Check the store's URL."
            ) from error
        except (
            redis.ConnectionError,
            redis.TimeoutError,
            redis.exceptions.ClusterDownError,
            redis.exceptions.RedisClusterException,
        ) as error:
            raise StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check that it is running.") from error
        except redis.RedisError as error:
            raise StorageError(f"{self.display_url} refused: {type(error).__name__}.") from error

    def _run_and_wait(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> tuple[Any, int]:
        """Run a script and wait on the same connection: `WAIT` is about the writes of its own connection."""
        import redis

        for attempt in range(1, MAX_ATTEMPTS + 1):
            client = self.client
            try:
                if self.is_cluster:
                    client = client.get_redis_connection(client.get_node_from_key(keys[0]))
                with client.pipeline(transaction=False) as pipeline:
                    pipeline.eval(script, len(keys), *keys, *arguments)
                    pipeline.execute_command("WAIT", self.replicas, WAIT_MILLISECONDS)
                    answer, copies = pipeline.execute()
                return answer, int(copies)
            except (redis.exceptions.AskError, redis.exceptions.MovedError, redis.exceptions.TryAgainError):
                if attempt == MAX_ATTEMPTS:
                    raise
                time.sleep(RETRY_DELAY)
                self.client.nodes_manager.initialize()
        raise AssertionError("unreachable")

    # The three kinds

    def _options(self) -> dict[str, Any]:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return {
            "decode_responses": True,
            "encoding_errors": "replace",
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)),  # the server may have been restarted
            "client_name": "chatmem",
        }

    def _url_options(self) -> dict[str, Any]:
        """What the URL says, as arguments of a client, without the place."""
        from redis.connection import parse_url

        address = self.address
        query = self._plain_url.partition("?")[2]
        parse: Any = parse_url
        options = dict(parse(f"{'rediss' if self.is_tls else 'redis'}://host/?{query}"))
        options.pop("connection_class", None)
        options |= {"ssl": True} if self.is_tls else {}
        options |= {name: value for name in ("username", "password") if (value := getattr(address, _FIELDS[name]))}
        return {name: value for name, value in options.items() if name not in ("host", "port", "db", "path")}

    def _single(self) -> Any:
        import redis

        client = redis.Redis.from_url(self._plain_url, **self._options())
        if self._is_cluster_node(client):
            client.close()
            return self._cluster()
        return client

    @staticmethod
    def _is_cluster_node(client: Any) -> bool:
        """Whether a server belongs to a cluster. Either question may not be permitted."""
        import redis

        with contextlib.suppress(redis.ResponseError):
            return bool(client.info("cluster").get("cluster_enabled"))
        with contextlib.suppress(redis.ResponseError):
            return bool(client.execute_command("CLUSTER", "SLOTS"))
        return False

    def _cluster(self) -> Any:
        import redis
        from redis import cluster
        from redis.backoff import ExponentialWithJitterBackoff
        from redis.retry import Retry

        node: Any = cluster.ClusterNode
        nodes = [node(host, int(port or 6379)) for host, port in self.address.hosts]
        retry = Retry(ExponentialWithJitterBackoff(base=0.1, cap=0.5), 3)
        return redis.RedisCluster(startup_nodes=nodes, **self._options() | {"retry": retry} | self._url_options())

    def _sentinel(self) -> Any:
        from redis import sentinel

        service, _, number = self.address.path.partition("/")
        if not service or not (number or "0").isdigit():
            raise UsageError(
                f"{self.display_url} names no service.", "It should look like redis+sentinel://host/service/0"
            )
        hosts = [(host, int(port or SENTINEL_PORT)) for host, port in self.address.hosts]
        options = self._options() | self._url_options()
        theirs = ("sentinel_username", "sentinel_password")
        access = {name.removeprefix("sentinel_"): options.pop(name) for name in theirs if name in options}
        tls = {name: value for name, value in options.items() if name.startswith("ssl")}
        times = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT} | access | tls
        watchers: Any = sentinel.Sentinel
        return watchers(hosts, sentinel_kwargs=times).master_for(service, db=int(number or 0), **options)


_FIELDS = {"username": "user", "password": "password"}
"""The arguments of a client, and the part of the URL that each is."""
