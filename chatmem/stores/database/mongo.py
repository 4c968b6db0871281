"""mongodb://user:password@host:27017/database and mongodb+srv://: sessions in MongoDB (pymongo).

Records that are appended together are one document, so that they are stored completely or not at all without
transactions, which a single server does not support. Documents number their records without gaps, and unique indexes on
session and number, and on session and record id, keep two writers apart: the insert is what decides. All times are the
server's. Sessions expire through a TTL index, which the server looks at once a minute. MongoDB 4.4 or later is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
READ_DOCUMENTS = 20
"""Documents that are read at a time, so that each answer arrives within the time limit."""
BYTES_PER_SECOND = 250_000
"""The slowest connection that large documents are written through."""
MAX_ATTEMPTS = 5
"""How often an append is tried again because another record has its number."""

_TRANSIENT_ERRORS = (
    6,
    7,
    43,
    50,
    64,
    89,
    91,
    112,
    133,
    134,
    175,
    189,
    262,
    9001,
    10107,
    11600,
    11601,
    11602,
    13435,
    13436,
)
"""Codes of failures that pass: of the network, of elections, of limits in time, of a write that is not confirmed."""
_NOT_ALLOWED = 13
_AUTHENTICATION_FAILED = 18
_ATLAS_ERROR = 8000


class MongoDatabase(Database):
    """A connection to a MongoDB server. Sessions unused for `ttl` seconds expire there."""

    expires: ClassVar[bool] = True

    def __init__(self, url: str, ttl: float | None = None) -> None:
        address = Address.parse(url)
        self.display_url, self.identity = address.display_url, address.identity
        options = {name.lower(): value.lower() for name, value in address.query.items()}
        tls = options.get("tls", options.get("ssl", "true" if address.scheme == "mongodb+srv" else ""))
        self.unencrypted = address.is_remote and tls != "true"
        self.ttl = ttl
        self._url, self._name = url, address.path or "chatmem"

    @cached_property
    def _database(self) -> Any:
        import pymongo

        try:
            # These options count more than those of the URL: what is acknowledged survives a failover and a power loss,
            # and what is read is current.
            client: Any = pymongo.MongoClient(
                self._url,
                serverSelectionTimeoutMS=TIMEOUT * 1000,
                connectTimeoutMS=TIMEOUT * 1000,
                socketTimeoutMS=TIMEOUT * 1000,
                appname="chatmem",
                w="majority",
                journal=True,
                read_preference=pymongo.ReadPreference.PRIMARY,
                tz_aware=True,
            )
        except (pymongo.errors.PyMongoError, ValueError, TypeError, OSError) as error:
            if type(error.__cause__).__module__.startswith("dns."):
                raise StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check the network.") from None
            raise UsageError(
                f"{self.display_url} is not a valid MongoDB URL.", "It should look like mongodb://host:27017/chatmem"
            ) from error
        try:
            database = client[self._name]
            _create_indexes(database)
        except BaseException as error:
            client.close()  # each client runs its own threads
            if isinstance(error, pymongo.errors.InvalidName):
                raise UsageError(f"{self._name!r} is not a valid name of a MongoDB database.") from error
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
            first = {"$set": {"last": len(lines)} | self._touched()}
            database.chatmem_sessions.update_one({"_id": session}, [first], upsert=True)
            self._add(database, session, 1, lines)
        if self.link(user, key, name, session, None):
            return True
        self.purge(session)
        return False

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        import pymongo

        with self._connected() as database:
            _remove_expired_name(database, user, key)
            touched = database.chatmem_sessions.update_one({"_id": session}, {"$currentDate": {"changed": True}})
            if not touched.matched_count:
                return False
            entry = {"username": user, "key": key, "name": name, "session": session, "owner": owner}
            try:
                database.chatmem_names.insert_one(entry)
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def unlink(self, session: str, user: str | None = None) -> None:
        with self._connected() as database:  # the time first: without a name, an old session would be removed
            database.chatmem_sessions.update_one({"_id": session}, {"$currentDate": {"changed": True}})
            database.chatmem_names.delete_many({"session": session} | ({"username": user} if user is not None else {}))
        with suppress(StorageError):
            self._sweep()

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        import pymongo

        with self._connected() as database:
            _remove_expired_name(database, user, key)
            try:
                database.chatmem_names.update_one(
                    {"username": user, "session": session}, {"$set": {"key": key, "name": name}}
                )
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def purge(self, session: str) -> None:
        with self._connected() as database:  # the session first: without it nothing is appended
            database.chatmem_sessions.delete_one({"_id": session})
            database.chatmem_records.delete_many({"session": session})
            database.chatmem_names.delete_many({"session": session})

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self._connected() as database:
            wanted = {"session": session, "number": {"$gt": after - MAX_RECORDS}}
            found = database.chatmem_records.find(wanted).sort("number", 1).batch_size(READ_DOCUMENTS)
            rows = [(one["number"] + n, line) for one in found for n, line in enumerate(one["lines"])]
        return [(number, line) for number, line in rows if number > after]

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        import pymongo

        with self._connected() as database:
            records, sessions = database.chatmem_records, database.chatmem_sessions
            for _ in range(MAX_ATTEMPTS):
                wanted = {"session": session, "ids": {"$in": [ident for ident, _ in lines]}}
                known = {ident for one in records.find(wanted, {"ids": 1}) for ident in one["ids"]}
                new = [line for line in lines if line[0] not in known]
                renewed = {"$set": self._touched() | {"until": _LEASE_END}}
                if not sessions.update_one({"_id": session, "holder": holder}, [renewed]).matched_count:
                    return None
                end = records.find_one({"session": session}, {"number": 1, "ids": 1}, sort=[("number", -1)])
                last = int(end["number"]) + len(end["ids"]) - 1 if end else 0
                try:
                    self._add(database, session, last + 1, new)
                except pymongo.errors.DuplicateKeyError:
                    continue  # the lease was lost in the meantime, or a request that seemed to fail was carried out
                last += len(new)
                sessions.update_one({"_id": session}, {"$max": {"last": last}, "$currentDate": {"changed": True}})
                return last
        raise StoreUnavailableError(f"{self.display_url}: other processes append to this session all the time.")

    def lock(self, session: str, holder: str) -> bool | None:
        # A missing field compares as the least value.
        conditions: list[dict[str, Any]] = [{"$eq": ["$holder", holder]}, {"$lte": ["$until", "$$NOW"]}]
        if prefix := owner_prefix(holder):
            start = {"$substrBytes": [{"$ifNull": ["$holder", ""]}, 0, len(prefix)]}
            conditions.append({"$eq": [start, prefix]})
        free = {"$or": conditions}
        taken = {"holder": holder, "until": _LEASE_END, "expires": self._touched()["expires"]}
        with self._connected() as database:
            done = database.chatmem_sessions.update_one({"_id": session, "$expr": free}, [{"$set": taken}])
            if done.matched_count:
                return True
            return False if database.chatmem_sessions.find_one({"_id": session}, {"_id": 1}) else None

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
        is_old = {"$expr": {"$lt": ["$changed", {"$subtract": ["$$NOW", TRASH_SECONDS * 1000]}]}}
        with self._connected() as database:
            for one in database.chatmem_sessions.find(is_old, {"_id": 1}):
                session = one["_id"]
                if database.chatmem_names.find_one({"session": session, "username": {"$ne": PENDING_USER}}):
                    continue
                if database.chatmem_sessions.delete_one({"_id": session, **is_old}).deleted_count:
                    self.purge(session)
            # The TTL index removes only the session, not its records. These are listed first: a session is created
            # before them.
            with_records = [one["_id"] for one in database.chatmem_records.aggregate([{"$group": {"_id": "$session"}}])]
            existing = {one["_id"] for one in database.chatmem_sessions.find({}, {"_id": 1})}
            for session in with_records:
                if session not in existing:
                    database.chatmem_records.delete_many({"session": session})

    def _add(self, database: Any, session: str, first: int, lines: Sequence[Line]) -> None:
        """Insert one document for as many lines as fit. The records of a turn always fit."""
        import pymongo

        start = size = 0
        for end, (_, line) in enumerate([*lines, ("", "")]):
            size += len(line.encode())
            if end == len(lines) or end - start == MAX_RECORDS or (size > MAX_DOCUMENT_BYTES and end > start):
                if part := lines[start:end]:
                    ids, texts = [ident for ident, _ in part], [text for _, text in part]
                    with pymongo.timeout(TIMEOUT + size / BYTES_PER_SECOND):
                        database.chatmem_records.insert_one(
                            {"session": session, "number": first + start, "ids": ids, "lines": texts}
                        )
                start, size = end, len(line.encode())

    def _touched(self) -> dict[str, Any]:
        """The fields that say when a session was used, for the `$set` of a pipeline."""
        return {"changed": "$$NOW", "expires": {"$add": ["$$NOW", int(self.ttl * 1000)]} if self.ttl else None}

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """The database. The driver's exceptions are translated without their text, which may contain secrets."""
        import bson
        import pymongo

        with self.circuit_breaker():
            try:
                yield self._database
            except pymongo.errors.OperationFailure as error:
                raise self._refusal(error) from None
            except (pymongo.errors.ConnectionFailure, pymongo.errors.ExecutionTimeout) as error:
                raise StoreUnavailableError(f"Cannot reach {self.display_url}.", "Check that it is running.") from error
            except pymongo.errors.ConfigurationError as error:
                raise UsageError(f"{self.display_url} cannot be used.", "MongoDB 4.4 or later is needed.") from error
            except (bson.errors.BSONError, UnicodeError) as error:
                raise StorageError(f"{self.display_url} cannot hold a record: {type(error).__name__}.") from None
            except pymongo.errors.PyMongoError as error:
                if error.timeout:
                    raise StoreUnavailableError(f"{self.display_url} did not answer in time.") from error
                raise StorageError(f"{self.display_url} refused: {type(error).__name__}.") from None

    def _refusal(self, error: Any) -> StorageError | UsageError:
        """The error for a command that the server refused."""
        code = error.code
        if error.timeout or code in _TRANSIENT_ERRORS or error.has_error_label("RetryableWriteError"):
            return StoreUnavailableError(f"{self.display_url} cannot serve requests at the moment: error {code}.")
        if code == _AUTHENTICATION_FAILED or (code == _ATLAS_ERROR and "auth" in str(error).lower()):
            return UsageError(
                f"{self.display_url} refused the user or the password.",
                "Check the store's URL. A user of another database needs ?authSource=admin or the like.",
            )
        if code == _NOT_ALLOWED:
            return UsageError(f"{self.display_url} does not allow this.", "The user needs the role readWrite.")
        return StorageError(f"{self.display_url} refused: error {code}.")


