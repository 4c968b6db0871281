"""Runs the command line in processes that are forked from one that has imported it: much faster than new interpreters.

Each run is a process of its own, with its own arguments, environment, working directory and standard streams. What a
test does to the imports themselves needs a new interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import chatmem

MAX_REQUEST_BYTES = 100_000
"""The longest request that is sent as one packet."""
PRELOADED = (
    "openai.resources.chat.completions",
    "markdown_it",
    "pygments.lexers",
    "sqlite3",
    "redis",
    "psycopg",
    "pymongo",
)


class ForkServer:
    """A process that has imported the command line, and forks a child for each run."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.fork_server", str(other.fileno())]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[1], pass_fds=[other.fileno()], stdin=subprocess.DEVNULL
        )
        other.close()

    def run(self, arguments: Sequence[str], data: bytes, timeout: float) -> subprocess.CompletedProcess[bytes] | None:
        """Run the command line with the environment of this process. None if the arguments are too long."""
        request = json.dumps({"arguments": arguments, "env": dict(os.environ), "cwd": str(Path.cwd())}).encode()
        if len(request) > MAX_REQUEST_BYTES:
            return None
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdin.write(data)
            stdin.seek(0)
            self._socket.settimeout(timeout)
            socket.send_fds(self._socket, [request], [stdin.fileno(), out.fileno(), err.fileno()])
            pid = int(self._socket.recv(100))
            try:
                status = int(self._socket.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._socket.settimeout(None)
                self._socket.recv(100)
                raise subprocess.TimeoutExpired(list(arguments), timeout) from None
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(list(arguments), status, out.read(), err.read())

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def serve(server: socket.socket) -> list[str] | None:
    """Fork a child for each request. Returns its arguments in the child, and None in the parent at the end."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(server, 2 * MAX_REQUEST_BYTES, 3)
        if not data:
            return None
        pid = os.fork()
        if pid == 0:
            server.close()
            return become(json.loads(data), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        server.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        server.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: dict[str, object], descriptors: Sequence[int]) -> list[str]:
    """Take over the environment and the standard streams of a request."""
    os.chdir(str(request["cwd"]))
    env, arguments = request["env"], request["arguments"]
    assert isinstance(env, dict) and isinstance(arguments, list)
    for name in os.environ.keys() - env.keys():
        del os.environ[name]
    os.environ.update(env)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False), encoding, errors)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding, errors)  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        encoding,
        "backslashreplace",
        line_buffering=True,
    )
    return arguments


if __name__ == "__main__":
    for module in (*PRELOADED, *(found.name for found in pkgutil.walk_packages(chatmem.__path__, "chatmem."))):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # the children neither copy nor free these objects
    found = serve(socket.socket(fileno=int(sys.argv[1])))
    if found is not None:
        from chatmem.__main__ import main
        from tests.faults.kill_at_line import kill_at_line

        if counter := os.environ.pop("TEST_LINE_COUNTER", ""):
            kill_at_line(int(os.environ.pop("TEST_KILLED_AT_LINE")), counter)
        sys.argv = ["chatmem", *found]
        main()
