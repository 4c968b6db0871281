"""mongodb://user:password@host:27017/database and mongodb+srv://: sessions in MongoDB (pymongo).

Records that are appended together are one document, so that they are stored completely or not at all without
transactions, which a single server does not support. Unique indexes on session and number, and on session and record
id, keep two writers apart. Sessions expire through a TTL index. Every id is a string.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from chatmem.errors import StorageError, StoreUnavailableError, UsageError
from chatmem.stores.database.address import Address
from chatmem.stores.database.base import (
    LEASE_SECONDS,
    PENDING_USER,
    TIMEOUT,
    TRASH_SECONDS,
    Database,
    Line,
    SessionRow,
    owner_prefix,
)

MAX_RECORDS = 500
"""The most records of one document."""
MAX_DOCUMENT_BYTES = 12 << 20
"""Documents may have at most 16 MB."""


class MongoDatabase(Database):
    """A connection to a MongoDB server. Sessions unused for `ttl` seconds expire there."""

    expires: ClassVar[bool] = True

    def __init__(self, url: str, ttl: float | None = None) -> None:
        address = Address.parse(url)
        self.display_url, self.identity = address.display_url, address.identity
        encrypted = address.scheme == "mongodb+srv" or "true" in (
            address.query.get(name, "").lower() for name in ("tls", "ssl")
        )
        self.unencrypted = address.is_remote and not encrypted
        self.ttl = ttl
        self._url, self._name = url, address.path or "chatmem"

    @cached_property
    def _database(self) -> Any:
        import pymongo

        try:
            client: Any = pymongo.MongoClient(
                self._url,
                serverSelectionTimeoutMS=TIMEOUT * 1000,
                connectTimeoutMS=TIMEOUT * 1000,
                socketTimeoutMS=TIMEOUT * 1000,
                appname="chatmem",
                w="majority",
                tz_aware=True,
            )
        except (pymongo.errors.PyMongoError, ValueError, TypeError) as error:
            raise UsageError(
                f"{self.display_url} is not a valid MongoDB URL.", "It should look like mongodb://host:27017/chatmem"
            ) from error
        database = client[self._name]
        try:
            database.chatmem_names.create_index([("username", 1), ("key", 1)], unique=True)
            database.chatmem_names.create_index("session")
            database.chatmem_sessions.create_index("expires", expireAfterSeconds=0)
            database.chatmem_records.create_index([("session", 1), ("number", 1)], unique=True)
            database.chatmem_records.create_index([("session", 1), ("ids", 1)], unique=True)
        except BaseException:
            client.close()  # each client runs its own threads
            raise
        return database

    def rows(self, user: str, key: str | None = None, session: str | None = None) -> list[SessionRow]:
        wanted = {"username": user} | ({"key": key} if key is not None else {})
        wanted |= {"session": session} if session is not None else {}
        with self._connected() as database:
            names = list(database.chatmem_names.find(wanted))
            idents = [str(one["session"]) for one in names]
            existing = {one["_id"]: one for one in database.chatmem_sessions.find({"_id": {"$in": idents}})}
        return [
            SessionRow(one["name"], one["session"], one["owner"], found["last"], found["changed"].timestamp())
            for one in names
            if (found := existing.get(one["session"]))
        ]

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        with self._connected() as database:
            database.chatmem_sessions.insert_one({"_id": session, "last": len(lines)} | self._touched())
            self._add(database, session, 1, lines)
        if self.link(user, key, name, session, None):
            return True
        self.purge(session)
        return False

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        import pymongo

        with self._connected() as database:
            for one in database.chatmem_names.find({"username": user, "key": key}):
                if not database.chatmem_sessions.find_one({"_id": one["session"]}):
                    database.chatmem_names.delete_one({"_id": one["_id"]})  # expired
            entry = {"username": user, "key": key, "name": name, "session": session, "owner": owner}
            try:
                database.chatmem_names.insert_one(entry)
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def unlink(self, session: str, user: str | None = None) -> None:
        with self._connected() as database:
            database.chatmem_names.delete_many({"session": session} | ({"username": user} if user is not None else {}))
            database.chatmem_sessions.update_one({"_id": session}, {"$currentDate": {"changed": True}})
        self._sweep()

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        import pymongo

        with self._connected() as database:
            try:
                database.chatmem_names.update_one(
                    {"username": user, "session": session}, {"$set": {"key": key, "name": name}}
                )
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def purge(self, session: str) -> None:
        with self._connected() as database:
            database.chatmem_names.delete_many({"session": session})
            database.chatmem_records.delete_many({"session": session})
            database.chatmem_sessions.delete_one({"_id": session})

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self._connected() as database:
            found = database.chatmem_records.find({"session": session, "number": {"$gt": after - MAX_RECORDS}}).sort(
                "number", 1
            )
            rows = [(one["number"] + n, line) for one in found for n, line in enumerate(one["lines"])]
        return [(number, line) for number, line in rows if number > after]

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        import pymongo

        with self._connected() as database:
            ids = [ident for ident, _ in lines]
            known = {
                i
                for one in database.chatmem_records.find({"session": session, "ids": {"$in": ids}})
                for i in one["ids"]
            }
            new = [line for line in lines if line[0] not in known]
            found = database.chatmem_sessions.find_one_and_update(
                {"_id": session, "holder": holder},
                {"$inc": {"last": len(new)}, "$set": self._touched()},
                return_document=pymongo.ReturnDocument.AFTER,
            )
            if found is None:
                return None
            last = int(found["last"])
            self._add(database, session, last - len(new) + 1, new)
        return last

    def lock(self, session: str, holder: str) -> bool | None:
        # A missing field compares as the least value.
        conditions: list[dict[str, Any]] = [{"$eq": ["$holder", holder]}, {"$lte": ["$until", "$$NOW"]}]
        if prefix := owner_prefix(holder):
            start = {"$substrBytes": [{"$ifNull": ["$holder", ""]}, 0, len(prefix)]}
            conditions.append({"$eq": [start, prefix]})
        free = {"$or": conditions}
        until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
        with self._connected() as database:
            done = database.chatmem_sessions.update_one(
                {"_id": session, "$expr": free}, [{"$set": {"holder": holder, "until": until}}]
            )
            if done.matched_count:
                return True
            return False if database.chatmem_sessions.find_one({"_id": session}) else None

    def unlock(self, session: str, holder: str) -> None:
        with self._connected() as database:
            database.chatmem_sessions.update_one(
                {"_id": session, "holder": holder}, {"$unset": {"holder": "", "until": ""}}
            )

    def close(self) -> None:
        if "_database" in self.__dict__:
            self._database.client.close()

    def _sweep(self) -> None:
        """Remove sessions that have had no name for `TRASH_SECONDS`, and the records of expired sessions."""
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=TRASH_SECONDS)
        with self._connected() as database:
            named = set(database.chatmem_names.distinct("session", {"username": {"$ne": PENDING_USER}}))
            old = [
                one["_id"]
                for one in database.chatmem_sessions.find({"changed": {"$lt": before}})
                if one["_id"] not in named
            ]
            for session in old:
                self.purge(session)
            existing = set(
                database.chatmem_sessions.distinct("_id")
            )  # the TTL index removes only the session, not its records
            for session in set(database.chatmem_records.distinct("session")) - existing:
                database.chatmem_records.delete_many({"session": session})

    def _add(self, database: Any, session: str, first: int, lines: Sequence[Line]) -> None:
        """Insert one document for as many lines as fit. The records of a turn always fit."""
        start = size = 0
        for end, (_, line) in enumerate([*lines, ("", "")]):
            size += len(line.encode())
            if end == len(lines) or end - start == MAX_RECORDS or (size > MAX_DOCUMENT_BYTES and end > start):
                if part := lines[start:end]:
                    ids, texts = [ident for ident, _ in part], [text for _, text in part]
                    database.chatmem_records.insert_one(
                        {"session": session, "number": first + start, "ids": ids, "lines": texts}
                    )
                start, size = end, len(line.encode())

    def _touched(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        return {"changed": now, "expires": now + datetime.timedelta(seconds=self.ttl) if self.ttl else None}

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The database. The driver's exceptions are translated without their text, which may contain secrets."""
        import pymongo

        with self.circuit_breaker():
            try:
                yield self._database
            except pymongo.errors.OperationFailure as error:
                if error.code in (13, 18, 8000):
                    raise UsageError(
                        f"{self.display_url} refused the user or the password.", "Check the store's URL."
                    ) from None
                raise StorageError(f"{self.display_url} refused: error {error.code}.") from None
            except pymongo.errors.ConnectionFailure as error:
                raise StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check that it is running.") from error
            except pymongo.errors.PyMongoError as error:
                raise StorageError(f"{self.display_url} refused: {type(error).__name__}.") from None
