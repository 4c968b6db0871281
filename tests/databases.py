"""Real database servers on free ports and in temporary folders, started once for all tests of a process."""

from __future__ import annotations

import contextlib
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


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class DatabaseServer:
    """A server that can be killed and started again with what it had."""

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

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """It is there, and answers nothing; nor do the processes that it began."""
        assert self.process
        words = ["pgrep", "-P", str(self.process.pid)]
        began = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
        processes = [self.process.pid, *map(int, began)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def redis_server() -> Iterator[DatabaseServer]:
    """redis-server that writes every command to its file before it answers."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        options = {"port": str(port), "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always", "daemonize": "no"}
        server = DatabaseServer(
            [program, *(part for k, v in options.items() for part in (f"--{k}", v))], port, _redis_answers
        )
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def postgres_server() -> Iterator[DatabaseServer]:
    """PostgreSQL, which refuses to run as root: then it runs as the user `postgres`."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [
        Path(found).parent for name in ("postgres",) if (found := shutil.which(name))
    ]
    if not places or not (places[-1] / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        data, port = f"{folder}/data", free_port()
        initdb = [str(places[-1] / "initdb"), "-D", data, "-U", "chatmem", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)
        # As on a laptop's disk, a write is waited for: `fsync` stays on.
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
        options |= {"shared_buffers": "16MB", "max_connections": 100}
        command = [
            str(places[-1] / "postgres"),
            "-D",
            data,
            *(w for k, v in options.items() for w in ("-c", f"{k}={v}")),
        ]
        server = DatabaseServer(command, port, _postgres_answers, user)
        server.start()
        try:
            yield server
        finally:
            server.kill(signal.SIGQUIT)


def _redis_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as one:
        one.sendall(b"PING\r\n")
        return one.recv(7) == b"+PONG\r\n"
    return False


def _postgres_answers(port: int) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"host=127.0.0.1 port={port} user=chatmem dbname=postgres", connect_timeout=1).close()
        return True
    return False


SERVERS: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[DatabaseServer]], str]] = {
    "redis": (redis_server, "redis://127.0.0.1:{port}/0"),
    "postgres": (postgres_server, "postgresql://chatmem@127.0.0.1:{port}/postgres"),
}
"""How each server is started, and its address."""


class Databases:
    """The servers of this process, each started when it is first asked for."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._urls: dict[str, str] = {}

    def url(self, kind: str, folder: Path) -> str:
        """The address of a store: a name without a server, one of SERVERS, `sqlite` in a folder, or `mongo`."""
        if kind == "sqlite":
            return f"sqlite:///{folder}/chats.db"
        if kind == "mongo":
            url = os.environ.get("CHATMEM_TEST_MONGO_URL")
            if not url:
                pytest.skip("CHATMEM_TEST_MONGO_URL names no MongoDB server")
            return url
        if kind in SERVERS and kind not in self._urls:
            start, url = SERVERS[kind]
            pytest.importorskip({"postgres": "psycopg"}.get(kind, kind))
            self._urls[kind] = url.format(port=self._running.enter_context(start()).port)
        return self._urls.get(kind, kind)

    def close(self) -> None:
        self._running.close()
