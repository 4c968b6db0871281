"""Integrity report on the records of a session: which lines are valid, and which files are beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chatmem.history.session import Session
from chatmem.stores.codec import decode, is_changed


@dataclass
class CheckReport:
    """What a check found. `ok` is false if something can no longer be read."""

    session: str
    records: int = 0
    messages: int = 0
    malformed_lines: list[int] = field(default_factory=list)
    """The numbers of lines that are not JSON objects."""
    malformed_records: int = 0
    """Records whose fields are invalid."""
    unknown_records: int = 0
    torn_tail: int = 0
    """Bytes after the last complete line that are not a record. The next writer sets them aside."""
    set_aside: list[str] = field(default_factory=list)
    """The names of files that hold torn tails."""
    has_draft: bool = False
    changed_lines: list[int] | None = None
    """The numbers of lines that do not match their checksum. None if that was not checked."""

    @property
    def ok(self) -> bool:
        return not (self.malformed_lines or self.malformed_records or self.torn_tail or self.changed_lines)

    def record(self) -> dict[str, Any]:
        """The fields of `sessions check --json`."""
        return {
            "session": self.session,
            "records": self.records,
            "messages": self.messages,
            "broken_lines": self.malformed_lines,
            "damaged_records": self.malformed_records,
            "unknown_records": self.unknown_records,
            "torn_tail": self.torn_tail,
            "set_aside": self.set_aside,
            "partial_reply": self.has_draft,
            "sound": self.ok,
        } | ({} if self.changed_lines is None else {"changed_lines": self.changed_lines})


def check_session(
    name: str, data: bytes, set_aside: Sequence[str] = (), has_draft: bool = False, deep: bool = False
) -> CheckReport:
    """Read the bytes of a session as every reader does, and report on each line. `deep` compares checksums too."""
    report = CheckReport(name, set_aside=list(set_aside), has_draft=has_draft)
    report.changed_lines = [] if deep else None
    session = Session(name)
    *lines, rest = data.split(b"\n")
    if rest and not rest.isspace():
        if decode(rest) is None:
            report.torn_tail = len(rest)
        else:
            lines.append(rest)
    for number, line in enumerate(lines, 1):
        if line and not line.isspace():
            record = decode(line)
            if record is None:
                report.malformed_lines.append(number)
            else:
                report.records += 1
                session.apply(record)
                if report.changed_lines is not None and is_changed(line):
                    report.changed_lines.append(number)
    report.messages = len(session.messages)
    report.malformed_records, report.unknown_records = session.malformed_count, session.unknown_count
    return report