_LEASE_END = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
_INDEXES: tuple[tuple[str, list[tuple[str, int]], dict[str, Any]], ...] = (
    ("chatmem_names", [("username", 1), ("key", 1)], {"unique": True}),
    ("chatmem_names", [("session", 1)], {}),
    ("chatmem_sessions", [("expires", 1)], {"expireAfterSeconds": 0}),
    ("chatmem_records", [("session", 1), ("number", 1)], {"unique": True}),
    ("chatmem_records", [("session", 1), ("ids", 1)], {"unique": True}),
)
"""The indexes: collection, fields and options. The unique ones keep two writers apart."""


def _create_indexes(database: Any) -> None:
    """Create the indexes that are missing. A role that may not create any can use existing ones."""
    import pymongo

    for collection, fields, options in _INDEXES:
        try:
            database[collection].create_index(fields, **options)
        except pymongo.errors.OperationFailure as error:
            existing = [] if error.code != _NOT_ALLOWED else database[collection].index_information().values()
            if not any(index["key"] == fields for index in existing):
                raise


def _remove_expired_name(database: Any, user: str, key: str) -> None:
    """Remove a user's name if the session behind it has expired."""
    for one in database.chatmem_names.find({"username": user, "key": key}):
        if not database.chatmem_sessions.find_one({"_id": one["session"]}, {"_id": 1}):
            database.chatmem_names.delete_one({"_id": one["_id"]})
