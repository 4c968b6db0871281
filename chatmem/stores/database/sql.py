"""Sessions in tables: what SQLite and PostgreSQL have in common.

Numbers and ids of records are unique in a session. The lease is two columns of the session's row. The schema has a
version, and later versions only add to it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Protocol

from chatmem.errors import ChatmemError
from chatmem.stores.database.base import (
    LEASE_SECONDS,
    PENDING_USER,
    TRASH_SECONDS,
    Database,
    Line,
    SessionRow,
    owner_prefix,
)

SCHEMA: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE chatmem_sessions (id TEXT PRIMARY KEY, last BIGINT NOT NULL, changed DOUBLE PRECISION NOT NULL, "
        "holder TEXT, until DOUBLE PRECISION)",
        "CREATE TABLE chatmem_names (username TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, "
        "session TEXT NOT NULL, owner TEXT, PRIMARY KEY (username, key))",
        "CREATE INDEX chatmem_names_by_session ON chatmem_names (session)",
        "CREATE TABLE chatmem_records (session TEXT NOT NULL, number BIGINT NOT NULL, id TEXT NOT NULL, "
        "record TEXT NOT NULL, PRIMARY KEY (session, number), UNIQUE (session, id))",
    ),
)
"""The statements that lead from each version of the schema to the next one."""


class Execute(Protocol):
    """Runs a statement with `:named` parameters. Returns the rows, and how many rows were affected."""

    def __call__(self, statement: str, **parameters: Any) -> tuple[list[tuple[Any, ...]], int]: ...


class SqlDatabase(Database):
    """Sessions, names and records in three tables."""

    clock: ClassVar[str]
    """The server's clock in seconds, as an expression."""
    schema_exists: ClassVar[str]
    """A query for whether the table of schema versions exists."""

    always_atomic: bool = False
    """Whether even a single statement needs a transaction."""

    def __init__(self, lock: threading.RLock | None = None) -> None:
        """`lock` guards the connection."""
        self.connection: Any = None
        """The one connection, made when it is first needed."""
        self._lock = lock or threading.RLock()

    def close(self) -> None:
        with self._lock:
            if self.connection is not None:
                self.connection.close()
            self.connection = None

    @contextmanager
    def session(self, atomic: bool = True) -> Iterator[Execute]:
        """Run statements: all or none if `atomic`. Raises StoreUnavailableError and StorageError."""
        with self._lock, self.circuit_breaker():
            try:
                self.connect()
                with self.begin(self.connection) if atomic or self.always_atomic else nullcontext():
                    yield self.executor(self.connection)
            except self.driver_errors() as error:
                raise self.map_error(error) from None

    def executor(self, connection: Any) -> Execute:
        """A function that runs statements on a connection."""

        def execute(statement: str, **parameters: Any) -> tuple[list[tuple[Any, ...]], int]:
            cursor = connection.execute(self.dialect(statement), parameters)
            return cursor.fetchall() if cursor.description else [], cursor.rowcount

        return execute

    @staticmethod
    def dialect(statement: str) -> str:
        """A statement with its `:named` parameters in the driver's style."""
        return statement

    @abstractmethod
    def connect(self) -> None:
        """Make sure that there is a working connection to a database with our tables."""

    @abstractmethod
    def begin(self, connection: Any) -> AbstractContextManager[Any]:
        """A transaction."""

    @abstractmethod
    def driver_errors(self) -> tuple[type[Exception], ...]:
        """The exceptions of the driver."""

    @abstractmethod
    def map_error(self, error: Any) -> ChatmemError:
        """Translate an exception of the driver."""

    @abstractmethod
    def add(self, execute: Execute, session: str, first: int, lines: Sequence[Line]) -> None:
        """Insert records, numbered from `first`, except those whose id exists."""

    def migrate(self, execute: Execute) -> None:
        """Upgrade the schema to this version. A newer one works as it is: versions only add."""
        execute("CREATE TABLE IF NOT EXISTS chatmem_schema (version INTEGER NOT NULL)")
        for version in range(self.version(execute), len(SCHEMA)):
            for statement in SCHEMA[version]:
                execute(statement)
            execute("INSERT INTO chatmem_schema (version) VALUES (:version)", version=version + 1)

    def version(self, execute: Execute) -> int:
        """The version of the schema in the database, 0 for none."""
        rows, _ = execute(self.schema_exists)
        if not rows[0][0]:
            return 0
        rows, _ = execute("SELECT MAX(version) FROM chatmem_schema")
        return int(rows[0][0] or 0)

    def rows(self, user: str, key: str | None = None, session: str | None = None) -> list[SessionRow]:
        only = " AND n.key = :key" if key is not None else " AND n.session = :session" if session is not None else ""
        with self.session(atomic=False) as execute:
            rows, _ = execute(
                "SELECT n.name, n.session, n.owner, s.last, s.changed FROM chatmem_names n "
                f"JOIN chatmem_sessions s ON s.id = n.session WHERE n.username = :user{only}",
                user=user,
                **({"key": key} if key is not None else {"session": session} if session is not None else {}),
            )
        return [SessionRow(*row) for row in rows]

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        with self.session() as execute:
            if not self._name(execute, user, key, name, session, None):
                return False
            execute(
                f"INSERT INTO chatmem_sessions (id, last, changed) VALUES (:id, :last, {self.clock})",
                id=session,
                last=len(lines),
            )
            self.add(execute, session, 1, lines)
        return True

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        with self.session() as execute:  # the session first: one that is removed at this moment must not get a name
            touch = f"UPDATE chatmem_sessions SET changed = {self.clock} WHERE id = :session"
            return execute(touch, session=session)[1] > 0 and self._name(execute, user, key, name, session, owner)

    def unlink(self, session: str, user: str | None = None) -> None:
        with self.session(atomic=False) as execute:
            if user is None:
                execute(f"UPDATE chatmem_sessions SET changed = {self.clock} WHERE id = :session", session=session)
                execute("DELETE FROM chatmem_names WHERE session = :session", session=session)
            else:
                execute(
                    "DELETE FROM chatmem_names WHERE session = :session AND username = :user",
                    session=session,
                    user=user,
                )
        self._sweep()

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        with self.session() as execute:
            taken, _ = execute(
                "SELECT 1 FROM chatmem_names WHERE username = :user AND key = :key AND session <> :session",
                user=user,
                key=key,
                session=session,
            )
            if taken:
                return False
            execute(
                "UPDATE chatmem_names SET key = :key, name = :name WHERE username = :user AND session = :session",
                user=user,
                session=session,
                key=key,
                name=name,
            )
        return True

    def purge(self, session: str) -> None:
        with self.session() as execute:
            execute("DELETE FROM chatmem_sessions WHERE id = :session", session=session)
            self._purge_rest(execute, session)

    @staticmethod
    def _purge_rest(execute: Execute, session: str) -> None:
        """Remove the names and records of a session that was removed in this transaction."""
        for table in ("names", "records"):
            execute(f"DELETE FROM chatmem_{table} WHERE session = :session", session=session)

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self.session(atomic=False) as execute:
            rows, _ = execute(
                "SELECT number, record FROM chatmem_records "
                "WHERE session = :session AND number > :after ORDER BY number",
                session=session,
                after=after,
            )
        return [(number, record) for number, record in rows]

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        with self.session() as execute:
            _, affected = execute(
                f"UPDATE chatmem_sessions SET last = last + :count, changed = {self.clock}, "
                f"until = {self.clock} + {LEASE_SECONDS} WHERE id = :session AND holder = :holder",
                session=session,
                holder=holder,
                count=len(lines),
            )
            if not affected:
                return None
            rows, _ = execute("SELECT last FROM chatmem_sessions WHERE id = :session", session=session)
            last: int = rows[0][0]
            self.add(execute, session, last - len(lines) + 1, lines)
        return last

    def lock(self, session: str, holder: str) -> bool | None:
        with self.session(atomic=False) as execute:
            _, affected = execute(
                f"UPDATE chatmem_sessions SET holder = :holder, until = {self.clock} + {LEASE_SECONDS} "
                f"WHERE id = :session "
                f"AND (holder IS NULL OR holder = :holder OR holder LIKE :replaceable OR until < {self.clock})",
                session=session,
                holder=holder,
                replaceable=f"{owner_prefix(holder)}%" if owner_prefix(holder) else holder,
            )
            if affected:
                return True
            rows, _ = execute("SELECT 1 FROM chatmem_sessions WHERE id = :session", session=session)
        return False if rows else None

    def unlock(self, session: str, holder: str) -> None:
        with self.session(atomic=False) as execute:
            execute(
                "UPDATE chatmem_sessions SET holder = NULL WHERE id = :session AND holder = :holder",
                session=session,
                holder=holder,
            )

    def _sweep(self) -> None:
        """Remove sessions that have had no name for `TRASH_SECONDS`, unless one is being restored."""
        old = (
            f"changed < {self.clock} - :seconds AND (holder IS NULL OR until < {self.clock}) AND NOT EXISTS "
            "(SELECT 1 FROM chatmem_names n WHERE n.session = chatmem_sessions.id AND n.username <> :unborn)"
        )
        limits = {"seconds": TRASH_SECONDS, "unborn": PENDING_USER}
        with self.session(atomic=False) as execute:
            rows, _ = execute(f"SELECT id FROM chatmem_sessions WHERE {old}", **limits)
        for (session,) in rows:
            with self.session() as execute:
                if execute(f"DELETE FROM chatmem_sessions WHERE id = :session AND {old}", session=session, **limits)[1]:
                    self._purge_rest(execute, session)

    @staticmethod
    def _name(execute: Execute, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        _, affected = execute(
            "INSERT INTO chatmem_names (username, key, name, session, owner) "
            "VALUES (:user, :key, :name, :session, :owner) ON CONFLICT DO NOTHING",
            user=user,
            key=key,
            name=name,
            session=session,
            owner=owner,
        )
        return affected > 0
