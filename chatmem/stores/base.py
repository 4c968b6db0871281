"""The promise of a store: sessions as append-only records, durable when `append` returns, one writer at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

from chatmem.errors import ChatmemError, NoSuchSession, WrongUse
from chatmem.names import key, shortened
from chatmem.records import Record, header, repaired
from chatmem.session import Session
from chatmem.stores.check import Verdict, check
from chatmem.stores.lines import line_of
from chatmem.stores.search import Hit, Query, hits

Say = Callable[[str], None]
"""Where a store says what its user should know: one line each."""

Watched = Callable[[Sequence[str], str], Iterable[str]]
"""Gives the pieces of long work, named in a word, one by one: who watches may show how far it is."""


def unwatched(work: Sequence[str], what: str) -> Iterable[str]:
    """Long work that nobody watches."""
    return work


class Outline(NamedTuple):
    """What a list shows of a session."""

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
    """Whose it is, where another user shared it; the user without a name is ''."""

    @classmethod
    def of(cls, session: Session) -> Outline:
        memory = session.settings.get("memory")
        strategy = memory.get("strategy") if isinstance(memory, dict) else None
        path = session.path
        return cls(
            session.name,
            repaired(session.title),
            sum(m.role == "user" for m in path),
            len(path),
            repaired(session.created),
            repaired(session.last_active),
            repaired(session.model) if session.model else None,
            repaired(str(strategy)) if strategy else None,
            repaired(session.id),
            repaired(str(session.header.get("imported") or "")),
        )

    def record(self) -> dict[str, Any]:
        """The fields of `sessions list --json`."""
        names = ("name", "title", "turns", "messages", "created", "last_active", "model", "memory")
        shared = {} if self.owner is None else {"owner": self.owner}
        return {name: getattr(self, name) for name in names} | shared


class Log(ABC):
    """One session's records, open for reading and appending."""

    name: str
    away: ChatmemError | None = None
    """Why what is appended waits elsewhere for now; None as long as it does not."""

    @abstractmethod
    def read(self) -> tuple[list[Record], bool]:
        """The records added since the last read, by whomever; and whether they are the whole session anew.

        Anew means: the session was replaced meanwhile, and what was read before no longer counts.
        """

    @abstractmethod
    def append(self, records: Iterable[Record]) -> None:
        """Add records, all or none; they are durable on return. Raises NotSaved. Only inside `turn()`."""

    @abstractmethod
    @contextmanager
    def turn(self, wait: bool = True) -> Iterator[None]:
        """Be the only writer for a while. Raises Busy at once if another one is and `wait` is false."""
        yield

    def partial(self, skeleton: Record) -> Callable[[str], None]:
        """Begin to keep an unfinished reply: returns what takes each piece of its text. Never raises.

        `skeleton` is the reply's record without its text. Stores that cannot keep it do nothing.
        """
        return lambda text: None

    def partial_done(self, stored: bool = True) -> None:
        """The reply is over: forget what was kept of it, unless it could not be stored. Never raises."""

    def close(self) -> None:
        """Let go of what is open. Nothing is lost by not calling it."""


class Store(ABC):
    """Where sessions are kept, by name. Names are unique ignoring case."""

    kept: ClassVar[bool] = True
    """Whether anything outlives the process."""
    expires = False
    """Whether what is not used for long goes by itself."""
    deleted: ClassVar[str] = "in the trash"
    """What became of a session that was deleted."""

    def __init__(self, say: Say = lambda line: None) -> None:
        self.say = say
        self.watched: Watched = unwatched

    @abstractmethod
    def names(self) -> list[str]:
        """The names of all sessions, in no order. Raises NotSaved if the place cannot be read."""

    @abstractmethod
    def records(self, name: str) -> list[Record]:
        """All records of a session, with what a dead process left of a reply; no lock, no change."""

    @abstractmethod
    def open(self, name: str, first: Iterable[Record] = ()) -> Log:
        """A session to add to. With `first` it is created from them; the name must be free then (WrongUse)."""

    @abstractmethod
    def rename(self, name: str, new: str) -> None:
        """Give a session another name. Raises WrongUse if the new one is taken."""

    def share(self, name: str, user: str) -> str:
        """Let another user read and write a session; returns the name it has there. Raises WrongUse."""
        raise WrongUse("Sessions that are not kept cannot be shared.")

    @abstractmethod
    def delete(self, name: str, purge: bool = False) -> None:
        """Remove a session: into the trash where there is one, or for good."""

    def session(self, name: str) -> Session:
        """A session as it reads now. Raises NoSuchSession with near names."""
        name = self.find(name)
        return Session.replay(name, self.records(name))

    def find(self, name: str) -> str:
        """The name as it is kept, found ignoring case. Raises NoSuchSession."""
        names = self.names()
        wanted = key(name)
        for known in names:
            if key(known) == wanted:
                return known
        raise self.missing(name, names)

    def place(self, name: str | None = None) -> str:
        """Where a session is kept, or all of them, for a person to look."""
        return self.find(name) if name else "memory"

    def fork(self, name: str, new: str, at: int | None = None) -> None:
        """Copy a conversation, or its turns up to number `at`, into a session of its own. Raises WrongUse."""
        session = self.session(name)
        path = session.path
        if at is not None:
            if session.turn(at) is None:
                raise WrongUse(f"There is no turn {at}.", f"There are turns 1 to {len(session.turns)}.")
            path = session.prologue + [m for turn in session.turns[:at] for m in turn.messages]
        kept = {message.id for message in path}
        records: list[Record] = [header(new) | {"forked": {"id": session.id, "message": path[-1].id if path else None}}]
        settings = {k: v for k, v in session.settings.items() if k != "title"}
        records += [{"type": "settings", **settings}] if settings else []
        records += [message.record() for message in path]
        records += [
            {"type": "mark", "message": ident, **flags} for ident, flags in session.marks.items() if ident in kept
        ]
        records += [part.record() for part in session.summaries.values() if {part.start, part.end} <= kept]
        self.open(new, records).close()

    def search(self, query: Query, only: str | None = None) -> Iterator[Hit]:
        """The messages that hold all words of a query, session by session, the one used last first."""
        for name in [self.find(only)] if only else [o.name for o in self.outlines()]:
            if (records := self._searchable(name, query)) is not None:
                yield from hits(name, Session.replay(name, records).messages.values(), query)

    def _searchable(self, name: str, query: Query) -> list[Record] | None:
        """The records of a session, or None if it surely holds no hit."""
        return self.records(name)

    def check(self, name: str) -> Verdict:
        """The reader's verdict on a session."""
        name = self.find(name)
        return check(name, b"".join(map(line_of, self.records(name))), [], False)

    def missing(self, name: str, names: Iterable[str]) -> NoSuchSession:
        from difflib import get_close_matches

        near = get_close_matches(key(name), by_key := {key(n): n for n in names}, 3, 0.5)
        hint = f"Did you mean {' or '.join(repr(by_key[k]) for k in near)}?" if near else "See: chatmem sessions list"
        return NoSuchSession(f"There is no session {shortened(name)!r}.", hint)

    def outlines(self) -> list[Outline]:
        """One outline per session, the one used last first."""
        found = filter(None, map(self._outline, self.names()))
        return sorted(found, key=lambda o: (o.last_active, o.name), reverse=True)

    def rebuild(self) -> None:
        """Make whatever stands beside the sessions anew: it is only a cache."""

    def _outline(self, name: str) -> Outline | None:
        try:
            return Outline.of(Session.replay(name, self.records(name)))
        except ChatmemError as error:
            self.say(f"Session {name!r} is left out: {error.message}")
            return None
