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


def extract_facts(texts: Iterable[str]) -> set[str]:
    """The facts in some texts, verbatim."""
    return {found for text in texts for kind in FACT_PATTERNS.values() for found in kind.findall(text)}


def fact_kinds(text: str) -> set[str]:
    """The kinds of facts in a text."""
    return {kind for kind, pattern in FACT_PATTERNS.items() if pattern.search(text)}


def sentences_with_facts(text: str) -> Iterator[tuple[str, set[str]]]:
    """The sentences of a text that hold a fact, each with its facts. Code blocks are skipped."""
    for sentence in _SENTENCE.split(_FENCE.sub("\n", text)):
        sentence = " ".join(sentence.split())
        if 3 < len(sentence) <= MAX_SENTENCE_CHARS and (facts := extract_facts([sentence])):
            yield sentence, facts
