"""Sessions in tables: what SQLite and PostgreSQL have in common.

Numbers of records are unique in a session, ids of records as well; a lease is two columns of the session's row. The
schema has a version, and later versions only ever add to it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Protocol

from chatmem.errors import ChatmemError
from chatmem.stores.database import LEASE, TRASH, UNBORN, Database, Entry, Line

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
"""The statements that lead from each version of the schema to the next."""


class Execute(Protocol):
    """Runs a statement with its `:named` parameters; returns the rows and how many were touched."""

    def __call__(self, statement: str, **parameters: Any) -> tuple[list[tuple[Any, ...]], int]: ...


class SqlDatabase(Database):
    """Sessions, names and records in three tables."""

    now: ClassVar[str]
    """The server's clock in seconds, as an expression."""
    there: ClassVar[str]
    """A query for whether the table of versions is there."""

    def __init__(self) -> None:
        self.connection: Any = None
        """The one connection, made when it is first needed."""
        self._mine = threading.RLock()

    def close(self) -> None:
        with self._mine:
            if self.connection is not None:
                self.connection.close()
            self.connection = None

    @contextmanager
    def asking(self, atomic: bool = True) -> Iterator[Execute]:
        """Ask the server; where it is `atomic`, all statements together or none. Raises StoreAway, or NotSaved."""
        with self._mine, self.asked():
            try:
                self.connect()
                with self.together(self.connection) if atomic else nullcontext():
                    yield self.executing(self.connection)
            except self.faults() as error:
                raise self.translated(error) from None

    def executing(self, connection: Any) -> Execute:
        """What runs statements on a connection."""

        def execute(statement: str, **parameters: Any) -> tuple[list[tuple[Any, ...]], int]:
            cursor = connection.execute(self.spoken(statement), parameters)
            return cursor.fetchall() if cursor.description else [], cursor.rowcount

        return execute

    @staticmethod
    def spoken(statement: str) -> str:
        """A statement with its `:named` parameters as the driver wants them."""
        return statement

    @abstractmethod
    def connect(self) -> None:
        """Have a connection that works, to a database with our tables in it."""

    @abstractmethod
    def together(self, connection: Any) -> AbstractContextManager[Any]:
        """A transaction."""

    @abstractmethod
    def faults(self) -> tuple[type[Exception], ...]:
        """The driver's errors."""

    @abstractmethod
    def translated(self, error: Any) -> ChatmemError:
        """A driver's error as ours."""

    @abstractmethod
    def add(self, execute: Execute, session: str, first: int, lines: Sequence[Line]) -> None:
        """Insert records, numbered from `first` on, but for those whose id is there."""

    def migrate(self, execute: Execute) -> None:
        """Bring the schema to this version; a newer one is good as it is, since it was only added to."""
        execute("CREATE TABLE IF NOT EXISTS chatmem_schema (version INTEGER NOT NULL)")
        for version in range(self.version(execute), len(SCHEMA)):
            for statement in SCHEMA[version]:
                execute(statement)
            execute("INSERT INTO chatmem_schema (version) VALUES (:version)", version=version + 1)

    def version(self, execute: Execute) -> int:
        """The version of the schema that is there; 0 for none."""
        rows, _ = execute(self.there)
        if not rows[0][0]:
            return 0
        rows, _ = execute("SELECT MAX(version) FROM chatmem_schema")
        return int(rows[0][0] or 0)

    def entries(self, user: str, key: str | None = None, session: str | None = None) -> list[Entry]:
        only = " AND n.key = :key" if key is not None else " AND n.session = :session" if session is not None else ""
        with self.asking(atomic=False) as execute:
            rows, _ = execute(
                "SELECT n.name, n.session, n.owner, s.last, s.changed FROM chatmem_names n "
                f"JOIN chatmem_sessions s ON s.id = n.session WHERE n.username = :user{only}",
                user=user,
                **({"key": key} if key is not None else {"session": session} if session is not None else {}),
            )
        return [Entry(*row) for row in rows]

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        with self.asking() as execute:
            if not self._name(execute, user, key, name, session, None):
                return False
            execute(
                f"INSERT INTO chatmem_sessions (id, last, changed) VALUES (:id, :last, {self.now})",
                id=session,
                last=len(lines),
            )
            self.add(execute, session, 1, lines)
        return True

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        with self.asking(atomic=False) as execute:
            return self._name(execute, user, key, name, session, owner)

    def unlink(self, session: str, user: str | None = None) -> None:
        with self.asking(atomic=False) as execute:
            if user is None:
                execute(f"UPDATE chatmem_sessions SET changed = {self.now} WHERE id = :session", session=session)
                execute("DELETE FROM chatmem_names WHERE session = :session", session=session)
            else:
                execute(
                    "DELETE FROM chatmem_names WHERE session = :session AND username = :user",
                    session=session,
                    user=user,
                )
        self._sweep()

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        with self.asking() as execute:
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

    def erase(self, session: str) -> None:
        with self.asking() as execute:
            for table, column in (("names", "session"), ("records", "session"), ("sessions", "id")):
                execute(f"DELETE FROM chatmem_{table} WHERE {column} = :session", session=session)

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self.asking(atomic=False) as execute:
            rows, _ = execute(
                "SELECT number, record FROM chatmem_records "
                "WHERE session = :session AND number > :after ORDER BY number",
                session=session,
                after=after,
            )
        return [(number, record) for number, record in rows]

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        with self.asking() as execute:
            _, touched = execute(
                f"UPDATE chatmem_sessions SET last = last + :count, changed = {self.now}, until = {self.now} + {LEASE} "
                "WHERE id = :session AND holder = :holder",
                session=session,
                holder=holder,
                count=len(lines),
            )
            if not touched:
                return None
            rows, _ = execute("SELECT last FROM chatmem_sessions WHERE id = :session", session=session)
            last: int = rows[0][0]
            self.add(execute, session, last - len(lines) + 1, lines)
        return last

    def lock(self, session: str, holder: str) -> bool | None:
        with self.asking(atomic=False) as execute:
            _, touched = execute(
                f"UPDATE chatmem_sessions SET holder = :holder, until = {self.now} + {LEASE} "
                f"WHERE id = :session AND (holder IS NULL OR holder = :holder OR until < {self.now})",
                session=session,
                holder=holder,
            )
            if touched:
                return True
            rows, _ = execute("SELECT 1 FROM chatmem_sessions WHERE id = :session", session=session)
        return False if rows else None

    def unlock(self, session: str, holder: str) -> None:
        with self.asking(atomic=False) as execute:
            execute(
                "UPDATE chatmem_sessions SET holder = NULL WHERE id = :session AND holder = :holder",
                session=session,
                holder=holder,
            )

    def _sweep(self) -> None:
        """Remove what nobody has had a name for, for so long."""
        nameless = "NOT EXISTS (SELECT 1 FROM chatmem_names n WHERE n.session = s.id AND n.username <> :unborn)"
        with self.asking() as execute:
            rows, _ = execute(
                f"SELECT s.id FROM chatmem_sessions s WHERE s.changed < {self.now} - :seconds AND {nameless}",
                seconds=TRASH,
                unborn=UNBORN,
            )
        for (session,) in rows:
            self.erase(session)

    @staticmethod
    def _name(execute: Execute, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        _, touched = execute(
            "INSERT INTO chatmem_names (username, key, name, session, owner) "
            "VALUES (:user, :key, :name, :session, :owner) ON CONFLICT DO NOTHING",
            user=user,
            key=key,
            name=name,
            session=session,
            owner=owner,
        )
        return touched > 0
