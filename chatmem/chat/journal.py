"""The journal of a chat: every record is made durable under the session's lock, and applied to the session.

A record that is required, such as a question, is refused if it cannot be saved. Any other one then stays in memory. It
is reported once, and tried again with the next record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from chatmem.errors import (
    ChatmemError,
    Notify,
    SessionLockedError,
    StorageError,
    UsageError,
    ignore_notices,
)
from chatmem.history.records import Record, header
from chatmem.history.session import Session
from chatmem.stores.base import SessionInfo, SessionLog, SessionStore
from chatmem.text import pluralize


class Journal:
    """A session and its log in a store. Records are appended inside `transaction()`."""

    def __init__(self, store: SessionStore, name: str, notify: Notify = ignore_notices, wait: bool = True) -> None:
        """With `wait`, a transaction waits for other processes; else it raises SessionLockedError."""
        self.store, self.name, self.notify, self.wait = store, name, notify, wait
        self.session = Session(name)
        self.save_error: StorageError | None = None
        """Why the last record could not be saved. None if everything is saved."""
        self.open_error: StorageError | None = None
        """Why the session could not be opened for writing. Each transaction tries again."""
        self.settings_version = 0
        """Grows whenever the settings of the session may have changed."""
        self.generation = 0
        """Grows whenever the session was replaced as a whole."""
        self.is_locked = False
        self._log: SessionLog | None = None
        self._unsaved: list[Record] = []
        self._has_appended = False
        """Whether something was appended in this transaction."""

    @property
    def exists(self) -> bool:
        """Whether the session exists in the store."""
        return self._log is not None

    @property
    def has_unsaved_messages(self) -> bool:
        """Whether a message would be lost if the process ended now."""
        return self.store.persistent and any(record["type"] == "message" for record in self._unsaved)

    def load(self) -> None:
        """Read the session without opening it for writing. Raises SessionNotFoundError."""
        self.session = self.store.session(self.name)

    def open(self, initial_settings: Record, external_id: str | None = None) -> None:
        """Open the session. One that does not exist is created with its first record, and has the `external_id`."""
        name = None
        with contextlib.suppress(StorageError):
            name = self.store.lookup(self.name)
        if name is None:
            self._unsaved = [header(self.name) | ({"external_id": external_id} if external_id is not None else {})]
            self._unsaved += [{"type": "settings", **initial_settings}] if initial_settings else []
            self._apply(self._unsaved)
            return
        self.name = name
        try:
            self._log = self.store.open(name)
        except StorageError as error:
            self.session, self.open_error = self.store.session(name), error
            return
        try:
            self._read_new()
            if not self.session.read_only:
                with contextlib.suppress(SessionLockedError), self._log.exclusive(wait=False):
                    self._read_new()
        except StorageError as error:
            self.open_error = error

    @contextlib.contextmanager
    def transaction(self, required: bool = False) -> Iterator[None]:
        """Hold the session's lock, and read what other processes appended.

        If the store refuses, StorageError is raised if the block is `required`. Otherwise the block runs without the
        lock, and its records stay in memory.
        """
        if self.session.read_only:
            raise UsageError(
                f"Session {self.name!r} was written by a newer version of chatmem and is read-only.", "Update chatmem."
            )
        with contextlib.ExitStack() as held:
            self.is_locked = self._has_appended = False
            try:
                log = self._log or self._create()
                held.enter_context(log.exclusive(self.wait))
                if count := self._read_new():
                    self.notify(f"{pluralize(count, 'new message')} from another window.")
                self.is_locked = True
                held.callback(self._unlocked)
            except StorageError as error:
                if required:
                    raise
                self._report(error)
            try:
                yield
            finally:
                if self._log and self._has_appended:
                    self._log.note(SessionInfo.from_session(self.session))

    def append(self, *records: Record, required: bool = False) -> None:
        """Make records durable, with everything that could not be saved before, and apply them to the session.

        If that fails, StorageError is raised for `required` records. Others stay in memory.
        """
        self._unsaved += records
        try:
            self._flush()
        except BaseException as error:
            if required:
                del self._unsaved[len(self._unsaved) - len(records) :]
                raise
            self._apply(records)
            if not isinstance(error, StorageError):
                raise
            self._report(error)
        else:
            self._apply(records)

    def rename(self, name: str) -> None:
        """Give the session another name. Raises UsageError if it is taken."""
        if self._log:
            self.store.rename(self.name, name)
            with self.transaction():  # the log follows
                return
        if self.store.lookup(name) is not None:
            raise UsageError(f"There is already a session {name!r}.", "Choose another name.")
        self.name = self.session.name = name

    def open_draft(self, skeleton: Record) -> Callable[[str], None]:
        """Begin to keep a reply that is arriving. Returns a function that adds text to it."""
        return self._log.open_draft(skeleton) if self._log else lambda text: None

    def close_draft(self) -> None:
        """The reply ended. Its draft is kept if the reply could not be saved."""
        if self._log:
            self._log.close_draft(stored=not self._unsaved)

    def records(self) -> list[Record]:
        """All records of the session, including those that could not be saved."""
        try:
            stored = self.store.records(self.name) if self._log else []
        except ChatmemError:
            stored = [message.record() for message in self.session.messages.values()]
        known = {record.get("id") for record in stored if record.get("type") == "message"}
        return stored + [record for record in self._unsaved if record.get("id") not in known]

    def close(self) -> None:
        """Close the log. What could not be saved is tried once more."""
        if self.has_unsaved_messages or (self.save_error and self.exists):
            with contextlib.suppress(ChatmemError), self.transaction(required=True):
                self._flush()
        if self._log:
            self._log.close()

    def _unlocked(self) -> None:
        self.is_locked = False

    def _create(self) -> SessionLog:
        """Create the session in the store. If it exists by now, join it."""
        try:
            if not any(record["type"] == "session" for record in self._unsaved):
                raise UsageError("The session exists but could not be opened.")
            self._log = self.store.open(self.name, self._unsaved)
        except UsageError:
            name = self.store.find(self.name)
            self._log = self.store.open(name)
            self._unsaved = [record for record in self._unsaved if record["type"] != "session"]
            self.session = Session(name, system_override=self.session.system_override)
            self._read_new()
            self._apply(self._unsaved)
            self.settings_version += 1
        else:
            self._unsaved = []
        return self._log

    def _read_new(self) -> int:
        """Apply what other processes appended. Returns the number of new messages."""
        assert self._log is not None
        records, replaced = self._log.read()
        before = len(self.session.messages)
        if replaced:
            self.session = Session(self._log.name, system_override=self.session.system_override)
            self.generation += 1
            self.settings_version += 1
        stored = {record.get("id") for record in records if record.get("type") == "message"}
        if stored:  # what seemed to fail may have been stored
            self._unsaved = [r for r in self._unsaved if r["type"] != "message" or r["id"] not in stored]
        self._apply(records)
        if replaced or stored:
            self._keep_up_with_others(replaced)
        self._follow_name()
        return 0 if replaced else len(self.session.messages) - before

    def _keep_up_with_others(self, replaced: bool) -> None:
        """Put unsaved messages on a branch of their own if another process has continued the session."""
        head, unsaved = self.session.head, [r for r in self._unsaved if r["type"] == "message"]
        if replaced:
            self._apply(self._unsaved)
        if unsaved and head not in (unsaved[0]["parent"], unsaved[-1]["id"]):
            self._unsaved.append({"type": "head", "message": head})
            self._apply(self._unsaved[-1:])

    def _apply(self, records: list[Record] | tuple[Record, ...]) -> None:
        for record in records:
            self.session.apply(record)
        self.settings_version += any(record.get("type") == "settings" for record in records)

    def _follow_name(self) -> None:
        assert self._log is not None
        self.name = self.session.name = self._log.name

    def _flush(self) -> None:
        """Make everything durable that could not be saved before. Raises StorageError."""
        if self._log is None or not self.is_locked:
            return
        if self._unsaved:
            self._log.append(self._unsaved)
            self._has_appended = True
        if self.save_error:
            self._log.close_draft()
        self._unsaved, self.save_error = [], None

    def _report(self, error: StorageError) -> None:
        if self.save_error is None or self.save_error.message != error.message:
            self.notify(f"Not saved: {error.message} {error.hint}".rstrip(), error.action)
        self.save_error = error
