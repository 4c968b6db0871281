"""The facts about a user, kept in the store beside the sessions: shown to every session of this user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from chatmem.errors import Action, ChatmemError, UsageError
from chatmem.history.facts import MAX_FACT_CHARS, Fact, replay_facts
from chatmem.history.records import Record, header, new_id, utc_now
from chatmem.history.session import Session
from chatmem.stores.base import SessionLog, SessionStore
from chatmem.text import fix_surrogates, pluralize

LOG_NAME = "facts"
LEFT_OUT = "facts_without"
"""The setting of a session with the ids of the facts that it is not told."""


class FactBook:
    """Reads and changes the facts of a store's user. Changes are appended under a lock; nothing is removed."""

    def __init__(self, store: SessionStore | None) -> None:
        """Without a store there are no facts, such as for a chat that is not saved."""
        self._store = store
        self._log: SessionLog | None = None
        self._records: list[Record] = []
        self._has_read = False

    def facts(self) -> list[Fact]:
        """The facts as they were read last, oldest first."""
        if not self._has_read:
            self.refresh()
        return replay_facts(self._records)

    def told_to(self, session: Session) -> list[Fact]:
        """The facts that a session may be told: all but those that it leaves out."""
        without = session.settings.get(LEFT_OUT)
        hidden = set(map(str, without)) if isinstance(without, list) else set()
        return [fact for fact in self.facts() if fact.id not in hidden]

    def texts(self) -> dict[str, str]:
        """The text of every fact by its id, also of those that do not hold any more."""
        self.facts()
        return {fact.id: fact.text for record in self._records for fact in replay_facts([record | {"replaces": None}])}

    def refresh(self) -> None:
        """Read what was added in the meantime, also by other processes. A store that cannot be read has no facts."""
        self._has_read = True
        with contextlib.suppress(ChatmemError):
            if self._log is None:
                store = self._user_store()
                if store is None or store.lookup(LOG_NAME) is None:
                    return
                self._log = store.open(LOG_NAME)
            self._read()

    def add(self, text: str, session: str = "", turn: int | None = None) -> Fact:
        """Add a fact. Raises UsageError for an empty or long text, and StorageError."""
        fact = Fact(new_id(), _validated(text), utc_now(), session, turn)
        with self._writing() as log:
            if any(known.text == fact.text for known in replay_facts(self._records)):
                raise UsageError("This is remembered already.")
            self._append(log, fact.record())
        return fact

    def replace(self, number: int, text: str) -> Fact:
        """Replace the fact with a number, which counts from 1. Raises UsageError and StorageError."""
        with self._writing() as log:
            old = self.find(number)
            fact = Fact(new_id(), _validated(text), utc_now())
            self._append(log, fact.record(replaces=old.id))
        return fact

    def remove(self, number: int) -> Fact:
        """Remove the fact with a number. Its record stays. Raises UsageError and StorageError."""
        with self._writing() as log:
            old = self.find(number)
            self._append(log, Fact(new_id(), "", utc_now()).record(replaces=old.id))
        return old

    def find(self, number: int) -> Fact:
        """The fact with a number. Raises UsageError."""
        facts = self.facts()
        if not 1 <= number <= len(facts):
            known = f"There are {pluralize(len(facts), 'fact')}." if facts else "There are no facts yet."
            raise UsageError(f"Fact {number} does not exist.", known, Action("list_facts") if facts else None)
        return facts[number - 1]

    def close(self) -> None:
        if self._log:
            self._log.close()

    def _user_store(self) -> SessionStore | None:
        return self._store.user_store() if self._store else None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[SessionLog]:
        """Hold the lock of the facts, with everything read."""
        if self._log is None:
            store = self._user_store()
            if store is None:
                raise UsageError("Nothing is remembered by a chat that is not saved.")
            with contextlib.suppress(UsageError):  # another process has just created it
                store.open(LOG_NAME, [header(LOG_NAME)]).close()
            self._log = store.open(LOG_NAME)
        with self._log.exclusive():
            self._read()
            yield self._log

    def _append(self, log: SessionLog, record: Record) -> None:
        log.append([record])
        self._records.append(record)

    def _read(self) -> None:
        assert self._log is not None
        self._has_read = True
        records, replaced = self._log.read()
        self._records = records if replaced else [*self._records, *records]


def _validated(text: str) -> str:
    text = " ".join(fix_surrogates(text).split())
    if not text:
        raise UsageError("Missing text to remember.")
    if len(text) > MAX_FACT_CHARS:
        raise UsageError(
            f"A fact has at most {MAX_FACT_CHARS:,} characters.", "Attach a longer text as a file instead."
        )
    return text
