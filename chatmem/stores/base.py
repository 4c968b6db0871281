"""The interface of a store: sessions as append-only records, durable when `append` returns, one writer at a time."""

from __future__ import annotations

import contextlib
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from chatmem.errors import (
    Action,
    ChatmemError,
    Notify,
    SessionNotFoundError,
    UsageError,
    ignore_notices,
)
from chatmem.history.names import canonical_key, unique_name, validate
from chatmem.history.records import Record, header
from chatmem.history.session import Session
from chatmem.stores.codec import encode
from chatmem.stores.search import Hit, Query, find_hits
from chatmem.stores.verify import CheckReport, check_session
from chatmem.text import fix_surrogates, pluralize, truncate

Progress = Callable[[Sequence[str], str], Iterable[str]]
"""Iterates over the items of a long task, which is named in a word, and may show how far it is."""


def no_progress(items: Sequence[str], task: str) -> Iterable[str]:
    """A `Progress` that shows nothing."""
    return items


class SessionInfo(NamedTuple):
    """What lists show of a session."""

    name: str
    title: str
    turns: int
    messages: int
    created: str
    last_active: str
    model: str | None
    memory: str | None
    id: str = ""
    source: str = ""
    """Where it was imported from: a format and an id."""
    owner: str | None = None
    """The user who shares it with this one. The default user is ''. None if it is the user's own."""

    @classmethod
    def from_session(cls, session: Session) -> SessionInfo:
        memory = session.settings.get("memory")
        strategy = memory.get("strategy") if isinstance(memory, dict) else None
        path = session.path
        return cls(
            session.name,
            fix_surrogates(session.title),
            len(session.turns),
            len(path),
            fix_surrogates(session.created),
            fix_surrogates(session.last_active),
            fix_surrogates(session.model) if session.model else None,
            fix_surrogates(str(strategy)) if strategy else None,
            fix_surrogates(session.id),
            fix_surrogates(str(session.header.get("imported") or "")),
        )

    def record(self) -> dict[str, Any]:
        """The fields of `sessions list --json`."""
        names = ("name", "title", "turns", "messages", "created", "last_active", "model", "memory")
        shared = {} if self.owner is None else {"owner": self.owner}
        return {name: getattr(self, name) for name in names} | shared


class DeletedSession(NamedTuple):
    """A session in the trash."""

    name: str
    """The name it had."""
    deleted: str
    """When it was deleted, as an ISO time."""
    key: str
    """What the store finds it by."""
    title: str = ""
    turns: int = 0

    def record(self) -> dict[str, Any]:
        """The fields of `sessions list --trash --json`."""
        return {field: getattr(self, field) for field in ("name", "title", "turns", "deleted")}

    def with_content(self, records: Iterable[Record]) -> DeletedSession:
        """The same with title and turns from the session's records."""
        session = Session.replay(self.name, records)
        return self._replace(title=fix_surrogates(session.title), turns=len(session.turns))


def newest_first(sessions: Iterable[SessionInfo]) -> list[SessionInfo]:
    """The sessions, the most recently used one first."""
    return sorted(sessions, key=lambda s: (s.last_active, s.name), reverse=True)


class SessionLog(ABC):
    """The records of one session, open for reading and appending."""

    name: str
    unavailable: ChatmemError | None = None
    """Why records are appended elsewhere for now. None if they are appended to the store itself."""

    @abstractmethod
    def read(self) -> tuple[list[Record], bool]:
        """The records added since the last read by any process, and whether they replace everything read before.

        They do if the session was replaced in the meantime.
        """

    @abstractmethod
    def append(self, records: Iterable[Record]) -> None:
        """Add records, all or none, durable on return. Only inside `exclusive()`. Raises StorageError."""

    @abstractmethod
    @contextlib.contextmanager
    def exclusive(self, wait: bool = True) -> Iterator[None]:
        """Be the only writer. If there is another one, wait, or raise SessionLockedError if `wait` is false."""
        yield

    def note(self, info: SessionInfo) -> None:
        """What lists show of the session now. Called inside `exclusive()` after records were appended."""

    def open_draft(self, skeleton: Record) -> Callable[[str], None]:
        """Begin to keep a reply that is arriving, and return a function that adds text to it. Never raises.

        `skeleton` is the reply's record without its text. Stores that cannot keep drafts do nothing.
        """
        return lambda text: None

    def close_draft(self, stored: bool = True) -> None:
        """The reply ended: remove its draft, unless the reply could not be stored. Never raises."""

    def close(self) -> None:
        """Release what is open. Nothing is lost without this call."""


