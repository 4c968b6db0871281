"""Small functions on text that every layer may use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_secrets: set[str] = set()

MIN_SECRET_CHARS = 6
"""Shorter secrets are not redacted: they would be found in ordinary words."""


def register_secret(secret: str) -> str:
    """Remember a key or a password, so that `redact` removes it. Returns it."""
    if len(secret) >= MIN_SECRET_CHARS:
        _secrets.add(secret)
    return secret


def redact(text: str) -> str:
    """The text without any known secret."""
    for secret in _secrets:
        text = text.replace(secret, "…")
    return text


def truncate(text: str, length: int = 40) -> str:
    """The text, or as many of its first words as fit into `length` characters with an ellipsis."""
    if len(text) <= length:
        return text
    head = text[: length - 1]
    if not text[length - 1].isspace() and (space := head.rfind(" ")) > length // 2:
        head = head[:space]
    return head.rstrip() + "…"


def span_text(first: int, last: int) -> str:
    """A range of turns: `turn 4`, `turns 4 to 6`."""
    return f"turn {first}" if first == last else f"turns {first} to {last}"


def pluralize(count: int, noun: str) -> str:
    """A count with its noun: `1 turn`, `1,200 turns`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def fix_surrogates(text: str) -> str:
    """The text with split surrogate pairs joined and lone surrogates replaced, so that it encodes as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_ACCENTS = re.compile("[\u0300-\u036f]+")


UNSPACED = "\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uac00-\\ud7af\\uf900-\\ufaff\\u0e00-\\u0e7f"
"""The characters of scripts without spaces, or with long compounds, for a character class."""


def normalize_in_place(text: str) -> str:
    """As `normalize`, but every character keeps its position."""
    if text.isascii():
        return text.lower()
    return "".join(
        normalized if len(normalized := _normalize_character(character)) == 1 else character for character in text
    )


@lru_cache(maxsize=4096)
def _normalize_character(character: str) -> str:
    return normalize(character)


def normalize(text: str) -> str:
    """The text in lower case and without accents, for comparing. Its length may differ."""
    text = text.lower()
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_TERM = re.compile(r"[^\W_]+")


def terms_of(text: str) -> list[str]:
    """The words of a text, normalized, and pairs of characters of scripts without spaces."""
    normalized = normalize(text)
    if not normalized.isascii():
        normalized = _UNSPACED_RUN.sub(lambda run: " " + " ".join(_pairs(run[0])) + " ", normalized)
    return _TERM.findall(normalized)


def _pairs(run: str) -> Iterator[str]:
    return (run[i : i + 2] for i in range(max(1, len(run) - 1)))
