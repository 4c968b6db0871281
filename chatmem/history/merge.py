"""Joining two copies of a session that were continued separately, such as a synchroniser leaves.

Records that only one copy has are added to the other one, so that both continuations become branches. Settings, marks,
summaries and the head are those of the records in the order of their time. A record without a time has the time of the
record before it, and no record is older than the one before it: clocks may differ, the order of a copy is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from chatmem.history.records import Record
from chatmem.history.session import Session


def missing_records(mine: Sequence[Record], theirs: Sequence[Record]) -> list[Record]:
    """What to append to a copy of a session, so that it is everything that it and another copy are.

    Nothing if it has all records of the other copy. Either copy becomes the same session.
    """
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(mine, theirs, strict=False)))
    added = list(_without(theirs[shared:], mine[shared:]))
    if not added:
        return []
    started = _time_of(mine[:shared])
    tails = [*_timed(mine[shared:], started), *_timed(theirs[shared:], started)]
    in_order = [record for *_, record in sorted(tails, key=lambda timed: timed[:3])]
    merged = Session.replay("", [*mine[:shared], *_once(in_order)])
    return [*added, *_corrections(Session.replay("", [*mine, *added]), merged)]


def is_copy(mine: Sequence[Record], theirs: Sequence[Record]) -> bool:
    """Whether two lists of records are of the same session."""
    ident = _session_id(mine)
    return ident is not None and ident == _session_id(theirs)


def _session_id(records: Sequence[Record]) -> object:
    return next((record.get("id") for record in records if record.get("type") == "session"), None)


def _without(records: Sequence[Record], known: Sequence[Record]) -> Iterator[Record]:
    """The records that are not among those known. A message or a summary is known by its id."""
    left = Counter(map(_identity, known))
    for record in records:
        identity = _identity(record)
        if left[identity]:
            left[identity] -= 1
        elif record.get("type") not in ("session", "malformed"):
            yield record


def _once(records: Iterable[Record]) -> Iterator[Record]:
    """The records, each message and summary once."""
    known: set[str] = set()
    for record in records:
        identity = _identity(record)
        if identity not in known or "id" not in record:
            yield record
        known.add(identity)


def _identity(record: Record) -> str:
    ident = record.get("id")
    return f"{record.get('type')} {ident}" if isinstance(ident, str) else json.dumps(record, sort_keys=True)


def _timed(records: Sequence[Record], started: str) -> Iterator[tuple[str, int, str, Record]]:
    """Each record with what it is sorted by: its time, its place, and its text."""
    latest = started
    for place, record in enumerate(records):
        latest = max(latest, _time_of([record]))
        yield latest, place, json.dumps(record, sort_keys=True), record


def _time_of(records: Sequence[Record]) -> str:
    """The latest time in some records."""
    times = (time for record in records for time in (record.get("time"), record.get("created")))
    return max((time for time in times if isinstance(time, str)), default="")


def _corrections(now: Session, wanted: Session) -> Iterator[Record]:
    """The records that make one session equal to another one with the same messages."""
    changed = {
        name: wanted.settings.get(name)
        for name in sorted(now.settings.keys() | wanted.settings.keys())
        if now.settings.get(name) != wanted.settings.get(name)
    }
    if changed:
        yield {"type": "settings", **changed}
    for ident in sorted(now.marks.keys() | wanted.marks.keys()):
        flags, known = wanted.marks.get(ident, {}), now.marks.get(ident, {})
        if flags != known:
            names = sorted({*flags, *known})
            yield {"type": "mark", "message": ident, **{name: flags.get(name, False) for name in names}}
    for key in sorted(now.summaries.keys() | wanted.summaries.keys(), key=str):
        segment = wanted.summaries.get(key)
        if segment is None:
            yield now.summaries[key]._replace(text="").record()
        elif now.summaries.get(key) != segment:
            yield segment.record()
    if now.head != wanted.head:
        yield {"type": "head", "message": wanted.head}