class SessionStore(ABC):
    """Where sessions are kept, by name. Names are unique ignoring case."""

    persistent: ClassVar[bool] = True
    """Whether anything outlives the process."""
    expires = False
    """Whether unused sessions expire without anyone deleting them."""
    has_trash: ClassVar[bool] = True
    """Whether a deleted session can be restored for a while."""
    deleted_note: ClassVar[str] = "in the trash"
    """What became of a deleted session, for messages."""

    def __init__(self, notify: Notify = ignore_notices) -> None:
        self.notify = notify
        self.progress: Progress = no_progress

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all sessions, in no order. Raises StorageError if the store cannot be read."""

    @abstractmethod
    def records(self, name: str) -> list[Record]:
        """All records of a session, including the draft of a process that died. Takes no lock, changes nothing."""

    @abstractmethod
    def open(self, name: str, first: Iterable[Record] = ()) -> SessionLog:
        """Open a session. With `first` it is created with these records. Raises UsageError if the name is taken."""

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Rename a session. Raises UsageError if the new name is taken."""

    def share(self, name: str, user: str) -> str:
        """Let another user read and write a session. Returns the name it has for that user. Raises UsageError."""
        raise UsageError("Sessions that are not saved cannot be shared.")

    @abstractmethod
    def delete(self, name: str, purge: bool = False) -> None:
        """Move a session to the trash if the store has one, otherwise delete it. `purge` deletes it in either case."""

    def user_store(self) -> SessionStore | None:
        """A store for what is known of the user, apart from the sessions. None if nothing is kept."""
        return None

    def trash(self) -> list[DeletedSession]:
        """The sessions that can be restored, the last deleted one first."""
        return []

    def restore(self, name: str, new: str | None = None) -> str:
        """Take the last deleted session with a name out of the trash. Returns the name it has now.

        Raises SessionNotFoundError, and UsageError if there is a session with that name, or with the `new` one.
        """
        deleted = self.trash()
        found = next((entry for entry in deleted if canonical_key(entry.name) == canonical_key(name)), None)
        if found is None:
            hint = self.not_found(name, {entry.name for entry in deleted}).hint
            message = f"Session {truncate(name)!r} is not in the trash."
            raise SessionNotFoundError(message, hint, None if hint else Action("list_trash"))
        new = validate(new or found.name)
        if self.lookup(new) is not None:
            raise UsageError(f"There is already a session {new!r}.", action=Action("restore_as", found.name))
        self._restore(found, new)
        return new

    def _restore(self, deleted: DeletedSession, name: str) -> None:
        """Make a session from the trash a session with an unused name. Raises UsageError if it was taken."""
        raise NotImplementedError

    def session(self, name: str) -> Session:
        """The current state of a session. Raises SessionNotFoundError."""
        name = self.find(name)
        return Session.replay(name, self.records(name))

    def lookup(self, name: str) -> str | None:
        """The name of a session as it is stored, ignoring case. None if the session does not exist."""
        wanted = canonical_key(name)
        return next((known for known in self.names() if canonical_key(known) == wanted), None)

    def find(self, name: str) -> str:
        """The name of a session as it is stored, ignoring case. Raises SessionNotFoundError with similar names."""
        found = self.lookup(name)
        if found is None:
            raise self.not_found(name, self.names())
        return found

    def location(self, name: str | None = None) -> str:
        """Where a session, or all of them, are kept: a path or an address."""
        return self.find(name) if name else "memory"

    def conflict_copies(self) -> dict[str, str]:
        """The copies of sessions that a synchroniser left beside them, and the session that each is a copy of."""
        return {}

    def read_conflict_copy(self, copy: str) -> list[Record]:
        """The records of such a copy."""
        raise NotImplementedError

    def discard_conflict_copy(self, copy: str) -> None:
        """Move such a copy to the trash."""
        raise NotImplementedError

    def fork(self, name: str, new: str, at: int | None = None) -> None:
        """Copy a conversation, or its turns up to number `at`, to a new session. Raises UsageError."""
        session = self.session(name)
        path = session.path
        if at is not None:
            if session.turn(at) is None:
                raise UsageError(
                    f"Turn {at} does not exist.", f"The session has {pluralize(len(session.turns), 'turn')}."
                )
            path = session.preamble + [m for turn in session.turns[:at] for m in turn.messages]
        kept = {message.id for message in path}
        origin = {"id": session.id, "message": path[-1].id if path else None}
        records: list[Record] = [header(new) | {"forked": origin}]
        settings = {k: v for k, v in session.settings.items() if k != "title"}
        records += [{"type": "settings", **settings}] if settings else []
        records += session.records_with_forgotten(path)
        marks = {ident: flags for ident, flags in session.marks.items() if ident in kept}
        records += [{"type": "mark", "message": ident, **flags} for ident, flags in marks.items()]
        records += [s.record() for s in session.summaries.values() if {s.start, s.end} <= kept]
        self.open(new, records).close()

    def search(self, query: Query, only: str | None = None) -> Iterator[Hit]:
        """The messages that contain all words of a query, the most recently used session first."""
        for name in [self.find(only)] if only else [s.name for s in self.list_sessions()]:
            if (records := self._searchable(name, query)) is not None:
                yield from find_hits(Session.replay(name, records), query)

    def likely_sessions(self, words: Sequence[str], limit: int) -> list[str]:
        """The sessions that words with these beginnings are most typical of, best first."""
        counts: dict[str, int] = {}
        for session in self.list_sessions():
            with contextlib.suppress(ChatmemError):
                texts = " ".join(str(record.get("content")) for record in self.records(session.name)).lower()
                if count := sum(word in texts for word in words):
                    counts[session.name] = count
        return sorted(counts, key=lambda name: -counts[name])[:limit]

    def check(self, name: str, deep: bool = False) -> CheckReport:
        """An integrity report on a session. `deep` also reports lines that another program changed."""
        name = self.find(name)
        return check_session(name, b"".join(self._lines(name)), deep=deep)

    def check_all(self, deep: bool = False) -> Iterator[CheckReport]:
        """An integrity report on every session, by name."""
        for name in self.progress(sorted(self.names()), "Checking"):
            with contextlib.suppress(SessionNotFoundError):  # deleted in the meantime
                yield self.check(name, deep)

    def not_found(self, name: str, names: Iterable[str]) -> SessionNotFoundError:
        """The error for a session that does not exist, with similar names."""
        from difflib import get_close_matches

        message = f"Session {truncate(name)!r} not found."
        near = get_close_matches(canonical_key(name), by_key := {canonical_key(n): n for n in names}, 3, 0.5)
        if near:
            return SessionNotFoundError(message, f"Did you mean {' or '.join(repr(by_key[k]) for k in near)}?")
        return SessionNotFoundError(message, action=Action("list_sessions"))

    def list_sessions(self) -> list[SessionInfo]:
        """Every session, the most recently used one first."""
        return newest_first(filter(None, map(self._read_info, self.names())))

    def recent_sessions(self, limit: int) -> list[SessionInfo]:
        """The most recently used sessions, newest first."""
        return self.list_sessions()[:limit]

    def matching_sessions(self, pattern: str, limit: int) -> list[SessionInfo]:
        """The most recent sessions whose name or title contains these characters in this order, ignoring case."""
        wanted = re.compile(".*".join(map(re.escape, pattern)), re.IGNORECASE | re.DOTALL)
        found = (s for s in self.list_sessions() if wanted.search(s.name) or wanted.search(s.title))
        return list(itertools.islice(found, limit))

    def is_empty(self) -> bool:
        """Whether there are no sessions. Raises StorageError."""
        return not self.names()

    def unused_name(self, like: str = "") -> str:
        """A name that no session has: `like`, with a number if needed, or two random words."""
        return unique_name(self.names(), like)

    def refresh_index(self) -> None:
        """Bring what is cached beside the sessions up to date, if this store has such a cache."""

    def rebuild_index(self) -> None:
        """Rebuild whatever is cached beside the sessions."""

    def _lines(self, name: str) -> Iterable[bytes]:
        """The records of a session as lines, as they are stored."""
        return map(encode, self.records(name))

    def _searchable(self, name: str, query: Query) -> list[Record] | None:
        """The records of a session, or None if it cannot contain a hit."""
        return self.records(name)

    def _read_info(self, name: str) -> SessionInfo | None:
        try:
            return SessionInfo.from_session(Session.replay(name, self.records(name)))
        except ChatmemError as error:
            self.notify(f"Skipped session {name!r}: {error.message}")
            return None
