"""Small functions on text that every layer may use."""

from __future__ import annotations


def truncate(text: str, length: int = 40) -> str:
    """The text, or its first `length` - 1 characters and an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def pluralize(count: int, noun: str) -> str:
    """A count with its noun: `1 turn`, `1,200 turns`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def fix_surrogates(text: str) -> str:
    """The text with split surrogate pairs joined and lone surrogates replaced, so that it encodes as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
