"""Facts recognised without a model: the names, numbers, codes, dates and addresses in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

FACT_PATTERNS = {
    "url": re.compile(r"https?://[^\s<>()\[\]\"']+"),
    "date": re.compile(r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|\b\d{1,2}:\d\d\b"),
    "code": re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*\b"),
    "number": re.compile(r"(?<![\w.:/-])\d[\d,.]*\d\b(?![:/-]\d)"),
    "name": re.compile(r"(?<=[a-z,;:] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*"),
}
MAX_SENTENCE_CHARS = 300

_FENCE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.DOTALL | re.MULTILINE)
_NO_END = re.compile(
    r"(?:\b(?:[A-Za-zÄÖÜ]|Dr|Mr|Mrs|Ms|Mme|Sr|Sra|Jr|St|Prof|No|no|Nr|nr|Tel|tel|ca|approx|etc|vs|resp|bzw|z\.B|d\.h|e\.g|i\.e)"
    r"|\b\d{1,2})\.$"
)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")


def extract_facts(texts: Iterable[str]) -> set[str]:
    """The facts in some texts, verbatim."""
    return {found for text in texts for kind in FACT_PATTERNS.values() for found in kind.findall(text)}


def split_sentences(text: str) -> Iterator[str]:
    """The sentences and lines of a text. An abbreviation or an ordinal, such as `Dr.` or `3.`, ends none."""
    start = 0
    for match in _SENTENCE.finditer(text):
        if "\n" in match[0] or not _NO_END.search(text, max(start, match.start() - 12), match.start()):
            yield text[start : match.start()]
            start = match.end()
    yield text[start:]


def fact_kinds(text: str) -> set[str]:
    """The kinds of facts in a text."""
    return {kind for kind, pattern in FACT_PATTERNS.items() if pattern.search(text)}


def sentences_with_facts(text: str) -> Iterator[tuple[str, set[str]]]:
    """The sentences of a text that hold a fact, each with its facts. Code blocks are skipped."""
    for sentence in split_sentences(_FENCE.sub("\n", text)):
        sentence = " ".join(sentence.split())
        if 3 < len(sentence) <= MAX_SENTENCE_CHARS and (facts := extract_facts([sentence])):
            yield sentence, facts
