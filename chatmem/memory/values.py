"""The values in a text that can be checked: dates, times, numbers, codes and addresses, whatever their notation."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from chatmem.memory.dates import named_days
from chatmem.text import UNSPACED, normalize_in_place

_URL = re.compile(r"https?://\S+|\bwww\.\S+")
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.\w[\w.-]*")
_NUMERIC_DATE = re.compile(r"\b(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2})\b")
_CJK_DATE = re.compile(r"(?:(\d{4}) ?年 ?)?(\d{1,2}) ?月 ?(\d{1,2}) ?日")
_BESIDE_DIGITS = re.compile(rf"(?<=[{UNSPACED}])(?=\d)|(?<=\d)(?=[{UNSPACED}])")
_TIME = re.compile(
    r"\b(\d{1,2})(?:[:h.](\d{2}))?\s?(?:([ap])\.?m\b|(?:o'clock|uhr|heures?)\b)|\b(\d{1,2})[:h](\d{2})\b"
)
_LATE = re.compile(r"\b(?:evening|afternoon|night|tonight|abend|nachmittag|soir|tarde|noche)|[下晚]")
_TOKEN = re.compile(r"[^\W_](?:[\w.,'’/-]*\w)?")
_RANGE = re.compile(r"\d+(?:[.,]\d+)?(?:-\d+(?:[.,]\d+)?)+")
_NUMBER = re.compile(r"v?(\d[\d.,'’]*?)(st|nd|rd|th|er|k|m|[a-z]{1,3})?")
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
_PIECE = re.compile(r"[^\W_]+")
_HAN_NUMBER = re.compile("[〇零一二两兩三四五六七八九十百千万萬億亿\\d]+")
_HAN_DIGITS = {
    character: value for value, pair in enumerate("〇零 一 二两兩 三 四 五 六 七 八 九".split()) for character in pair
}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN_MYRIADS = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}
_MULTIPLES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6, "billion": 1e9}
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
MAX_SOURCE_CHARS = 100_000
"""How much of one message is read."""
MIN_SQUEEZED = 4
"""Codes and numbers of so many characters are also found where they are written with other separators."""


@dataclass
class Values:
    """The values of a source, in every notation that counts as the same value."""

    addresses: set[object] = field(default_factory=set)
    days: set[object] = field(default_factory=set)
    """Month and day, and month, day and year."""
    minutes: set[object] = field(default_factory=set)
    """Times as minutes of the day."""
    numbers: set[object] = field(default_factory=set)
    codes: set[object] = field(default_factory=set)
    pieces: str = "\0"
    """All words and numbers without their separators, each between two NUL characters."""

    @classmethod
    def of(cls, texts: Iterable[tuple[str, date | None]]) -> Values:
        """The values in some texts, each with the day on which it was written."""
        found = cls()
        for text, day in texts:
            found._add(text[:MAX_SOURCE_CHARS], day)
        return found

    def unknown(self, line: str, day: date | None) -> Iterator[str]:
        """The values of a line that this source has in no notation, and that do not follow from it."""
        text = _LIST_MARK.sub("", normalize_in_place(line))
        for kind, literal, candidates in _read(text, day or date(2000, 1, 1), is_source=False):
            if getattr(self, kind).isdisjoint(candidates) and (kind == "days" or not self._has_pieces(literal)):
                yield literal

    def _has_pieces(self, literal: str) -> bool:
        """Whether whole words and numbers of the source, joined, are this text: other separators, or none."""
        characters = "".join(_PIECE.findall(literal))
        if len(characters) < MIN_SQUEEZED:
            return False
        return re.search("\0" + "\0*".join(map(re.escape, characters)) + "\0", self.pieces) is not None

    def _add(self, text: str, day: date | None) -> None:
        normalized = normalize_in_place(text)
        self.pieces += "\0".join(_PIECE.findall(normalized)) + "\0"
        written = day or date(2000, 1, 1)
        for plain in {normalized, _HAN_NUMBER.sub(lambda run: str(_han_number(run[0])), normalized)}:
            for kind, _, candidates in _read(plain, written, is_source=True):
                getattr(self, kind).update(candidates)
        self.numbers.update(_spelled_numbers(normalized))
        if day:
            self.days |= {(day.month, day.day), (day.month, day.day, day.year)}
            self.numbers.add(float(day.year))
            for named in named_days(text, day):
                for offset in range(min(32, (named.last - named.first).days + 1)):
                    with contextlib.suppress(OverflowError):
                        other = named.first + timedelta(offset)
                        self.days |= {(other.month, other.day), (other.month, other.day, other.year)}
                        self.numbers.add(float(other.year))


def _read(text: str, written: date, is_source: bool) -> Iterator[tuple[str, str, set[object]]]:
    """The values in a normalized text: the kind, the text itself, and what it may stand for."""
    text = _BESIDE_DIGITS.sub(" ", text)
    taken = bytearray(len(text))

    def is_new(start: int, end: int) -> bool:
        if any(taken[start:end]):
            return False
        taken[start:end] = b"\1" * (end - start)
        return True

    for pattern in (_URL, *([_MAIL] if "@" in text else [])):
        for match in pattern.finditer(text):
            if is_new(*match.span()):
                yield "addresses", match[0], {match[0].rstrip(".,;:!?)\"'")}
    for match in _CJK_DATE.finditer(text):
        if is_new(*match.span()):
            yield "days", match[0], _days(int(match[2]), int(match[3]), match[1], written, is_source)
    for named in named_days(text, written):
        literal = text[named.start : named.end]
        is_day = named.first == named.last and not named.is_relative and any(map(str.isdigit, literal))
        if is_day and is_new(named.start, named.end):
            year = str(named.first.year) if str(named.first.year) in literal else None
            yield "days", literal, _days(named.first.month, named.first.day, year, written, is_source)
    for match in _NUMERIC_DATE.finditer(text):
        if is_new(*match.span()):
            one, two, year = int(match[1]), int(match[2]), match[3] if len(match[3]) == 4 else f"20{match[3]}"
            either = _days(one, two, year, written, is_source) | _days(two, one, year, written, is_source)
            yield "days", match[0], either
    for match in _TIME.finditer(text):
        if is_new(*match.span()):
            yield "minutes", match[0], _minutes(match, is_source and bool(_LATE.search(text)))
    for match in _TOKEN.finditer(text):
        if not any(map(str.isdigit, match[0])) or not is_new(*match.span()):
            continue
        if _RANGE.fullmatch(match[0]):
            for part in match[0].split("-"):
                yield "numbers", part, _numbers(part, "", is_source)
        elif number := _NUMBER.fullmatch(match[0]):
            following = _WORD.match(text, match.end() + 1)
            unit = number[2] or (following[0] if following else "")
            yield "numbers", match[0], _numbers(number[1], unit, is_source)
        else:
            yield "codes", match[0], {"".join(_PIECE.findall(match[0]))}


def _days(month: int, day: int, year: str | None, written: date, is_source: bool) -> set[object]:
    """What a date may stand for. One without a year is near the day on which it was written."""
    if not is_source:
        return {(month, day, int(year))} if year else {(month, day)}
    years = [int(year)] if year else [written.year - 1, written.year, written.year + 1]
    return {(month, day), *((month, day, known) for known in years)}


def _minutes(match: re.Match[str], may_be_late: bool) -> set[object]:
    hour, minute, half = int(match[1] or match[4]), int(match[2] or match[5] or 0), match[3]
    if half:
        return {hour % 12 * 60 + minute + (720 if half == "p" else 0)}
    return {hour * 60 + minute, *([hour * 60 + minute + 720] if may_be_late and hour < 12 else [])}


def _numbers(digits: str, unit: str, is_source: bool) -> set[object]:
    """What a number may stand for: `1.500` is one and a half, or fifteen hundred. A source's 2.5k is also 2.5."""
    plain = re.sub(r"['’]", "", digits)
    texts = {re.sub(r"[.,]", "", plain), plain.replace(",", ""), plain.replace(",", ".")}
    found = {number for number in map(_float, texts) if number is not None}
    multiple = _MULTIPLES.get(unit)
    if multiple is None:
        return set(found)
    multiplied = {number * multiple for number in found}
    return {*multiplied, *(found if is_source or (len(unit) == 1 and unit == "m") else [])}


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _han_number(run: str) -> int | str:
    """A number in Chinese or Japanese numerals, such as 三万五千 or 3万5千. The run itself if it has no numeral."""
    if run.isdecimal() or not any(character in "十百千万萬億亿" or character in _HAN_DIGITS for character in run):
        return run
    if all(character in _HAN_DIGITS for character in run):
        return "".join(str(_HAN_DIGITS[character]) for character in run)
    total = section = digit = 0
    for character in run:
        if character in _HAN_MYRIADS:
            total += (section + digit or 1) * _HAN_MYRIADS[character]
            section = digit = 0
        elif character in _HAN_UNITS:
            section += (digit or 1) * _HAN_UNITS[character]
            digit = 0
        else:
            digit = digit * 10 + (int(character) if character.isdecimal() else _HAN_DIGITS[character])
    return total + section + digit


def _spelled_numbers(text: str) -> Iterator[float]:
    """The numbers that are written as words, such as "twenty-five" or "three hundred"."""
    current: float | None = None
    for word in [*_WORD.findall(text), ""]:
        number = _NUMBER_WORDS.get(word)
        if number is not None:
            yield float(number)
            joins = current is not None and current >= 20 and number < 10
            current = (current or 0) + number if joins else float(number)
        elif word == "hundred":
            current = (current or 1) * 100
        elif word in _MULTIPLES and len(word) > 3:
            current = (current or 1) * _MULTIPLES[word]
        elif word != "and":
            current = None
        if current is not None:
            yield current
