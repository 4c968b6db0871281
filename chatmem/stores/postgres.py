"""postgresql://user:password@host:5432/database: sessions in PostgreSQL (`pip install 'chatmem[postgres]'`)."""

from __future__ import annotations

import re
import select
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from chatmem.errors import ChatmemError, NotSaved, StoreAway, WrongUse
from chatmem.stores.address import Address
from chatmem.stores.database import LEASE, PATIENCE, Line
from chatmem.stores.sql import SCHEMA, Execute, SqlDatabase

_CREATING = 0x63686174
"""The advisory lock under which the tables are made."""


class PostgresDatabase(SqlDatabase):
    """One connection, made when it is first needed and again when it breaks."""

    now = "extract(epoch FROM clock_timestamp())"
    there = "SELECT to_regclass('chatmem_schema') IS NOT NULL"

    def __init__(self, url: str, keep: float | None = None) -> None:
        self._address = address = Address.parse(url)
        self.shown, self.identity = address.shown, address.identity
        self.open_to_all = address.remote and address.query.get("sslmode") not in (
            "require",
            "verify-ca",
            "verify-full",
        )
        super().__init__()

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        """As everywhere, in one statement: a round trip takes longer than the work."""
        with self.asking(atomic=False) as execute:
            rows, _ = execute(
                f"WITH held AS (UPDATE chatmem_sessions SET last = last + :count, changed = {self.now}, "
                f"until = {self.now} + {LEASE} WHERE id = :session AND holder = :holder RETURNING last), "
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
        """A new connection if the old one was cut, which is found out before anything is sent through it."""
        if self.connection is not None and not _cut(self.connection):
            return
        self.close()
        connection = self._connected()
        execute = self.executing(connection)
        if self.version(execute) < len(SCHEMA):
            with connection.transaction():
                execute("SELECT pg_advisory_xact_lock(:number)", number=_CREATING)
                self.migrate(execute)
        self.connection = connection

    def together(self, connection: Any) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = connection.transaction()
        return found

    @staticmethod
    @cache
    def spoken(statement: str) -> str:
        return re.sub(r"(?<!:):([a-z]+)", r"%(\1)s", statement)

    def faults(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error,)

    def _connected(self) -> Any:
        address = self._address
        known = {"user": address.user, "password": address.password, "dbname": address.path}
        known |= {
            "host": ",".join(h for h, _ in address.hosts),
            "port": ",".join(p or "5432" for _, p in address.hosts),
        }
        options: dict[str, Any] = {"connect_timeout": PATIENCE, "keepalives_idle": 10, "application_name": "chatmem"}
        options |= {"tcp_user_timeout": PATIENCE * 1000, "autocommit": True}
        options["options"] = (
            f"-c statement_timeout={PATIENCE}s -c lock_timeout={PATIENCE}s -c client_min_messages=error"
        )
        return _impatient().connect(**options | {name: value for name, value in known.items() if value} | address.query)

    def translated(self, error: Any) -> ChatmemError:
        """A driver's error as ours; its text may hold what is secret, so only its kind is said."""
        import psycopg

        state, text = error.sqlstate or "", str(error)
        if state.startswith("28") or "password" in text.lower():
            return WrongUse(f"{self.shown} refuses the user or the password.", "Check the store's address.")
        # While connecting, the server's own words are all there is.
        if state.startswith("3D") or (not state and "does not exist" in text):
            return WrongUse(f"{self.shown} has no such database or user.", "Check the store's address.")
        if not state and re.search(r"SSL|certificate|pg_hba", text):
            return WrongUse(f"{self.shown} and this side do not agree on TLS.", "Check sslmode in the store's address.")
        if state == "42501":
            return WrongUse(f"{self.shown} does not let this user do that.", "Its owner has to grant it.")
        if isinstance(error, psycopg.ProgrammingError) and not state:
            return WrongUse(
                "An option in the store's address is unknown to PostgreSQL.", "Check what stands after its ?."
            )
        if not state or state.startswith(("08", "57", "55P03")):
            return StoreAway(f"{self.shown} cannot be reached.", "Check that it is running.")
        return NotSaved(f"{self.shown} refuses: {error.diag.message_primary or type(error).__name__}.")


@cache
def _impatient() -> Any:
    """psycopg's connection, which does not wait for an answer for ever: a server may be there, and stand still."""
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            begun = time.monotonic()
            try:
                return super().wait(gen, interval, timeout or PATIENCE + 1)
            except psycopg.Error:
                if time.monotonic() - begun > PATIENCE:
                    self.pgconn.finish()  # what it is in the middle of, nobody knows
                raise

    return Impatient


def _cut(connection: Any) -> bool:
    """Whether the server has ended this connection meanwhile."""
    import psycopg

    try:
        if not connection.closed and select.select([connection.fileno()], [], [], 0)[0]:
            connection.pgconn.consume_input()  # nothing was asked for: it is the end, or a notice of it
        return bool(connection.closed or connection.pgconn.status != 0)
    except (psycopg.Error, OSError, ValueError):
        return True
