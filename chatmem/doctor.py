"""Checks of the installation: what is configured, what is missing, and what to do about it."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from chatmem.app import HOW_TO_CONNECT, App
from chatmem.config.settings import Settings
from chatmem.errors import ChatmemError
from chatmem.models.discovery import find_local_servers
from chatmem.paths import atomic_write
from chatmem.text import pluralize
from chatmem.tokens.encodings import ENCODINGS, EncodingFile, find_encoding_file

DOWNLOAD_TIMEOUT = 30.0
"""Seconds that downloading one encoding file may take."""
MAX_DOWNLOAD_BYTES = 16 << 20


class CheckResult(NamedTuple):
    """The result of one check. `status` is good, missing, bad or fixed."""

    name: str
    status: str
    detail: str
    hint: str = ""
    fixable: bool = False
    """Whether `run_checks` with `fix` fixes it."""

    def record(self) -> dict[str, Any]:
        """The fields of `doctor --json`."""
        return {"what": self.name, "state": self.status, "words": self.detail, "hint": self.hint}


def run_checks(app: App, fix: bool = False) -> Iterator[CheckResult]:
    """Check everything. With `fix`, fix what can be fixed."""
    yield CheckResult("python", "good", f"{sys.version.split()[0]} on {sys.platform}")
    path = app.paths.config
    try:
        settings = app.config.settings
    except ChatmemError as error:
        yield CheckResult("config", "bad", error.message, error.hint)
        return
    if path.exists():
        yield CheckResult("config", "good", str(path))
    else:
        yield CheckResult("config", "missing", str(path), "There is none. It is optional.")
    yield from _check_model(app, settings)
    yield from _check_encodings(app, fix)
    yield from _check_permissions(app, fix)
    yield from _check_sessions(app, fix)


def _check_model(app: App, settings: Settings) -> Iterator[CheckResult]:
    has_key = app.has_key(settings)
    if has_key:
        yield CheckResult("key", "good", f"from {_key_origin(settings)}")
    else:
        yield CheckResult("key", "missing", "none", "Local servers need none.")
    try:
        model = app.resolve_model(settings)
    except ChatmemError as error:
        status = "bad" if settings.base_url or has_key else "missing"
        yield CheckResult("model", status, error.message, HOW_TO_CONNECT)
        yield from _check_local_servers()
        return
    if not model.server:
        yield CheckResult("model", "good", "the built-in offline model")
        return
    try:
        names = [str(m["id"]) for m in model.list_models()]
    except ChatmemError as error:
        yield CheckResult("server", "bad", error.message, error.hint)
        return
    yield CheckResult("server", "good", f"{model.server} lists {pluralize(len(names), 'model')}")
    if model.name in names or not names:
        yield CheckResult("model", "good", model.name)
    else:
        yield CheckResult("model", "bad", model.name, "The server does not list it.")
    config = app.resolve_turn({})
    limits = config.limits
    if limits.is_assumed:
        yield CheckResult(
            "window", "missing", f"unknown, {limits.window:,} assumed", "Set context_window in the config."
        )
    else:
        yield CheckResult("window", "good", f"{limits.window:,} tokens")
    counter = config.counter_for(model.name)
    encoding = f" with {counter.encoding}" if counter.encoding else ""
    yield CheckResult("counting", "good", f"{counter.method}{encoding}")
    yield CheckResult("prices", "good", f"genai-prices {version('genai-prices')}")
    yield from _check_local_servers()


def _key_origin(settings: Settings) -> str:
    """Where the key comes from, in order of precedence."""
    origins = {"api_key": "the config", "api_key_cmd": "a command", "api_key_keyring": "the keyring"}
    return next((origin for name, origin in origins.items() if getattr(settings, name)), settings.api_key_env)


def _check_local_servers() -> Iterator[CheckResult]:
    for server in find_local_servers():
        detail = "needs a key" if server.needs_key else f"{len(server.models)} models"
        yield CheckResult("local server", "good", f"{server.kind} at {server.base_url}: {detail}")


def _check_encodings(app: App, fix: bool) -> Iterator[CheckResult]:
    for name, encoding in ENCODINGS.items():
        what = f"token table {name}"
        if path := find_encoding_file(name, (app.paths.cache,)):
            yield CheckResult(what, "good", str(path))
        elif fix:
            yield _download(what, encoding, app.paths.cache)
        else:
            yield CheckResult(what, "missing", "token counts of OpenAI's models are estimates", fixable=True)


def _download(what: str, encoding: EncodingFile, directory: Path) -> CheckResult:
    import urllib.request  # imported lazily: takes 10 ms

    try:
        with urllib.request.urlopen(encoding.url, timeout=DOWNLOAD_TIMEOUT) as response:
            data = response.read(MAX_DOWNLOAD_BYTES)
    except OSError as error:
        reason = getattr(error, "reason", error)
        return CheckResult(what, "missing", f"download failed: {reason}", "Token counts stay estimates.")
    if hashlib.sha256(data).hexdigest() != encoding.sha256:
        return CheckResult(
            what, "bad", "the downloaded file has the wrong hash", "Check whether a proxy changes downloads."
        )
    path = directory / encoding.file_name
    try:
        atomic_write(path, data)
    except OSError as error:
        return CheckResult(what, "bad", f"cannot be written: {error.strerror}", str(directory))
    return CheckResult(what, "fixed", f"downloaded to {path}")


def _check_permissions(app: App, fix: bool) -> Iterator[CheckResult]:
    """Check that the data directory is writable and that other users cannot read its files."""
    paths = app.paths
    existing = next(path for path in (paths.data, *paths.data.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield CheckResult("data directory", "bad", f"{existing} is not writable", "Nothing would be saved.")
    roots = [p for p in (paths.data, paths.cache, paths.state) if p.is_dir()]
    exposed = [p for root in roots for p in (root, *root.rglob("*")) if not p.is_symlink() and p.stat().st_mode & 0o077]
    if not exposed or os.name != "posix":
        yield CheckResult("permissions", "good", f"only you can read {paths.data}")
    elif fix:
        for path in exposed:
            path.chmod(0o700 if path.is_dir() else 0o600)
        yield CheckResult("permissions", "fixed", f"made {pluralize(len(exposed), 'path')} private")
    else:
        detail = f"other users can read {pluralize(len(exposed), 'path')}, such as {exposed[0]}"
        yield CheckResult("permissions", "bad", detail, fixable=True)


def _check_sessions(app: App, fix: bool) -> Iterator[CheckResult]:
    try:
        store = app.store
        reports = list(store.check_all())
        damaged = [report.session for report in reports if not report.ok]
    except ChatmemError as error:
        yield CheckResult("sessions", "bad", error.message, error.hint)
        return
    detail = f"{len(reports)} in {store.location()}"
    if damaged:
        detail += f", {len(damaged)} with malformed lines: {', '.join(damaged[:5])}"
        yield CheckResult("sessions", "bad", detail, "Check one of them for details.")
    else:
        yield CheckResult("sessions", "good", detail)
    for other, name in store.conflict_copies().items():
        hint = f"Merge it: chatmem sessions merge {shlex.quote(name)} {shlex.quote(other)}"
        yield CheckResult("copy", "bad", f"a synchroniser left {other!r} beside session {name!r}", hint)
    if fix:
        store.rebuild_index()
        yield CheckResult("index", "fixed", "rebuilt")
