"""Real database servers on free ports, with data in temporary directories. A process starts each at most once."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chatmem.stores import DATABASES


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DatabaseServer:
    """A server that can be killed, and started again with the same data."""

    def __init__(self, command: list[str], port: int, answers: Callable[[int], bool], user: str | None = None) -> None:
        self.command, self.port, self.answers, self.user = command, port, answers, user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self.user, cwd="/"
        )
        end = time.monotonic() + 30
        while not self.answers(self.port):
            assert self.process.poll() is None, f"{self.command[0]} ended with {self.process.returncode}"
            assert time.monotonic() < end, f"{self.command[0]} does not answer"

    def command_to(self, *words: str) -> str:
        """What redis-cli prints for a command."""
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop the server and its child processes, so that connections are accepted but never answered."""
        assert self.process
        processes = [self.process.pid, *self._children()]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """End the server. SIGKILL also goes to its child processes, which may answer for a while without it."""
        if self.process:
            children = self._children() if signal_number == signal.SIGKILL else []
            self.process.send_signal(signal_number)
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _children(self) -> list[int]:
        command = ["pgrep", "-P", str(self.process.pid if self.process else 0)]
        return list(map(int, subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()))


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[DatabaseServer]:
    """A redis-server that syncs every command to its file before it answers."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no", *options]
        server = DatabaseServer(command, port, _redis_answers)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def one_node_cluster() -> Iterator[DatabaseServer]:
    """A Redis cluster of one server, which refuses commands on keys of several slots as any other does."""
    with redis_cluster() as (server,):
        yield server


CLUSTER_SLOTS = 16_384


@contextlib.contextmanager
def redis_cluster(masters: int = 1, replicas: int = 0) -> Iterator[list[DatabaseServer]]:
    """Servers of a Redis cluster: the masters, then for each of them its replicas."""
    with contextlib.ExitStack() as running:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-no-failover", "no")
        servers = [
            running.enter_context(redis_server(*options, "--cluster-port", str(free_port())))
            for _ in range(masters * (1 + replicas))
        ]
        for number, server in enumerate(servers[:masters]):
            first, last = (CLUSTER_SLOTS * n // masters for n in (number, number + 1))
            server.command_to("CLUSTER", "ADDSLOTSRANGE", str(first), str(last - 1))
            server.command_to("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for server in servers[1:]:
            server.command_to("CLUSTER", "MEET", "127.0.0.1", str(servers[0].port), servers[0].command[-1])
        _wait(lambda: all(f"cluster_known_nodes:{len(servers)}" in s.command_to("CLUSTER", "INFO") for s in servers))
        for number, server in enumerate(servers[masters:]):
            server.command_to("CLUSTER", "REPLICATE", servers[number % masters].command_to("CLUSTER", "MYID").strip())
        _wait(lambda: all("cluster_state:ok" in s.command_to("CLUSTER", "INFO") for s in servers))
        _wait(lambda: all("master_link_status:up" in s.command_to("INFO", "replication") for s in servers[masters:]))
        yield servers


@contextlib.contextmanager
def redis_with_sentinel() -> Iterator[tuple[list[DatabaseServer], str]]:
    """A master and a replica that three sentinels watch: the two servers, and the URL of the service."""
    with contextlib.ExitStack() as running:
        master = running.enter_context(redis_server())
        replica = running.enter_context(redis_server("--replicaof", f"127.0.0.1 {master.port}"))
        _wait(lambda: "master_link_status:up" in replica.command_to("INFO", "replication"))
        ports = []
        for _ in range(3):
            directory = running.enter_context(tempfile.TemporaryDirectory())
            config = Path(directory, "sentinel.conf")
            config.write_text(
                f"port {(port := free_port())}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor chats 127.0.0.1 {master.port} 2\n"
                "sentinel down-after-milliseconds chats 500\nsentinel failover-timeout chats 3000\n"
            )
            watcher = DatabaseServer([str(master.command[0]), str(config), "--sentinel"], port, _redis_answers)
            running.callback(watcher.kill)
            watcher.start()
            ports.append(port)
            watchers = watcher
        _wait(lambda: "num-other-sentinels\n2" in watchers.command_to("SENTINEL", "MASTER", "chats"))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        yield [master, replica], f"redis+sentinel://{hosts}/chats/0"


def _wait(is_done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < end, "not ready in time"


@functools.cache
def _postgres() -> tuple[Path, str | None, Path]:
    """The programs of PostgreSQL, the user who runs them, and an empty database cluster to copy. Skips without them.

    PostgreSQL refuses to run as root: then it runs as the user `postgres`.
    """
    directories = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [
        Path(found).resolve().parent for name in ("postgres",) if (found := shutil.which(name))
    ]
    if not directories or not (directories[-1] / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    directory = tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    if user:
        shutil.chown(directory.name, user)
    options = ["-U", "chatmem", "-A", "trust", "-E", "UTF8", "--no-sync"]
    cluster = Path(directory.name) / "data"
    initdb = [str(directories[-1] / "initdb"), "-D", str(cluster), *options]
    subprocess.run(initdb, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)
    return directories[-1], user, cluster


@contextlib.contextmanager
def postgres_server(**settings: str) -> Iterator[DatabaseServer]:
    """A PostgreSQL server. fsync stays on, as in production."""
    _, user, empty = _postgres()
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as directory:
        if user:
            shutil.chown(directory, user)
        subprocess.run(["cp", "-a", str(empty), directory], check=True)
        with _postgres_on(f"{directory}/data", settings) as server:
            yield server


@contextlib.contextmanager
def _postgres_on(data: str, settings: dict[str, str]) -> Iterator[DatabaseServer]:
    """A PostgreSQL server on an existing cluster."""
    programs, user, _ = _postgres()
    port = free_port()
    options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(Path(data).parent)}
    options |= {"shared_buffers": "16MB", "max_connections": "100"} | settings
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    server = DatabaseServer([str(programs / "postgres"), "-D", data, *words], port, _postgres_answers, user)
    server.start()
    try:
        yield server
    finally:
        server.kill(signal.SIGQUIT)


@contextlib.contextmanager
def postgres_with_standby() -> Iterator[tuple[DatabaseServer, Callable[[], None], str]]:
    """A primary that commits once its standby has the write, a function that promotes the standby, and the URL of both."""
    programs, user, _ = _postgres()
    with contextlib.ExitStack() as running:
        primary = running.enter_context(postgres_server(synchronous_standby_names="*"))
        directory = running.enter_context(tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
        if user:
            shutil.chown(directory, user)
        data = f"{directory}/data"
        backup = [str(programs / "pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "chatmem"]
        subprocess.run([*backup, "-D", data, "-R", "--no-sync", "-c", "fast"], check=True, user=user, cwd="/")
        standby = running.enter_context(_postgres_on(data, {}))

        def promote() -> None:
            command = [str(programs / "pg_ctl"), "promote", "-D", data]
            subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)

        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        yield primary, promote, f"postgresql://chatmem@{hosts}/postgres?target_session_attrs=read-write"


@contextlib.contextmanager
def pgbouncer(server_port: int, mode: str = "transaction", *settings: str) -> Iterator[str]:
    """PgBouncer in front of a PostgreSQL server, with two connections to it. Yields its URL."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        port, ini = free_port(), Path(directory, "pgbouncer.ini")
        lines = [f"[databases]\n* = host=127.0.0.1 port={server_port} user=chatmem\n[pgbouncer]"]
        lines += ["listen_addr = 127.0.0.1", f"listen_port = {port}", "auth_type = any", "unix_socket_dir ="]
        lines += [f"pool_mode = {mode}", "default_pool_size = 2", "reserve_pool_size = 0", *settings]
        ini.write_text("\n".join(lines))
        if user:
            shutil.chown(directory, user)
            shutil.chown(ini, user)
        pooler = DatabaseServer([program, str(ini)], port, _postgres_answers, user)
        pooler.start()
        try:
            yield f"postgresql://chatmem@127.0.0.1:{port}/postgres"
        finally:
            pooler.kill(signal.SIGTERM)


