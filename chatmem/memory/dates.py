"""Days that a text names: dates, months, weekdays and words such as "yesterday", in four languages."""

from __future__ import annotations

import contextlib
import re
from calendar import monthrange
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple

from chatmem.history.records import parse_time
from chatmem.text import normalize, normalize_in_place

_MONTHS = (
    "january jan januar janvier enero",
    "february feb februar fevrier febrero",
    "march mar marz mars marzo",
    "april apr avril abril",
    "may mai mayo",
    "june jun juni juin junio",
    "july jul juli juillet julio",
    "august aug aout agosto",
    "september sep sept septembre septiembre",
    "october oct oktober okt octobre octubre",
    "november nov novembre noviembre",
    "december dec dezember dez decembre diciembre",
)
_WEEKDAYS = (
    "monday montag lundi lunes",
    "tuesday dienstag mardi martes",
    "wednesday mittwoch mercredi miercoles",
    "thursday donnerstag jeudi jueves",
    "friday freitag vendredi viernes",
    "saturday samstag samedi sabado",
    "sunday sonntag dimanche domingo",
)
_COUNTS = (
    "a an one ein einer einem un une una",
    "two zwei deux dos",
    "three drei trois tres",
    "four vier quatre cuatro",
    "five funf cinq cinco",
    "six sechs seis",
    "seven sieben sept siete",
    "eight acht huit ocho",
    "nine neun neuf nueve",
    "ten zehn dix diez",
    "eleven elf onze once",
    "twelve zwolf douze doce",
)
_UNITS = (
    "day days tag tage tagen jour jours dia dias",
    "week weeks woche wochen semaine semaines semana semanas",
    "month months monat monate monaten mois mes meses",
    "year years jahr jahre jahren an ans ano anos",
)
_DAYS = {
    "the day before yesterday": -2, "vorgestern": -2, "avant-hier": -2, "anteayer": -2,
    "yesterday": -1, "last night": -1, "gestern": -1, "letzte nacht": -1, "ayer": -1, "anoche": -1,
    "today": 0, "tonight": 0, "this morning": 0, "this evening": 0, "heute": 0, "aujourd'hui": 0, "hoy": 0,
    "tomorrow": 1, "morgen um": 1, "demain": 1,
    "the day after tomorrow": 2, "ubermorgen": 2, "apres-demain": 2, "pasado manana": 2,
}  # fmt: skip
_STEPS = (
    "last past previous letzte letzten letzter letztes vorige derniere dernier pasada pasado",
    "this diese diesen dieses cette ce esta este",
    "next nachste nachsten nachstes prochaine prochain proxima proximo",
)
_PREPOSITIONS = "in of on last this next since during early late until by from im am letzten seit en le au de el"


DAY_HEADING = re.compile(r"[\s*#_-]*(\d{4}-\d\d-\d\d)[*_]*(?::[*_]*(?:\s+|$)|\s*$)")
"""The day that the lines of a summary begin with, as in `2026-05-03: flies to Lisbon`."""

_WORD = re.compile(r"[^\W\d_]+")


def _span(first: date, last: date) -> str:
    """A day, a range of days, or a whole month or year: `2026-05-03`, `2026-05`, `2026`."""
    if first == last:
        return str(first)
    if (first.month, first.day, last.month, last.day) == (1, 1, 12, 31) and first.year == last.year:
        return str(first.year)
    if first.day == 1 and last == _month_days(first.year, first.month)[1]:
        return str(first)[:7]
    return f"{first} to {last}"


class NamedDays(NamedTuple):
    """Days that a text names between two positions, from the first to the last one."""

    start: int
    end: int
    first: date
    last: date
    is_relative: bool
    """Whether they depend on the day on which the text was written."""


def named_days(text: str, today: date) -> list[NamedDays]:
    """The days that a text written `today` names. What has no year or direction is in the past."""
    normalized, taken = normalize_in_place(text), bytearray(len(text))
    found: list[NamedDays] = []
    for pattern, resolve, is_relative in _patterns():
        for match in pattern.finditer(normalized):
            start, end = match.span()
            if any(taken[start:end]):
                continue
            with contextlib.suppress(ValueError, OverflowError):  # 31 June, the year 0
                first, last = resolve(match, today)
                found.append(NamedDays(start, end, first, last, is_relative))
                taken[start:end] = b"\1" * (end - start)
    return sorted(found)


@lru_cache(maxsize=1024)  # every plan dates the same turns again
def with_dates(text: str, day: date) -> str:
    """A text written on `day`, with the date in brackets behind words such as "tomorrow"."""
    if _relative_words().isdisjoint(_WORD.findall(normalize(text))):
        return text
    for found in reversed(named_days(text, day)):
        if found.is_relative:
            text = f"{text[: found.end]} [{_span(found.first, found.last)}]{text[found.end :]}"
    return text


@cache
def _relative_words() -> frozenset[str]:
    """Words without which no days are named relatively."""
    days = (word for name in _DAYS for word in _WORD.findall(name))
    return frozenset((*days, "last", "letzten", *" ".join(_UNITS).split()))


class Calendar(NamedTuple):
    """The days on which messages were written, as local days where the time of sending is known."""

    now: datetime | None = None
    annotates: bool = False
    """Whether quoted words such as "tomorrow" get their date."""

    @property
    def today(self) -> date | None:
        return self.now.date() if self.now else None

    def day(self, time: str) -> str:
        """The day of a record's time as `2026-05-03`. Empty if it has none."""
        with contextlib.suppress(ValueError, OverflowError):  # a time at the end of the calendar
            if self.now is None:
                return str(date.fromisoformat(time[:10]))
            if parsed := parse_time(time):
                return str(parsed.astimezone(self.now.tzinfo).date())
        return ""

    def dated(self, text: str, day: str) -> str:
        return with_dates(text, date.fromisoformat(day)) if self.annotates and day else text


