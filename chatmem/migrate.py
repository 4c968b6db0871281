"""Copying a session from one store to another, and merging copies that were continued separately.

A copy continues where an earlier one stopped, and is compared at the end.
"""

from __future__ import annotations

import contextlib

from chatmem.errors import SessionNotFoundError, UsageError
from chatmem.history.merge import is_copy, missing_records
from chatmem.history.names import conflict_copy_of, is_valid
from chatmem.history.records import Record
from chatmem.stores.base import SessionLog, SessionStore
from chatmem.stores.codec import MALFORMED

MAX_BATCH = 500
"""Records that are written together."""


def copy_session(source: SessionStore, target: SessionStore, name: str) -> int:
    """Copy a session, and return how many records were new. Raises UsageError if the name is taken in the target.

    Malformed lines are not records and cannot be copied; `SessionStore.check` counts them.
    """
    records = [record for record in source.records(name) if record != MALFORMED]
    copied = _existing_records(target, name)
    if copied != records[: len(copied)]:
        raise UsageError(
            f"The target has a different session {name!r}, or one that was continued.", "Rename one of them."
        )
    if not copied:
        target.open(name, records[:MAX_BATCH]).close()
    log = target.open(name)
    try:
        for start in range(len(copied) or MAX_BATCH, len(records), MAX_BATCH):
            with log.exclusive():
                log.read()
                log.append(records[start : start + MAX_BATCH])
            if log.unavailable:
                raise log.unavailable
    finally:
        log.close()
    if _existing_records(target, name) != records:
        raise UsageError(f"Session {name!r} differs between the stores.", "Was it changed during the copy?")
    return len(records) - len(copied)


def merge_sessions(store: SessionStore, name: str, other: str) -> int:
    """Add what a copy of a session has to the session, and move the copy to the trash. Returns what was added.

    `other` is another session of the store or one of its `conflict_copies`. It is locked too, if it is a session.
    """
    name, copies = store.find(name), store.conflict_copies()
    is_file = conflict_copy_of(other) is not None and not is_valid(other)
    if is_file and other not in copies:
        raise store.not_found(other, copies)
    other = other if is_file else store.find(other)
    if other == name:
        raise UsageError("A session cannot be merged with itself.", "Name its copy.")
    with contextlib.ExitStack() as held:
        mine = _locked(held, store, name)
        theirs = store.read_conflict_copy(other) if is_file else _locked(held, store, other).read()[0]
        known, _ = mine.read()
        if not is_copy(known, theirs):
            raise UsageError(
                f"{other!r} is not a copy of session {name!r}.", "Only copies of one session can be merged."
            )
        added = missing_records(known, theirs)
        if added:
            mine.append(added)
    if is_file:
        store.discard_conflict_copy(other)
    else:
        store.delete(other)
    return sum(record.get("type") == "message" for record in added)


def _locked(held: contextlib.ExitStack, store: SessionStore, name: str) -> SessionLog:
    """The log of a session, which stays locked until `held` is closed."""
    log = store.open(name)
    held.callback(log.close)
    held.enter_context(log.exclusive(wait=False))
    return log


def _existing_records(store: SessionStore, name: str) -> list[Record]:
    try:
        return store.records(store.find(name))
    except SessionNotFoundError:
        return []
