"""Names of sessions: what is good stays, what is not is refused with the nearest good one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem.errors import WrongUse
from chatmem.names import checked, fresh, key, nearest, valid

BAD = [
    "",
    ".",
    "..",
    "../../x",
    "/etc/x",
    "a/b",
    "a\\b",
    "a\x00b",
    "a\nb",
    "\x1b[31m",
    "x" * 300,
    "con",
    "CON.txt",
    "nul",
    "com1",
]
BAD += ["-x", ".x", "x.", " x", "x ", "a:b", "a*b", "\u202ex", "lpt¹", "😀" * 3, "𠀀" * 64, "\ud800"]


@pytest.mark.parametrize("name", ["work", "Work 2", "a.b_c-d", "日本語", "Ünïcode", "x", "x" * 64, "2026-11-20"])
def test_a_good_name_is_kept(name: str) -> None:
    assert checked(name) == name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_the_nearest_good_one(name: str) -> None:
    with pytest.raises(WrongUse) as caught:
        checked(name)
    assert repr(nearest(name)) in caught.value.hint


@given(st.text())
def test_the_nearest_name_is_always_good(text: str) -> None:
    assert valid(nearest(text))


@given(st.text(max_size=70))
def test_a_good_name_never_leaves_its_folder(text: str) -> None:
    try:
        name = checked(text)
    except WrongUse:
        return
    assert unicodedata.is_normalized("NFC", name)
    assert not set(name) & set('/\\:*?"<>|\0\n') and name not in (".", "..")


def test_names_are_one_ignoring_case_and_composition() -> None:
    assert key("Café") == key("CAFE\u0301")


def test_a_fresh_name_is_good_and_not_taken() -> None:
    taken = [fresh([]) for _ in range(200)]
    assert all(valid(name) for name in taken)
    assert fresh(taken) not in taken
    assert fresh(["Plan", "plan-2"], like="plan") == "plan-3"
