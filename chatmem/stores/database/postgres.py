"""postgresql://user:password@host:5432/database: sessions in PostgreSQL (psycopg 3), also behind a connection pooler.

A pooler such as PgBouncer may give every transaction to another connection of the server. Then nothing may be set for a
session, and no statement may be prepared: limits are set in each transaction. A pooler is recognised by the process id
in its greeting, which is not that of the server's process; `?pooled=1` or `?pooled=0` says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from chatmem.errors import ChatmemError, StorageError, StoreUnavailableError, UsageError
from chatmem.stores.database.address import Address
from chatmem.stores.database.base import LEASE_SECONDS, TIMEOUT, Line
from chatmem.stores.database.postgres_connection import connection_class, is_broken
from chatmem.stores.database.sql import SCHEMA, Execute, SqlDatabase

_SCHEMA_LOCK = 0x63686174
"""The advisory lock under which the tables are created."""
_LIMITS = {
    "statement_timeout": f"{TIMEOUT}s",
    "lock_timeout": f"{TIMEOUT - 1}s",  # shorter, so that the error tells a lock from a slow server
    "idle_in_transaction_session_timeout": "10s",
}
"""So that a connection whose client is gone holds its locks for seconds, not for hours."""
_SESSION_SETTINGS = _LIMITS | {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_min_messages": "error",
}
_SET_FOR_SESSION = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION_SETTINGS.items())
_SET_FOR_TRANSACTION = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _LIMITS.items())
_UNKNOWN_OPTION = (
    "PostgreSQL does not know an option of the store's URL.",
    "Check the options after the ? of the URL.",
)
_DRIVER_OPTIONS = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}
"""Arguments of the driver that are not options of PostgreSQL."""
PREPARE_AFTER = 5
"""How often a statement is run before it is prepared."""


class PostgresDatabase(SqlDatabase):
    """One connection, opened on first use and again when it breaks."""

    clock = "extract(epoch FROM clock_timestamp())"
    schema_exists = "SELECT to_regclass('chatmem_schema') IS NOT NULL"

    def __init__(self, url: str, ttl: float | None = None) -> None:
        address = Address.parse(url)
        self._pooled = address.query.pop("pooled", "auto")
        if self._pooled not in ("auto", "0", "1"):
            raise UsageError(f"pooled = {self._pooled!r} is not valid in a store's URL.", "Write pooled=1 or pooled=0.")
        self._address = address
        self.display_url, self.identity = address.display_url, address.identity
        self.unencrypted = address.is_remote and address.query.get("sslmode") not in (
            "require",
            "verify-ca",
            "verify-full",
        )
        super().__init__()

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        """The same as elsewhere in one statement, to save a round trip."""
        with self.session(atomic=False) as execute:
            rows, _ = execute(
                f"WITH held AS (UPDATE chatmem_sessions SET last = last + :count, changed = {self.clock}, "
                f"until = {self.clock} + {LEASE_SECONDS} WHERE id = :session AND holder = :holder RETURNING last), "
                "added AS (INSERT INTO chatmem_records (session, number, id, record) "
                "SELECT :session, held.last - :count + n, new.id, new.record FROM held, "
                "unnest(:ids ::text[], :records ::text[]) WITH ORDINALITY AS new (id, record, n) "
                "ON CONFLICT DO NOTHING) SELECT last FROM held",
                session=session,
                holder=holder,
                count=len(lines),
                ids=[ident for ident, _ in lines],
                records=[record for _, record in lines],
            )
        return int(rows[0][0]) if rows else None

    def add(self, execute: Execute, session: str, first: int, lines: Sequence[Line]) -> None:
        execute(
            "INSERT INTO chatmem_records (session, number, id, record) "
            "SELECT :session, :first - 1 + n, id, record "
            "FROM unnest(:ids ::text[], :records ::text[]) WITH ORDINALITY AS new (id, record, n) "
            "ON CONFLICT DO NOTHING",
            session=session,
            first=first,
            ids=[ident for ident, _ in lines],
            records=[record for _, record in lines],
        )

    def connect(self) -> None:
        """Open a new connection if the old one was cut, which is checked before anything is sent."""
        if self.connection is not None and not is_broken(self.connection):
            return
        self.close()
        connection = self._connected()
        execute = self.executor(connection)
        self.always_atomic = self._is_pooled(connection, execute)
        connection.prepare_threshold = None if self.always_atomic else PREPARE_AFTER
        if self.version(execute) < len(SCHEMA):
            with connection.transaction():
                execute("SELECT pg_advisory_xact_lock(:number)", number=_SCHEMA_LOCK)
                self.migrate(execute)
        self.connection = connection

    def _is_pooled(self, connection: Any, execute: Execute) -> bool:
        """Whether a pooler stands between. If not, the settings of the session are set."""
        if self._pooled == "1":
            return True
        pid = "pg_backend_pid()" if self._pooled == "0" else connection.info.backend_pid
        rows, _ = execute(f"SELECT CASE WHEN pg_backend_pid() = {pid} THEN ARRAY[{_SET_FOR_SESSION}] END")
        return rows[0][0] is None

    @contextmanager
    def begin(self, connection: Any) -> Iterator[None]:
        with connection.transaction():
            if self.always_atomic:
                connection.execute(_SET_FOR_TRANSACTION)
            yield

    @staticmethod
    @cache
    def dialect(statement: str) -> str:
        return re.sub(r"(?<!:):([a-z]+)", r"%(\1)s", statement)

    def driver_errors(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def _connected(self) -> Any:
        address = self._address
        known = {"user": address.user, "password": address.password, "dbname": address.path}
        known |= {
            "host": ",".join(h for h, _ in address.hosts),
            "port": ",".join(p or "5432" for _, p in address.hosts),
        }
        options: dict[str, Any] = {"connect_timeout": TIMEOUT, "keepalives_idle": 10, "application_name": "chatmem"}
        options |= {"tcp_user_timeout": TIMEOUT * 1000, "autocommit": True}
        options |= {"keepalives_interval": 5, "keepalives_count": 3, "prepare_threshold": None}
        options["client_encoding"] = "UTF8"  # a database in SQL_ASCII would send bytes
        if address.query.keys() & _DRIVER_OPTIONS:
            raise UsageError(*_UNKNOWN_OPTION)
        return connection_class().connect(
            **options | {name: value for name, value in known.items() if value} | address.query
        )

    def map_error(self, error: Any) -> ChatmemError:
        """Translate an exception of the driver. Its text may contain secrets, so only its kind is shown."""
        import psycopg

        state, text = error.sqlstate or "", str(error)
        if state.startswith("28") or "password" in text.lower():
            return UsageError(f"{self.display_url} refused the user or the password.", "Check the store's URL.")
        # Errors during the connection have no code, only the server's message.
        if state.startswith("3D") or (not state and "does not exist" in text):
            return UsageError(f"{self.display_url} has no such database or user.", "Check the store's URL.")
        if not state and re.search(r"SSL|certificate|pg_hba", text):
            return UsageError(
                f"{self.display_url} and this side do not agree on TLS.", "Check sslmode in the store's address."
            )
        if state == "42501":
            return UsageError(f"{self.display_url} denied permission to this user.", "Ask its owner for it.")
        if isinstance(error, psycopg.ProgrammingError) and not state:
            return UsageError(*_UNKNOWN_OPTION)
        if "startup parameter" in text:
            return UsageError(f"The pooler at {self.display_url} refuses an option of the store's URL.", "Remove it.")
        if state == "55P03":
            reason = f"Another connection to {self.display_url} holds a lock on this session."
            return StorageError(reason, "It is released when that connection ends.")
        if state == "57014":
            return StoreUnavailableError(f"{self.display_url} did not answer within {TIMEOUT} s.", "Is it overloaded?")
        if not state or state.startswith(("08", "57")):
            return StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check that it is running.")
        return StorageError(f"{self.display_url} refused: {error.diag.message_primary or type(error).__name__}.")
