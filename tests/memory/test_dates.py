"""The days that a text names."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from chatmem.memory.dates import Calendar, named_days, with_dates
from tests.fakes import counting_lines

TODAY = date(2026, 5, 20)
"""A Wednesday."""


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("on 2025-12-24", "2025-12-24", "2025-12-24"),
        ("on 3 May", "2026-05-03", "2026-05-03"),
        ("on June 3rd", "2025-06-03", "2025-06-03"),
        ("May 3, 2024 was a Friday", "2024-05-03", "2024-05-03"),
        ("am 3. Mai", "2026-05-03", "2026-05-03"),
        ("le 1er mars", "2026-03-01", "2026-03-01"),
        ("el 2 de enero de 2025", "2026-01-02", "2026-01-02"),
        ("in February", "2026-02-01", "2026-02-28"),
        ("since August", "2025-08-01", "2025-08-31"),
        ("february 2024", "2024-02-01", "2024-02-29"),
        ("yesterday", "2026-05-19", "2026-05-19"),
        ("the day before yesterday", "2026-05-18", "2026-05-18"),
        ("the day after tomorrow", "2026-05-22", "2026-05-22"),
        ("übermorgen", "2026-05-22", "2026-05-22"),
        ("après-demain", "2026-05-22", "2026-05-22"),
        ("pasado mañana", "2026-05-22", "2026-05-22"),
        ("last night", "2026-05-19", "2026-05-19"),
        ("last day", "2026-05-19", "2026-05-19"),
        ("morgen um neun", "2026-05-21", "2026-05-21"),
        ("next Monday", "2026-05-25", "2026-05-25"),
        ("on 29 February", "2024-02-29", "2024-02-29"),
        ("ten days ago", "2026-05-10", "2026-05-10"),
        ("in two months", "2026-07-01", "2026-07-31"),
        ("five years ago", "2021-01-01", "2021-12-31"),
        ("last week", "2026-05-11", "2026-05-17"),
        ("next month", "2026-06-01", "2026-06-30"),
        ("last year", "2025-01-01", "2025-12-31"),
        ("la semana pasada", "2026-05-11", "2026-05-17"),
        ("letzte Woche", "2026-05-11", "2026-05-17"),
        ("three days ago", "2026-05-17", "2026-05-17"),
        ("vor 2 Wochen", "2026-05-06", "2026-05-06"),
        ("il y a trois jours", "2026-05-17", "2026-05-17"),
        ("in two weeks", "2026-06-03", "2026-06-03"),
        ("on Wednesday", "2026-05-13", "2026-05-13"),
        ("on Tuesday", "2026-05-19", "2026-05-19"),
        ("last Friday", "2026-05-15", "2026-05-15"),
    ],
)
def test_days_are_read_in_four_languages(text: str, first: str, last: str) -> None:
    days = named_days(text, TODAY)[0]
    assert (str(days.first), str(days.last)) == (first, last)


@pytest.mark.parametrize(
    "text",
    ["It may rain.", "We march on.", "2026-02-31", "31 June", "version 3.5", "at 10:30", "in 3", "", "9999 years ago"],
)
def test_what_is_no_day_is_not_read_as_one(text: str) -> None:
    assert named_days(text, TODAY) == []


def test_relative_words_get_the_date_that_they_meant_on_their_day() -> None:
    text = "I fly tomorrow and stay next week. We met on 3 May, two days ago."
    assert with_dates(text, date(2026, 5, 2)) == (
        "I fly tomorrow [2026-05-03] and stay next week [2026-05-04 to 2026-05-10]. "
        "We met on 3 May, two days ago [2026-04-30]."
    )
    assert with_dates("We move in two months, for two years.", date(2026, 5, 2)) == (
        "We move in two months [2026-07], for two years."
    )
    for plain in ("Ich wohne hier.", "Salgo por la mañana.", "A year from today."):
        assert with_dates(plain, date(2026, 5, 2)) == plain
    assert with_dates("Nothing here depends on a day.", TODAY) == "Nothing here depends on a day."


def test_a_text_whose_length_changes_when_it_is_folded_keeps_its_dates_in_place() -> None:
    assert with_dates("ﬁne: tomorrow, ½", date(2026, 5, 2)) == "ﬁne: tomorrow [2026-05-03], ½"
    assert with_dates("İ yesterday", date(2026, 5, 2)).endswith("yesterday [2026-05-01]")
    assert with_dates("e\u0301e\u0301İİ tomorrow ok", date(2026, 5, 2)).endswith("tomorrow [2026-05-03] ok")


def test_a_calendar_tells_local_days_where_the_time_of_sending_is_known() -> None:
    east = datetime(2026, 5, 20, 9, tzinfo=timezone(timedelta(hours=2)))
    assert Calendar(east).day("2026-05-02T23:30:00Z") == "2026-05-03"
    assert Calendar().day("2026-05-02T23:30:00Z") == "2026-05-02"
    west = east.astimezone(timezone(timedelta(hours=-5)))
    assert Calendar(west).day("0001-01-01T00:00:00Z") == Calendar(east).day("9999-12-31T23:59:59Z") == ""
    assert Calendar().day("garbage") == ""
    assert Calendar(east).day("no time") == Calendar(east).day("") == ""
    assert Calendar(east).today == date(2026, 5, 20) and Calendar().today is None
    assert Calendar(east, annotates=True).dated("tomorrow", "") == "tomorrow"
    assert Calendar(east).dated("tomorrow", "2026-05-02") == "tomorrow"


def test_many_days_are_read_in_linear_time() -> None:
    reads: list[int] = []
    for count in (500, 1000):
        text = "2026-05-03 12:04:11 INFO worker-7 request 123\n" * count
        with counting_lines() as lines:
            assert len(named_days(text, TODAY)) == count
        reads.append(lines[0])
    assert reads[1] < 2.5 * reads[0]


@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("the day before yesterday, vorgestern, avant-hier, anteayer", "2026-05-18"),
        ("yesterday, last night, gestern, letzte Nacht, ayer, anoche", "2026-05-19"),
        ("today, tonight, this morning, this evening, heute, aujourd'hui, hoy", "2026-05-20"),
        ("tomorrow, morgen um 9, demain", "2026-05-21"),
        ("the day after tomorrow, übermorgen, après-demain, pasado mañana", "2026-05-22"),
    ],
)
def test_words_for_days_near_today_are_read(words: str, day: str) -> None:
    days = [(str(named.first), str(named.last)) for named in named_days(words, TODAY)]
    assert days == [(day, day)] * len(words.split(","))


def test_a_whole_month_or_year_is_written_as_such() -> None:
    assert with_dates("We met last year, five years ago, last month.", date(2026, 5, 2)) == (
        "We met last year [2025], five years ago [2021], last month [2026-04]."
    )
