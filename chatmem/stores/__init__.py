"""Stores: the table of them, by the scheme of their URL."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from chatmem.errors import Notify, UsageError, ignore_notices
from chatmem.history.names import validate
from chatmem.stores.base import DeletedSession, SessionInfo, SessionLog, SessionStore
from chatmem.stores.file.store import FileStore
from chatmem.stores.memory import MemoryStore
from chatmem.text import truncate

__all__ = ["DeletedSession", "SessionInfo", "SessionLog", "SessionStore", "open_store"]


class DatabaseType(NamedTuple):
    """Where the class of a database is, and the driver it needs. Both are imported on use: they are slow."""

    module: str
    class_name: str
    driver: str = ""
    requirement: str = ""
    """What pip installs the driver with."""


_DATABASES = "chatmem.stores.database"
SQLITE = DatabaseType(f"{_DATABASES}.sqlite", "SqliteDatabase")
REDIS = DatabaseType(f"{_DATABASES}.redis", "RedisDatabase", "redis", "redis>=6")
POSTGRES = DatabaseType(f"{_DATABASES}.postgres", "PostgresDatabase", "psycopg", "psycopg[binary]>=3.3")
MONGO = DatabaseType(f"{_DATABASES}.mongo", "MongoDatabase", "pymongo", "pymongo>=4.9")

DATABASES: dict[str, DatabaseType] = {
    "sqlite": SQLITE,
    "redis": REDIS,
    "rediss": REDIS,
    "redis+cluster": REDIS,
    "rediss+cluster": REDIS,
    "redis+sentinel": REDIS,
    "rediss+sentinel": REDIS,
    "postgresql": POSTGRES,
    "postgres": POSTGRES,
    "mongodb": MONGO,
    "mongodb+srv": MONGO,
}
"""The databases by the scheme of their URL."""


def open_store(
    url: str, data: Path, user: str = "", notify: Notify = ignore_notices, ttl: float | None = None
) -> SessionStore:
    """The store at a URL. Local files of it are in the directory `data`. Raises UsageError.

    Sessions unused for `ttl` seconds may expire, where the server does that itself.
    """
    scheme = url.partition(":")[0].lower()
    if url in ("file", "file:"):
        return FileStore.for_user(data, user, notify)
    if scheme == "memory":
        return MemoryStore(notify)
    if scheme not in DATABASES:
        raise UsageError(f"Unknown store type {truncate(scheme)!r}.", f"Stores: file, memory:, {', '.join(DATABASES)}")
    kind = DATABASES[scheme]
    if kind.driver and not importlib.util.find_spec(kind.driver):
        raise UsageError(f"The driver for {scheme} is not installed.", f"pip install '{kind.requirement}'")
    import hashlib  # imported lazily: slow

    from chatmem.stores.database.store import DatabaseStore

    database = getattr(importlib.import_module(kind.module), kind.class_name)(url, ttl)
    if database.unencrypted:
        notify(f"Conversations are sent to {database.display_url} unencrypted. Enable TLS in the store's URL.")
    home = data / "users" / validate(user, "user") if user else data
    directory = home / "databases" / hashlib.sha256(database.identity.encode()).hexdigest()[:16]
    return DatabaseStore(database, user, directory, notify)
