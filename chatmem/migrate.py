"""Copying a session from one store to another: continued where an earlier copy stopped, and compared at the end."""

from __future__ import annotations

from chatmem.errors import SessionNotFoundError, UsageError
from chatmem.history.records import Record
from chatmem.stores.base import SessionStore
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


def _existing_records(store: SessionStore, name: str) -> list[Record]:
    try:
        return store.records(store.find(name))
    except SessionNotFoundError:
        return []
