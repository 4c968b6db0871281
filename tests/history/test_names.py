"""Session names: valid ones are unchanged, invalid ones are refused with the nearest valid one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem.errors import UsageError
from chatmem.history.names import canonical_key, is_valid, slugify, unique_name, validate

INVALID = [
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
INVALID += ["-x", ".x", "x.", " x", "x ", "a:b", "a*b", "\u202ex", "lpt¹", "😀" * 3, "𠀀" * 64, "\ud800"]


@pytest.mark.parametrize("name", ["work", "Work 2", "a.b_c-d", "日本語", "Ünïcode", "x", "x" * 64, "2026-11-20"])
def test_a_valid_name_is_unchanged(name: str) -> None:
    assert validate(name) == name


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_name_is_refused_with_the_nearest_valid_one(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        validate(name)
    assert repr(slugify(name)) in caught.value.hint


@given(st.text())
def test_the_suggested_name_is_always_valid(text: str) -> None:
    assert is_valid(slugify(text))


@given(st.text(max_size=70))
def test_a_valid_name_never_leaves_its_directory(text: str) -> None:
    try:
        name = validate(text)
    except UsageError:
        return
    assert unicodedata.is_normalized("NFC", name)
    assert not set(name) & set('/\\:*?"<>|\0\n') and name not in (".", "..")


def test_names_are_equal_ignoring_case_and_unicode_composition() -> None:
    assert canonical_key("Café") == canonical_key("CAFE\u0301")


def test_a_generated_name_is_valid_and_unused() -> None:
    taken = [unique_name([]) for _ in range(200)]
    assert all(is_valid(name) for name in taken)
    assert unique_name(taken) not in taken
    assert unique_name(["Plan", "plan-2"], like="plan") == "plan-3"
