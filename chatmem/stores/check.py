"""The reader's verdict on a session file: what is whole, what is damaged, what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatmem.session import Session
from chatmem.stores.lines import record_of


@dataclass
class Verdict:
    """What a check found. `sound` is false only where something can no longer be read."""

    session: str
    records: int = 0
    messages: int = 0
    broken_lines: list[int] = field(default_factory=list)
    damaged_records: int = 0
    unknown_records: int = 0
    torn_tail: int = 0
    """Bytes after the last whole line that are no record; the next writer sets them aside."""
    set_aside: list[str] = field(default_factory=list)
    partial_reply: bool = False

    @property
    def sound(self) -> bool:
        return not (self.broken_lines or self.damaged_records or self.torn_tail)

    def record(self) -> dict[str, Any]:
        return {**vars(self), "sound": self.sound}


def check(name: str, data: bytes, beside: Sequence[str], partial: bool) -> Verdict:
    """Read a session's bytes as the reader does, and say what it makes of each line."""
    verdict = Verdict(name, set_aside=list(beside), partial_reply=partial)
    session = Session(name)
    *lines, rest = data.split(b"\n")
    if rest and not rest.isspace():
        if record_of(rest) is None:
            verdict.torn_tail = len(rest)
        else:
            lines.append(rest)
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            record = record_of(line)
            if record is None:
                verdict.broken_lines.append(number)
            else:
                verdict.records += 1
                session.apply(record)
    verdict.messages, verdict.damaged_records, verdict.unknown_records = (
        len(session.messages),
        session.damaged,
        session.unknown,
    )
    return verdict
