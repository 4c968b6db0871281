"""The values in a text that can be checked: dates, times, numbers, codes and addresses, whatever their notation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from chatmem.memory.dates import named_days
from chatmem.text import fold

_ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+|[\w.+-]+@[\w-]+\.\w[\w.-]*")
_NUMERIC_DATE = re.compile(r"\b(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2})\b")
_TIME = re.compile(r"\b(\d{1,2})(?:[:h](\d{2}))?\s?([ap])\.?m\b|\b(\d{1,2})[:h](\d{2})\b")
_TOKEN = re.compile(r"[^\W_](?:[\w.,'’/-]*\w)?")
_NUMBER = re.compile(r"(\d[\d.,'’]*?)(st|nd|rd|th|er|k|m|[a-z]{1,3})?")
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_SEPARATORS = re.compile(r"[\W_]+")
_MULTIPLES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mio": 1e6, "million": 1e6}
_UNITS = (
    "zero one|ein|eine|un|une|uno|una two|zwei|deux|dos three|drei|trois|tres four|vier|quatre|cuatro "
    "five|funf|cinq|cinco six|sechs|seis seven|sieben|sept|siete eight|acht|huit|ocho nine|neun|neuf|nueve "
    "ten|zehn|dix|diez eleven|elf|onze|once twelve|zwolf|douze|doce|dozen "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_NUMBER_WORDS = {word: number for number, words in enumerate(_UNITS.split(" ")) for word in words.split("|")}
_NUMBER_WORDS |= {
    word: 10 * number for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_WORD = re.compile(r"[^\W\d_]+")
MIN_SQUEEZED = 4
"""Codes and numbers of so many characters are also found where they are written with other separators."""


@dataclass
class Values:
    """The values of a source, in every notation that counts as the same value."""

    addresses: set[str] = field(default_factory=set)
    days: set[tuple[int, int]] = field(default_factory=set)
    """Month and day."""
    years: set[int] = field(default_factory=set)
    minutes: set[int] = field(default_factory=set)
    """Times as minutes of the day."""
    numbers: set[float] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    squeezed: str = ""
    """All texts without separators."""

    @classmethod
    def of(cls, texts: Iterable[tuple[str, date | None]]) -> Values:
        """The values in some texts, each with the day on which it was written."""
        found = cls()
        for text, day in texts:
            found._add(text, day)
        return found

    def unknown(self, line: str, day: date | None) -> Iterator[str]:
        """The values of a line that this source has in no notation, and that do not follow from it."""
        text = _LIST_MARK.sub("", fold(line))
        for kind, literal, candidates in _read(text, day or date(2000, 1, 1)):
            known: set[object] = set(getattr(self, kind))
            if not known.isdisjoint(candidates):
                continue
            squeezed = _SEPARATORS.sub("", literal)
            if len(squeezed) >= MIN_SQUEEZED and kind != "days" and squeezed in self.squeezed:
                continue
            yield literal

    def _add(self, text: str, day: date | None) -> None:
        folded = fold(text)
        self.squeezed += " " + _SEPARATORS.sub("", folded)
        for kind, _, candidates in _read(folded, day or date(2000, 1, 1)):
            getattr(self, kind).update(candidates)
        self.numbers.update(_spelled_numbers(folded))
        if day:
            self.days.add((day.month, day.day))
            self.years.add(day.year)
            self.numbers.add(float(day.year))
            for named in named_days(folded, day):
                for offset in range(min(32, (named.last - named.first).days + 1)):
                    other = named.first + timedelta(offset)
                    self.days.add((other.month, other.day))
                    self.numbers.add(float(other.year))


def _read(text: str, day: date) -> Iterator[tuple[str, str, set[object]]]:
    """The values in a folded text: the kind, the text itself, and what it may stand for."""
    spans: list[tuple[int, int]] = []

    def is_new(start: int, end: int) -> bool:
        if any(start < other_end and other_start < end for other_start, other_end in spans):
            return False
        spans.append((start, end))
        return True

    for match in _ADDRESS.finditer(text):
        if is_new(*match.span()):
            yield "addresses", match[0], {match[0].rstrip(".,;:!?)\"'")}
    for named in named_days(text, day):
        literal = text[named.start : named.end]
        is_day = named.first == named.last and not named.is_relative and any(map(str.isdigit, literal))
        if is_day and is_new(named.start, named.end):
            yield "days", literal, {(named.first.month, named.first.day)}
    for match in _NUMERIC_DATE.finditer(text):
        if is_new(*match.span()):
            one, two = int(match[1]), int(match[2])
            yield "days", match[0], {(one, two), (two, one)}
    for match in _TIME.finditer(text):
        if is_new(*match.span()):
            yield "minutes", match[0], _minutes(match)
    for match in _TOKEN.finditer(text):
        if any(c.isdigit() for c in match[0]) and is_new(*match.span()):
            number = _NUMBER.fullmatch(match[0])
            if number:
                following = _WORD.match(text, match.end() + 1)
                yield "numbers", match[0], _numbers(number[1], number[2] or (following[0] if following else ""))
            else:
                yield "codes", match[0], {_SEPARATORS.sub("", match[0])}


def _minutes(match: re.Match[str]) -> set[object]:
    hour, minute, half = int(match[1] or match[4]), int(match[2] or match[5] or 0), match[3]
    if half:
        return {hour % 12 * 60 + minute + (720 if half == "p" else 0)}
    return {hour * 60 + minute, *([hour * 60 + minute + 720] if hour < 12 else [])}


def _numbers(digits: str, unit: str) -> set[object]:
    """What a number may stand for: `1.500` is one and a half, or fifteen hundred."""
    plain = re.sub(r"['’]", "", digits)
    found = {_float(re.sub(r"[.,]", "", plain)), _float(plain.replace(",", "")), _float(plain.replace(",", "."))}
    found = {number for number in found if number is not None}
    multiple = _MULTIPLES.get(unit)
    return {*found, *(number * multiple for number in found if number is not None and multiple)}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _spelled_numbers(text: str) -> Iterator[float]:
    """The numbers that are written as words, such as "twenty-five" or "three hundred"."""
    current: float | None = None
    for word in [*_WORD.findall(text), ""]:
        number = _NUMBER_WORDS.get(word)
        if number is not None:
            yield float(number)
            joins = current is not None and current >= 20 and number < 10
            current = (current or 0) + number if joins else float(number)
        elif word == "hundred" and current is not None:
            current *= 100
        elif word in _MULTIPLES and len(word) > 3 and current is not None:
            current *= _MULTIPLES[word]
        elif word != "and":
            current = None
        if current is not None:
            yield current
