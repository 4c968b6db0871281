"""mongodb://user:password@host:27017/database and mongodb+srv://: sessions in MongoDB (`pip install 'chatmem[mongo]'`).

What is appended together is one document, so that it is there whole or not at all without transactions, which a
single server has not. Unique indexes on session and number, and on session and record id, keep two writers apart;
sessions unused for long go by a TTL index. Every id is a string.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from chatmem.errors import NotSaved, StoreAway, WrongUse
from chatmem.stores.address import Address
from chatmem.stores.database import LEASE, PATIENCE, TRASH, UNBORN, Database, Entry, Line

MOST = 500
"""Records in one document: a document has at most 16 MB."""
LARGEST = 12 << 20


class MongoDatabase(Database):
    """A connection to a MongoDB server; sessions unused for `keep` seconds expire there."""

    expires: ClassVar[bool] = True

    def __init__(self, url: str, keep: float | None = None) -> None:
        address = Address.parse(url)
        self.shown, self.identity = address.shown, address.identity
        encrypted = address.scheme == "mongodb+srv" or "true" in (
            address.query.get(name, "").lower() for name in ("tls", "ssl")
        )
        self.open_to_all = address.remote and not encrypted
        self.keep = keep
        self._url, self._name = url, address.path or "chatmem"

    @cached_property
    def _base(self) -> Any:
        import pymongo

        try:
            client: Any = pymongo.MongoClient(
                self._url,
                serverSelectionTimeoutMS=PATIENCE * 1000,
                connectTimeoutMS=PATIENCE * 1000,
                socketTimeoutMS=PATIENCE * 1000,
                appname="chatmem",
                w="majority",
                tz_aware=True,
            )
        except (pymongo.errors.PyMongoError, ValueError, TypeError) as error:
            raise WrongUse(
                f"The store {self.shown} makes no sense to MongoDB.", "mongodb://host:27017/chatmem"
            ) from error
        base = client[self._name]
        try:
            base.chatmem_names.create_index([("username", 1), ("key", 1)], unique=True)
            base.chatmem_names.create_index("session")
            base.chatmem_sessions.create_index("expires", expireAfterSeconds=0)
            base.chatmem_records.create_index([("session", 1), ("number", 1)], unique=True)
            base.chatmem_records.create_index([("session", 1), ("ids", 1)], unique=True)
        except BaseException:
            client.close()  # each client has threads of its own
            raise
        return base

    def entries(self, user: str, key: str | None = None, session: str | None = None) -> list[Entry]:
        wanted = {"username": user} | ({"key": key} if key is not None else {})
        wanted |= {"session": session} if session is not None else {}
        with self._answering() as base:
            names = list(base.chatmem_names.find(wanted))
            idents = [str(one["session"]) for one in names]
            there = {one["_id"]: one for one in base.chatmem_sessions.find({"_id": {"$in": idents}})}
        return [
            Entry(one["name"], one["session"], one["owner"], found["last"], found["changed"].timestamp())
            for one in names
            if (found := there.get(one["session"]))
        ]

    def create(self, user: str, key: str, name: str, session: str, lines: Sequence[Line]) -> bool:
        with self._answering() as base:
            base.chatmem_sessions.insert_one({"_id": session, "last": len(lines)} | self._touched())
            self._add(base, session, 1, lines)
        if self.link(user, key, name, session, None):
            return True
        self.erase(session)
        return False

    def link(self, user: str, key: str, name: str, session: str, owner: str | None) -> bool:
        import pymongo

        with self._answering() as base:
            for one in base.chatmem_names.find({"username": user, "key": key}):
                if not base.chatmem_sessions.find_one({"_id": one["session"]}):
                    base.chatmem_names.delete_one({"_id": one["_id"]})  # expired
            entry = {"username": user, "key": key, "name": name, "session": session, "owner": owner}
            try:
                base.chatmem_names.insert_one(entry)
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def unlink(self, session: str, user: str | None = None) -> None:
        with self._answering() as base:
            base.chatmem_names.delete_many({"session": session} | ({"username": user} if user is not None else {}))
            base.chatmem_sessions.update_one({"_id": session}, {"$currentDate": {"changed": True}})
        self._sweep()

    def rename(self, user: str, session: str, key: str, name: str) -> bool:
        import pymongo

        with self._answering() as base:
            try:
                base.chatmem_names.update_one(
                    {"username": user, "session": session}, {"$set": {"key": key, "name": name}}
                )
            except pymongo.errors.DuplicateKeyError:
                return False
        return True

    def erase(self, session: str) -> None:
        with self._answering() as base:
            base.chatmem_names.delete_many({"session": session})
            base.chatmem_records.delete_many({"session": session})
            base.chatmem_sessions.delete_one({"_id": session})

    def read(self, session: str, after: int) -> list[tuple[int, str]]:
        with self._answering() as base:
            found = base.chatmem_records.find({"session": session, "number": {"$gt": after - MOST}}).sort("number", 1)
            rows = [(one["number"] + n, line) for one in found for n, line in enumerate(one["lines"])]
        return [(number, line) for number, line in rows if number > after]

    def append(self, session: str, holder: str, lines: Sequence[Line]) -> int | None:
        import pymongo

        with self._answering() as base:
            ids = [ident for ident, _ in lines]
            known = {
                i for one in base.chatmem_records.find({"session": session, "ids": {"$in": ids}}) for i in one["ids"]
            }
            new = [line for line in lines if line[0] not in known]
            found = base.chatmem_sessions.find_one_and_update(
                {"_id": session, "holder": holder},
                {"$inc": {"last": len(new)}, "$set": self._touched()},
                return_document=pymongo.ReturnDocument.AFTER,
            )
            if found is None:
                return None
            last = int(found["last"])
            self._add(base, session, last - len(new) + 1, new)
        return last

    def lock(self, session: str, holder: str) -> bool | None:
        free = {"$or": [{"$eq": ["$holder", holder]}, {"$lte": ["$until", "$$NOW"]}]}  # what is missing is the least
        until = {"$add": ["$$NOW", int(LEASE * 1000)]}
        with self._answering() as base:
            done = base.chatmem_sessions.update_one(
                {"_id": session, "$expr": free}, [{"$set": {"holder": holder, "until": until}}]
            )
            if done.matched_count:
                return True
            return False if base.chatmem_sessions.find_one({"_id": session}) else None

    def unlock(self, session: str, holder: str) -> None:
        with self._answering() as base:
            base.chatmem_sessions.update_one(
                {"_id": session, "holder": holder}, {"$unset": {"holder": "", "until": ""}}
            )

    def close(self) -> None:
        if "_base" in self.__dict__:
            self._base.client.close()

    def _sweep(self) -> None:
        """Remove what nobody has had a name for, for so long, and the records of what has expired."""
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=TRASH)
        with self._answering() as base:
            named = set(base.chatmem_names.distinct("session", {"username": {"$ne": UNBORN}}))
            old = [
                one["_id"]
                for one in base.chatmem_sessions.find({"changed": {"$lt": before}})
                if one["_id"] not in named
            ]
            for session in old:
                self.erase(session)
            there = set(base.chatmem_sessions.distinct("_id"))  # what expired has left its records
            for session in set(base.chatmem_records.distinct("session")) - there:
                base.chatmem_records.delete_many({"session": session})

    def _add(self, base: Any, session: str, first: int, lines: Sequence[Line]) -> None:
        """One document for as many lines as fit in; what is appended in a turn always does."""
        start = size = 0
        for end, (_, line) in enumerate([*lines, ("", "")]):
            size += len(line.encode())
            if end == len(lines) or end - start == MOST or (size > LARGEST and end > start):
                if part := lines[start:end]:
                    ids, texts = [ident for ident, _ in part], [text for _, text in part]
                    base.chatmem_records.insert_one(
                        {"session": session, "number": first + start, "ids": ids, "lines": texts}
                    )
                start, size = end, len(line.encode())

    def _touched(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        return {"changed": now, "expires": now + datetime.timedelta(seconds=self.keep) if self.keep else None}

    @contextmanager
    def _answering(self) -> Iterator[Any]:
        """The database; the driver's errors leave as ours, without their text, which may hold what is secret."""
        import pymongo

        with self.asked():
            try:
                yield self._base
            except pymongo.errors.OperationFailure as error:
                if error.code in (13, 18, 8000):
                    raise WrongUse(f"{self.shown} refuses the user or the password.", "Check the address.") from None
                raise NotSaved(f"{self.shown} refuses: error {error.code}.") from None
            except pymongo.errors.ConnectionFailure as error:
                raise StoreAway(f"{self.shown} cannot be reached.", "Check that it is running.") from error
            except pymongo.errors.PyMongoError as error:
                raise NotSaved(f"{self.shown} refuses: {type(error).__name__}.") from None
