"""A session from one store into another: on from where an earlier copy stopped, and compared at the end."""

from __future__ import annotations

from chatmem.errors import NoSuchSession, WrongUse
from chatmem.records import Record
from chatmem.stores.base import Store
from chatmem.stores.lines import BROKEN

MOST = 500
"""Records that are written together."""


def copied(source: Store, target: Store, name: str) -> int:
    """Copy a session; returns how many records were new. Raises WrongUse if another one has its name there.

    What is no record (a damaged line) cannot be copied; `sessions check` counts it.
    """
    records = [record for record in source.records(name) if record != BROKEN]
    there = _there(target, name)
    if there != records[: len(there)]:
        raise WrongUse(f"There is another session {name!r}, or one that went on.", "Rename one of them.")
    if not there:
        target.open(name, records[:MOST]).close()
    log = target.open(name)
    try:
        for start in range(len(there) or MOST, len(records), MOST):
            with log.turn():
                log.read()
                log.append(records[start : start + MOST])
            if log.away:
                raise log.away
    finally:
        log.close()
    if _there(target, name) != records:
        raise WrongUse(f"Session {name!r} is not the same in both places.", "Did somebody write to it meanwhile?")
    return len(records) - len(there)


def _there(store: Store, name: str) -> list[Record]:
    try:
        return store.records(store.find(name))
    except NoSuchSession:
        return []
