"""Fixtures of all tests: a home of its own, no keys, no network but loopback."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.databases import SERVERS, Databases, DatabaseServer, running_server
from tests.fork_server import ForkServer
from tests.server import Server

settings.register_profile("ci", deadline=None, print_blob=True, derandomize=False)
settings.load_profile("ci")

Run = Callable[..., subprocess.CompletedProcess[str]]
RecordProperty = Callable[[str, object], None]
"""The fixture `record_property` of pytest."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that no file or variable of the user is read or written."""
    for name in list(os.environ):
        own = name.startswith("CHATMEM_") and not name.startswith("CHATMEM_TEST_")
        if own or name.startswith(("OPENAI_", "AZURE_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # without bytecode every process starts slowly
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHATMEM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHATMEM_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text('discover = false\ntitles = "off"\n')  # so that tests can count requests
    return tmp_path


@pytest.fixture(autouse=True)
def collected_garbage() -> Iterator[None]:
    """A command excludes everything from garbage collection, once per process. Here there are many of them."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer | None]:
    """Runs the program quickly, where processes can be forked and need not be measured."""
    if sys.platform != "linux" or any(name.startswith("COV") for name in os.environ):
        yield None
        return
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def run(fork_server: ForkServer | None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program in a process of its own."""

    def run(
        *arguments: str, input: str | bytes | None = "", timeout: float = 60, **env: str
    ) -> subprocess.CompletedProcess[str]:
        data = input.encode() if isinstance(input, str) else input or b""
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            needs_interpreter = any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env)
            done = fork_server.run(arguments, data, timeout) if fork_server and not needs_interpreter else None
            if done is None:
                command = [sys.executable, "-m", "chatmem", *arguments]
                done = subprocess.run(command, input=data, capture_output=True, timeout=timeout)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An OpenAI-compatible server on loopback that a test controls to the byte. Its URL is configured."""
    with Server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-canary-0123456789")
        monkeypatch.setenv("CHATMEM_MODEL", "test-model")
        yield server


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random number generator. Its seed is printed when the test fails; CHATMEM_TEST_SEED repeats it."""
    seed = int(os.environ.get("CHATMEM_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed: {seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Real database servers, each started when a test first asks for it."""
    running = Databases()
    yield running
    running.close()


@pytest.fixture(params=list(SERVERS))
def own_server(request: pytest.FixtureRequest) -> Iterator[tuple[DatabaseServer, str]]:
    """A database server of one test, which may kill it, and its address."""
    with running_server(request.param) as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Restore SIGINT and SIGHUP. Background jobs ignore them, and so would every process that a test starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the claim that a test belongs to into the JUnit report, for `tests/benchmarks/reliability.py`."""
    for marker in item.iter_markers("claim"):
        item.user_properties.append(("claim", marker.args[0]))
