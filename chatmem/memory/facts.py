"""Facts recognised without a model: the names, numbers, codes, dates and addresses in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

FACT_PATTERNS = {
    "url": re.compile(r"https?://[^\s<>()\[\]\"']+"),
    "date": re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|\b\d{1,2}:\d\d\b"),
    "code": re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*\b"),
    "number": re.compile(r"(?<![\w.-])\d[\d,.]*\d\b"),
    "name": re.compile(r"(?<=[a-z,;:] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*"),
}
MAX_SENTENCE_CHARS = 300

_FENCE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.DOTALL | re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_WORD = re.compile(r"[^\W\d_]{3,}")


def extract_facts(texts: Iterable[str]) -> set[str]:
    """The facts in some texts, verbatim."""
    return {found for text in texts for kind in FACT_PATTERNS.values() for found in kind.findall(text)}


def sentences_with_facts(text: str) -> Iterator[tuple[str, set[str]]]:
    """The sentences of a text that hold a fact, each with its facts. Code blocks are skipped."""
    for sentence in _SENTENCE.split(_FENCE.sub("\n", text)):
        sentence = " ".join(sentence.split())
        if 3 < len(sentence) <= MAX_SENTENCE_CHARS and (facts := extract_facts([sentence])):
            yield sentence, facts


def dropped_facts(source: str, summary: str, newer: str = "") -> Iterator[str]:
    """The sentences of `source` with a fact that `summary` lacks, newest first.

    A sentence is skipped if `newer` says something about the same thing: the newer statement replaces it.
    """
    newer_words = [set(_WORD.findall(s.lower())) for s, _ in sentences_with_facts(newer)]
    seen: set[str] = set()
    for sentence, facts in reversed(list(sentences_with_facts(source))):
        missing = {fact for fact in facts if fact not in summary} - seen
        words = set(_WORD.findall(sentence.lower()))
        if missing and not any(words and len(words & other) * 5 >= len(words) * 4 for other in newer_words):
            seen |= missing
            yield sentence