Resolve = Callable[[re.Match[str], date], tuple[date, date]]


@cache
def _patterns() -> list[tuple[re.Pattern[str], Resolve, bool]]:
    """The patterns on normalized text, the most specific ones first."""
    month, weekday, step, unit, count = map(_group, (_MONTHS, _WEEKDAYS, _STEPS, _UNITS, _COUNTS))
    day, year, ordinal = r"(?P<day>\d{1,2})", r"(?:,?\s+(?P<year>\d{4}))", r"(?:st|nd|rd|th|er|\.)?"
    number = rf"(?P<number>\d{{1,3}}|{count})"
    before = "|".join(_PREPOSITIONS.split())
    table: list[tuple[str, Resolve, bool]] = [
        (r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)", _date, False),
        (rf"{day}{ordinal}\s+(?:of\s+|de\s+)?(?P<month>{month})\b{year}?", _date, False),
        (rf"(?P<month>{month})\.?\s+{day}{ordinal}(?!\d|:){year}?", _date, False),
        (rf"(?P<month>{month}){year}", _month, False),
        (rf"(?:{before})\s+(?P<month>{month})", _month, False),
        (r"(?<!from )(?:" + "|".join(sorted(map(re.escape, _DAYS), key=len, reverse=True)) + ")", _day_word, True),
        (rf"(?P<step>{step})\s+(?P<unit>{unit})", _unit, True),
        (rf"(?P<unit>{unit})\s+(?P<step>{step})", _unit, True),
        (rf"{number}\s+(?P<unit>{unit})\s+(?P<ago>ago)", _distance, True),
        (rf"(?P<ago>vor|il y a|hace)\s+{number}\s+(?P<unit>{unit})", _distance, True),
        (rf"(?:in|dans|en)\s+{number}\s+(?P<unit>{unit})(?P<ago>)", _distance, True),
        (rf"(?:last|letzten)\s+(?P<weekday>{weekday})", _weekday, True),
        (rf"(?:next|nachsten)\s+(?P<weekday>{weekday})", _next_weekday, False),
        (rf"(?P<weekday>{weekday})", _weekday, False),
    ]
    return [(re.compile(rf"\b(?:{text})\b"), resolve, is_relative) for text, resolve, is_relative in table]


def _group(names: Iterable[str]) -> str:
    return "|".join(sorted(" ".join(names).split(), key=len, reverse=True))


def _index(table: tuple[str, ...], name: str) -> int:
    return next(index for index, names in enumerate(table) if name in names.split())


def _date(match: re.Match[str], today: date) -> tuple[date, date]:
    month, year = match["month"], match["year"]
    number = int(month) if month.isdecimal() else _index(_MONTHS, month) + 1
    if year:
        day = date(int(year), number, int(match["day"]))
        return day, day
    for years in range(9):  # 29 February of a leap year
        with contextlib.suppress(ValueError):
            day = date(today.year - years, number, int(match["day"]))
            if day <= today:
                return day, day
    raise ValueError("no such day")


def _month(match: re.Match[str], today: date) -> tuple[date, date]:
    number, year = _index(_MONTHS, match["month"]) + 1, int(match.groupdict().get("year") or today.year)
    if match.groupdict().get("year") is None and number > today.month:
        year -= 1
    return _month_days(year, number)


def _month_days(year: int, month: int) -> tuple[date, date]:
    return date(year, month, 1), date(year, month, monthrange(year, month)[1])


def _day_word(match: re.Match[str], today: date) -> tuple[date, date]:
    day = today + timedelta(_DAYS[match[0]])
    return day, day


def _unit(match: re.Match[str], today: date) -> tuple[date, date]:
    """Last week, this month, next year: all of its days."""
    steps = _index(_STEPS, match["step"]) - 1
    unit = _index(_UNITS, match["unit"])
    if unit == 0:
        day = today + timedelta(steps)
        return day, day
    if unit == 1:
        monday = today + timedelta(7 * steps - today.weekday())
        return monday, monday + timedelta(6)
    return _shifted(today, steps, unit == 3)


def _shifted(today: date, steps: int, is_year: bool) -> tuple[date, date]:
    """The month, or the year, so many steps from now."""
    if is_year:
        return date(today.year + steps, 1, 1), date(today.year + steps, 12, 31)
    months = today.year * 12 + today.month - 1 + steps
    return _month_days(months // 12, months % 12 + 1)


def _distance(match: re.Match[str], today: date) -> tuple[date, date]:
    """Three days ago, in two weeks: that day. In two months, five years ago: that month or year."""
    number = int(match["number"]) if match["number"].isdecimal() else _index(_COUNTS, match["number"]) + 1
    steps, unit = -number if match["ago"] else number, _index(_UNITS, match["unit"])
    if unit > 1:
        return _shifted(today, steps, unit == 3)
    day = today + timedelta(steps * (1, 7)[unit])
    return day, day


def _weekday(match: re.Match[str], today: date) -> tuple[date, date]:
    """The last such day before today."""
    day = today - timedelta((today.weekday() - _index(_WEEKDAYS, match["weekday"]) - 1) % 7 + 1)
    return day, day


def _next_weekday(match: re.Match[str], today: date) -> tuple[date, date]:
    """The first such day after today."""
    day = today + timedelta((_index(_WEEKDAYS, match["weekday"]) - today.weekday() - 1) % 7 + 1)
    return day, day
