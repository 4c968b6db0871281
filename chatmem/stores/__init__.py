"""Where sessions are kept: the table of stores by the scheme of their URL."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from chatmem.errors import WrongUse
from chatmem.names import checked, shortened
from chatmem.stores.base import Log, Outline, Say, Store
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.memory import MemoryStore

__all__ = ["Log", "Outline", "Say", "Store", "open_store"]

DATABASES = {
    "sqlite": ("sqlite", "SqliteDatabase", ""),
    "redis": ("redis", "RedisDatabase", "redis"),
    "rediss": ("redis", "RedisDatabase", "redis"),
    "postgresql": ("postgres", "PostgresDatabase", "psycopg"),
    "postgres": ("postgres", "PostgresDatabase", "psycopg"),
    "mongodb": ("mongo", "MongoDatabase", "pymongo"),
    "mongodb+srv": ("mongo", "MongoDatabase", "pymongo"),
}
"""By the scheme of an address: the module and the class, imported when it is used, and the driver it needs."""


def open_store(url: str, data: Path, user: str = "", say: Say = lambda line: None, keep: float | None = None) -> Store:
    """The store that a URL names. What is local of it stands in `data`; `keep` seconds after its last use a session
    may go, where the server does that by itself. Raises WrongUse.
    """
    folder = data / "users" / checked(user, "user") if user else data
    scheme = url.partition(":")[0].lower()
    if url in ("file", "file:"):
        return JsonlStore.of(data, user, say)
    if scheme == "memory":
        return MemoryStore(say)
    if scheme not in DATABASES:
        raise WrongUse(
            f"There is no store for {shortened(scheme)!r}.", f"There are: file, memory:, {', '.join(DATABASES)}"
        )
    module, name, driver = DATABASES[scheme]
    if driver and not importlib.util.find_spec(driver):
        raise WrongUse(f"The driver for {scheme} is not installed.", f"pip install 'chatmem[{module}]'")
    from chatmem.stores.database_store import DatabaseStore  # only who has a database pays for it

    database = getattr(importlib.import_module(f"chatmem.stores.{module}"), name)(url, keep)
    if database.open_to_all:
        say(f"Conversations go to {database.shown} unencrypted. Ask for TLS in the store's address.")
    place = hashlib.sha256(database.identity.encode()).hexdigest()[:16]
    return DatabaseStore(database, user, folder / "databases" / place, say)