def _redis_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"
    return False


def _postgres_answers(port: int) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"host=127.0.0.1 port={port} user=chatmem dbname=postgres", connect_timeout=1).close()
        return True
    return False


SERVERS: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[DatabaseServer]], str]] = {
    "redis": (redis_server, "redis://127.0.0.1:{port}/0"),
    "postgresql": (postgres_server, "postgresql://chatmem@127.0.0.1:{port}/postgres"),
}
"""How each server is started, and its address."""
_ALL_SERVERS = SERVERS | {"redis+cluster": (one_node_cluster, "redis://127.0.0.1:{port}/0")}


SCHEMES = [scheme for scheme, kind in DATABASES.items() if scheme == next(s for s, k in DATABASES.items() if k is kind)]
"""The first scheme of every database."""


@contextlib.contextmanager
def running_server(scheme: str) -> Iterator[tuple[DatabaseServer, str]]:
    """A server that one test may kill, and its address. Skips if it is not installed."""
    start, url = _ALL_SERVERS[scheme]
    pytest.importorskip(DATABASES[scheme].driver)
    with start() as server:
        yield server, url.format(port=server.port)


class Databases:
    """The servers of this process, each started when it is first asked for."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._urls: dict[str, str] = {}

    def url(self, scheme: str, directory: Path) -> str:
        """The URL of a database, one of `SCHEMES`. SQLite has its file in `directory`. Skips if it is not installed."""
        if scheme == "sqlite":
            return f"sqlite:///{directory}/chats.db"
        if scheme == "mongodb":
            url = os.environ.get("CHATMEM_TEST_MONGO_URL")
            if not url:
                pytest.skip("CHATMEM_TEST_MONGO_URL names no MongoDB server")
            return url
        if scheme not in self._urls:
            _, self._urls[scheme] = self._running.enter_context(running_server(scheme))
        return self._urls[scheme]

    def close(self) -> None:
        self._running.close()
