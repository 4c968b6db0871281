"""Where an API key comes from: a config nobody else can read, a command, the keyring, or the environment."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from typing import Protocol

from chatmem.errors import KeyRefused

PATIENCE = 60.0
"""Seconds a key command may take: a password manager may ask its owner something."""


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


def key_of(source: KeySource) -> Callable[[], str] | None:
    """What gives the key when it is needed, or None if none is set. Calling it may raise KeyRefused."""
    if key := source.api_key:
        return lambda: key
    if command := source.api_key_cmd:
        return lambda: _printed(command)
    if service := source.api_key_keyring:
        return lambda: _from_keyring(service)
    if source.api_key_env and (value := os.environ.get(source.api_key_env, "").strip()):
        return lambda: value
    return None


def _printed(command: str) -> str:
    """The first line that a command prints. What it prints is never shown, not even when it fails."""
    name = command.split()[0] if command.split() else command
    try:
        done = subprocess.run(
            shlex.split(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True, text=True
        )
        return done.stdout.strip().splitlines()[0]
    except (OSError, ValueError, subprocess.SubprocessError, IndexError) as error:
        status = f" (exit {error.returncode})" if isinstance(error, subprocess.CalledProcessError) else ""
        raise KeyRefused(f"The key command {name!r} gave no key{status}.", "Run it yourself to see why.") from None


def _from_keyring(service: str) -> str:
    """The key that the system's keyring keeps for a service, under the user name chatmem."""
    try:
        import keyring
    except ImportError:
        raise KeyRefused("The keyring is not installed.", "pip install 'chatmem[keyring]'") from None
    try:
        key = keyring.get_password(service, "chatmem")
    except Exception as error:  # noqa: BLE001  # its backends raise what they like
        raise KeyRefused(
            f"The keyring cannot be asked: {type(error).__name__}.", "Use api_key_cmd or api_key_env."
        ) from None
    if not key:
        raise KeyRefused(f"The keyring has no key for {service!r}.", f"keyring set {service} chatmem")
    return str(key)
