"""The lines of a summary segment, each with its day and the turns that it stems from, and how they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from chatmem.memory.dates import DAY_HEADING


class Line(NamedTuple):
    """One line of a summary."""

    day: str
    text: str
    ids: tuple[str, ...] = ()


def read_lines(text: str, sources: Sequence[Sequence[str]] = ()) -> Iterator[Line]:
    """The lines of a summary as it is stored, each with its day. `sources` are the ids of the turns of each line."""
    day = ""
    for number, raw in enumerate(text.split("\n")):
        heading = DAY_HEADING.match(raw)
        if heading:
            day, raw = heading[1], raw[heading.end() :]
        if raw.strip():
            yield Line(day, raw.strip(), tuple(sources[number]) if number < len(sources) else ())


def write_lines(lines: Iterable[Line]) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """The lines as text, the first one of each day with the date before it, and the turns of each line."""
    texts: list[str] = []
    sources: list[tuple[str, ...]] = []
    day = ""
    for line in lines:
        begins_with_day = bool(DAY_HEADING.match(line.text))
        texts.append(f"{line.day}: {line.text}" if line.day and (line.day != day or begins_with_day) else line.text)
        sources.append(line.ids)
        day = line.day or day
    return "\n".join(texts), tuple(sources)
