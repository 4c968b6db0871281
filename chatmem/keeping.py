"""What is kept of a conversation: every record durable, under the lock, in the session and in its store alike.

What cannot be saved is kept in memory, said once, and tried again with the next record.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from chatmem.errors import Busy, ChatmemError, NoSuchSession, NotSaved, StoreAway, WrongUse
from chatmem.names import counted
from chatmem.records import Record, header
from chatmem.session import Session
from chatmem.stores.base import Log, Say, Store


class Keeping:
    """A session, and the log in a store that it is kept in. Who adds to it does so inside `_turn`, through `_keep`."""

    def __init__(self, store: Store, name: str, say: Say, wait: bool) -> None:
        self.store, self.name, self.tell, self.wait = store, name, say, wait
        self.session = Session(name)
        self.not_saved: NotSaved | None = None
        """Why the last record could not be saved; None if all are."""
        self._log: Log | None = None
        self._locked = False
        self._unsaved: list[Record] = []

    @property
    def started(self) -> bool:
        """Whether there is anything to come back to."""
        return self._log is not None

    def close(self) -> None:
        """Let go. What could not be saved is tried once more."""
        if self.store.kept and any(record["type"] == "message" for record in self._unsaved):
            with contextlib.suppress(ChatmemError), self._turn():
                self._flush()
        if self._log:
            self._log.close()

    # What who keeps may want to know

    def _news(self, settings: bool, anew: bool) -> None:
        """Records came from the store: settings among them, or the whole session anew."""

    def _in_turn(self) -> None:
        """The session is ours for a turn, and all that others added is in it."""

    # How it is kept

    def _open(self, wanted: Record) -> None:
        try:
            name = self.store.find(self.name)
        except ChatmemError as error:
            if not isinstance(error, NoSuchSession | NotSaved):
                raise
            if isinstance(error, NotSaved) and not isinstance(error, StoreAway):
                self._say_not_saved(error)
            self._unsaved = [header(self.name)]
            self._unsaved += [{"type": "settings", **wanted}] if wanted else []
            for record in self._unsaved:
                self.session.apply(record)
            return
        self.name = name
        try:
            self._log = self.store.open(name)
        except NotSaved as error:
            self.session = self.store.session(name)
            self._say_not_saved(error)
        else:
            self._read_on()
            if not self.session.read_only:
                with contextlib.suppress(Busy, NotSaved), self._log.turn(wait=False):
                    self._read_on()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the session's lock, and pick up what another process added."""
        if self.session.read_only:
            raise WrongUse(
                f"Session {self.name!r} was written by a newer chatmem: it can only be read.",
                "Update chatmem.",
            )
        with contextlib.ExitStack() as held:
            self._locked = False
            try:
                if self._log is None:
                    self._create()
                assert self._log is not None
                held.enter_context(self._log.turn(self.wait))
                if others := self._read_on():
                    self.tell(f"Another chat went on here: {counted(others, 'message')} of it taken in.")
                self._locked = True
                self._in_turn()
            except NotSaved as error:
                self._say_not_saved(error)
            yield

    def _create(self) -> None:
        """Begin the session's file; if it is there already, join it."""
        try:
            if not any(record["type"] == "session" for record in self._unsaved):
                raise WrongUse("It is there, and could not be opened before.")
            self._log = self.store.open(self.name, self._unsaved)
            self._unsaved = []
        except WrongUse:
            name = self.store.find(self.name)
            self._log = self.store.open(name)
            self._unsaved = [r for r in self._unsaved if r["type"] != "session"]
            self.session = Session(name, prompt=self.session.prompt)
            self._read_on()
            for record in self._unsaved:
                self.session.apply(record)
            self._news(settings=True, anew=False)
            return
        self._read_on(apply=False)

    def _read_on(self, apply: bool = True) -> int:
        """Take in what others added; returns how many messages that were."""
        assert self._log is not None
        records, anew = self._log.read()
        before = len(self.session.messages)
        if anew:
            self.session = Session(self._log.name, prompt=self.session.prompt)
        if apply or anew:
            self._news(any(record.get("type") == "settings" for record in records), anew)
            for record in records:
                self.session.apply(record)
        if self._log.name != self.name:
            self.name = self.session.name = self._log.name
        return 0 if anew or not apply else len(self.session.messages) - before

    def _keep(self, *records: Record) -> None:
        """Take records into the session and make them durable, together with what could not be saved before."""
        for record in records:
            self.session.apply(record)
        self._unsaved += records
        self._flush()

    def _flush(self) -> None:
        if self._log is None or not self._locked:
            return
        try:
            self._log.append(self._unsaved)
        except NotSaved as error:
            self._say_not_saved(error)
        else:
            if self.not_saved:
                self._log.partial_done()
            self._unsaved, self.not_saved = [], None

    def _say_not_saved(self, error: NotSaved) -> None:
        if self.not_saved is None or self.not_saved.message != error.message:
            self.tell(f"Not saved: {error.message} {error.hint}".rstrip())
        self.not_saved = error


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put Ctrl-C, SIGTERM and SIGHUP off until the block is done, so that no save stops half-way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    names = [s for n in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, n, None))]
    before = {name: signal.signal(name, lambda number, frame: came.append(number)) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)
