"""What is set up, what is missing, and what to do about it: the doctor's questions, one finding each."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from chatmem import config, tokens
from chatmem.assemble import CONNECT, Assembly
from chatmem.errors import ChatmemError
from chatmem.models.discover import servers
from chatmem.models.openai_api import OpenAIModel
from chatmem.paths import write_private

PATIENCE = 30.0
"""Seconds that fetching one token table may take."""


class Finding(NamedTuple):
    """One line of the doctor's: what was looked at, how it is (good, missing, bad, mended), in words, and a way out."""

    what: str
    state: str
    words: str
    hint: str = ""


def checkup(assembly: Assembly, fix: bool = False) -> Iterator[Finding]:
    """Look at everything, in the order in which one would; with `fix`, mend what can be mended."""
    yield Finding("python", "good", f"{sys.version.split()[0]} on {sys.platform}")
    try:
        settings = assembly.config.settings
        where = assembly.paths.config
        yield Finding(
            "config",
            "good" if where.exists() else "missing",
            str(where),
            "" if where.exists() else "chatmem config init writes one; none is needed.",
        )
    except ChatmemError as error:
        yield Finding("config", "bad", error.message, error.hint)
        return
    yield from _model(assembly, settings)
    yield from _tables(assembly, fix)
    yield from _permissions(assembly, fix)
    yield from _sessions(assembly, fix)


def _model(assembly: Assembly, settings: config.Settings) -> Iterator[Finding]:
    key = assembly.has_key(settings)
    yield Finding(
        "key",
        "good" if key else "missing",
        f"from {_origin(settings)}" if key else "none",
        "" if key else "Local servers need none.",
    )
    try:
        model = assembly.connect(settings)
    except ChatmemError as error:
        yield Finding("model", "bad" if settings.base_url or key else "missing", error.message, CONNECT)
        yield from _local()
        return
    if not isinstance(model, OpenAIModel):
        yield Finding("model", "good", "the built-in offline model")
        return
    try:
        names = [str(m["id"]) for m in model.models()]
    except ChatmemError as error:
        yield Finding("server", "bad", error.message, error.hint)
        return
    yield Finding("server", "good", f"{model.base_url} offers {len(names)} models")
    listed = model.name in names or not names
    yield Finding(
        "model",
        "good" if listed else "bad",
        model.name,
        "" if listed else "The server does not list it: chatmem models",
    )
    choice = assembly.choose({})
    window = choice.window or choice.model.window
    yield Finding(
        "window",
        "good" if window else "missing",
        f"{window:,} tokens" if window else "unknown, taken as 8,192",
        "" if window else "Set context_window in the config.",
    )
    counter = choice.count(model.name)
    yield Finding("counting", "good", f"{counter.how}{f' with {counter.encoding}' if counter.encoding else ''}")
    yield from _local()


def _origin(settings: config.Settings) -> str:
    """Where the key comes from, in the order in which the places are asked."""
    places = {"api_key": "the config", "api_key_cmd": "a command", "api_key_keyring": "the keyring"}
    return next((place for name, place in places.items() if getattr(settings, name)), settings.api_key_env)


def _local() -> Iterator[Finding]:
    for found in servers():
        words = f"{found.kind} at {found.base_url}" + (
            ", which needs a key" if found.needs_key else f" with {len(found.models)} models"
        )
        yield Finding("local server", "good", words)


def _tables(assembly: Assembly, fix: bool) -> Iterator[Finding]:
    for name, table in tokens.TABLES.items():
        path = tokens.find_table(name, (assembly.paths.cache,))
        if path:
            yield Finding(f"token table {name}", "good", str(path))
        elif not fix:
            yield Finding(
                f"token table {name}",
                "missing",
                "counts for OpenAI's models are estimates",
                "chatmem doctor --fix fetches it.",
            )
        else:
            yield _fetched(name, table, assembly.paths.cache)


def _fetched(name: str, table: tokens.Table, folder: Path) -> Finding:
    import urllib.request  # ten milliseconds that only this needs

    what = f"token table {name}"
    try:
        with urllib.request.urlopen(table.url, timeout=PATIENCE) as response:
            data = response.read(16 << 20)
    except OSError as error:
        return Finding(
            what,
            "missing",
            f"could not be fetched: {getattr(error, 'reason', error)}",
            "Counts stay estimates; nothing else is affected.",
        )
    if hashlib.sha256(data).hexdigest() != table.sha256:
        return Finding(what, "bad", "what came is not the table: its hash is wrong", "Is a proxy in the way?")
    try:
        write_private(folder / table.file, data)
    except OSError as error:
        return Finding(what, "bad", f"could not be written: {error.strerror}", str(folder))
    return Finding(what, "mended", f"fetched to {folder / table.file}")


def _permissions(assembly: Assembly, fix: bool) -> Iterator[Finding]:
    """A place that cannot be written, and files and folders of ours that others can read."""
    paths = assembly.paths
    there = next(path for path in (paths.data, *paths.data.parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield Finding("data folder", "bad", f"{there} cannot be written", "Nothing said would be saved.")
    places = [p for p in (paths.data, paths.cache, paths.state) if p.is_dir()]
    wide = [
        p for place in places for p in (place, *place.rglob("*")) if not p.is_symlink() and p.stat().st_mode & 0o077
    ]
    if not wide or os.name != "posix":
        yield Finding("permissions", "good", f"only you can read {paths.data}")
    elif not fix:
        yield Finding(
            "permissions", "bad", f"{len(wide)} files can be read by others, {wide[0]} first", "chatmem doctor --fix"
        )
    else:
        for path in wide:
            path.chmod(0o700 if path.is_dir() else 0o600)
        yield Finding("permissions", "mended", f"{len(wide)} files are yours alone again")


def _sessions(assembly: Assembly, fix: bool) -> Iterator[Finding]:
    try:
        store = assembly.store
        names = store.names()
        damaged = [name for name in names if not store.check(name).sound]
    except ChatmemError as error:
        yield Finding("sessions", "bad", error.message, error.hint)
        return
    words = f"{len(names)} in {store.place()}"
    if damaged:
        yield Finding(
            "sessions",
            "bad",
            f"{words}, {len(damaged)} with damaged lines: {', '.join(damaged[:5])}",
            "chatmem sessions check NAME",
        )
    else:
        yield Finding("sessions", "good", words)
    if fix:
        store.rebuild()
        yield Finding("index", "mended", "rebuilt")
