"""Fuzzy matching of names and titles while typing."""

from __future__ import annotations

MAX_STRETCH = 3
"""The letters of a word may be spread over this many times its length."""


def matches(words: list[str], text: str) -> bool:
    """Whether a text in lower case has every word, or its letters in order and close together."""
    return all(word in text or _is_scattered(word, text) for word in words)


def _is_scattered(word: str, text: str) -> bool:
    if len(word) < 2:
        return False
    start = text.find(word[0])
    while start >= 0:
        end = start
        for letter in word[1:]:
            end = text.find(letter, end + 1, start + MAX_STRETCH * len(word))
            if end < 0:
                break
        else:
            return True
        start = text.find(word[0], start + 1)
    return False
