"""Where an API key comes from: the config, a command, the keyring, or the environment."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import threading
from collections.abc import Callable
from typing import Protocol

from chatmem.errors import AuthenticationError

MAX_OUTPUT_BYTES = 64 << 10
"""The most that a key command may print."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a key command may take. A password manager may have to ask its user."""


class KeySource(Protocol):
    """The settings that say where the key is."""

    @property
    def api_key(self) -> str | None: ...
    @property
    def api_key_cmd(self) -> str | None: ...
    @property
    def api_key_keyring(self) -> str | None: ...
    @property
    def api_key_env(self) -> str: ...


def api_key_getter(source: KeySource) -> Callable[[], str] | None:
    """A function that returns the key, or None if no key is set. Calling it may raise AuthenticationError."""
    if key := source.api_key:
        return lambda: key
    if command := source.api_key_cmd:
        return lambda: _from_command(command)
    if service := source.api_key_keyring:
        return lambda: _from_keyring(service)
    if source.api_key_env and (value := os.environ.get(source.api_key_env, "").strip()):
        return lambda: value
    return None


def _from_command(command: str) -> str:
    """The first line that a command prints. Its output is never shown, not even if it fails."""
    name = command.split()[0] if command.split() else command
    output, status = b"", ""
    with contextlib.suppress(OSError, ValueError, IndexError):
        output, code = _bounded_output(shlex.split(command))
        status = f" (exit {code})" if code else ""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    if status or not lines:
        raise AuthenticationError(f"The key command {name!r} printed no key{status}.", "Run it yourself to see why.")
    return lines[0]


def _bounded_output(command: list[str]) -> tuple[bytes, int]:
    """The start of what a command prints, and its exit code. It is killed after too many bytes or seconds."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        timer = threading.Timer(COMMAND_TIMEOUT, process.kill)
        timer.start()
        try:
            output = process.stdout.read(MAX_OUTPUT_BYTES + 1)
            if len(output) > MAX_OUTPUT_BYTES:
                process.kill()
            return output, process.wait()
        finally:
            timer.cancel()


def _from_keyring(service: str) -> str:
    """The key that the system's keyring holds for a service, under the user name chatmem."""
    try:
        import keyring
    except ImportError:
        raise AuthenticationError("The keyring package is not installed.", "pip install 'keyring>=25'") from None
    try:
        key = keyring.get_password(service, "chatmem")
    except Exception as error:  # noqa: BLE001  # backends may raise anything
        raise AuthenticationError(
            f"Cannot read the keyring: {type(error).__name__}.", "Use api_key_cmd or api_key_env."
        ) from None
    if not key:
        raise AuthenticationError(f"The keyring has no key for {service!r}.", f"keyring set {service} chatmem")
    return str(key)
