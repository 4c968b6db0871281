"""What a model wrote as a summary, checked against what it was made from.

A summary is kept line by line. Repetitions, apologies, refusals and instructions to the model are removed, and so are
lines with a number, code, date or address that is not in the source and does not follow from it. Statements with such
values that the summary lacks are restored verbatim, the newest first. Each line knows its day and its turns.
"""

from __future__ import annotations

import math
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from chatmem.memory.dates import with_dates
from chatmem.memory.facts import extract_facts, fact_kinds, sentences_with_facts
from chatmem.memory.summary_lines import Line, read_lines
from chatmem.memory.values import Values
from chatmem.memory.words import STOP_WORDS
from chatmem.text import fold

RESTORED_SHARE = 2 / 3
"""The share of a segment that restored statements may take."""
SAME_THING = 0.8
"""A statement that has this share of the words of an older one replaces it."""
MAX_JOINED_CHARS = 300
"""A longer line becomes one line for each sentence."""
MAX_LINE_CHARS = 20_000
MAX_SOURCES = 3
"""How many turns a line is attributed to."""

_MARK = re.compile(r"^\s*(?:[-*•]\s+|#+\s+)")
_ROLE = re.compile(r"^(?:user|assistant)\s*:\s*", re.IGNORECASE)
_NOISE_STARTS = (
    r"(?:(?:sure|certainly|of course|okay|ok)\b[\s,!.]*)?(?:here(?:'s| is| are)\b.{0,40}\b(?:summary|notes|lines)\b)",
    r"(?:sure|certainly|of course|okay|ok)\b[\s,!.]*$",
    r"(?:the |a )?summary(?: of (?:the|this|our) .{0,40})?:?$",
    r"i(?:'m| am) (?:sorry|unable|not able)\b",
    r"i apologi[sz]e|sorry\b|es tut mir leid|je suis désolé|lo siento",
    r"as an? (?:ai|language model)\b",
    r"i (?:can't|cannot|can not|won't) ",
    r"please (?:provide|let me know|note that)|let me know\b|is there anything else|how can i help|no conversation\b",
    r"(?:system|assistant|developer)\s*:\s*you\b",
)
_NOISE_ANYWHERE = (
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instructions?|prompts?|rules?|messages?|above)\b",
    r"\b(?:you are now|you must now|your new (?:role|task|instructions)|from now on,? you|act as (?:a|an|if))\b",
    r"\b(?:reveal (?:your|the) (?:system )?prompt|do not (?:tell|reveal|mention))\b",
)
_NOISE = re.compile("|".join((*_NOISE_STARTS, *(f".*{pattern}" for pattern in _NOISE_ANYWHERE))), re.IGNORECASE)
"""Apologies, refusals, phrases around a summary, and instructions to the model."""
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_LOOP = re.compile(r"(.{2,80}?)(?:[\s,;.]*\1){3,}", re.DOTALL)
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_VALUE = r"((?:[A-Z]|\d)[\w-]*)"
_REPLACED = re.compile(
    r"\b(?:moved|changed|switched|renamed|postponed|rescheduled|corrected|updated)\b"
    rf"[^.]{{0,30}}?\bfrom {_VALUE} to {_VALUE}"
)
"""A statement that one value replaces another one."""


class Source(NamedTuple):
    """A part of what a summary is made from: a turn, or a line of another summary."""

    ids: tuple[str, ...]
    """The turns that it stems from."""
    day: str
    """When it was said, as `2026-05-03`. Empty if that is not known."""
    text: str


def says_something(text: str) -> bool:
    """Whether an answer has a line that is more than an apology or a refusal."""
    return any(True for _ in _clean_lines(text))


def verified(text: str, sources: Sequence[Source], max_tokens: int, count: Callable[[str], int]) -> list[Line]:
    """The lines of a model's summary that may stay, with what it lacks, in at most `max_tokens`. Oldest first."""
    known = Values.of((source.text, _date(source.day)) for source in sources)
    statements = [statement for number, source in enumerate(sources) for statement in _statements(source, number)]
    attribute = _Attribution(sources)
    lines = []
    for line in _clean_lines(text):
        if not any(known.unknown(line.text, _date(line.day))) and not _is_outdated(line.text, statements):
            found = attribute(line.text)
            day = line.day if any(source.day == line.day for source in sources) else ""
            ids = tuple(dict.fromkeys(ident for source in found for ident in source.ids))
            lines.append(Line(day or (found[0].day if found else ""), line.text, ids))
    lines = _with_restored(lines, statements, max_tokens, count)
    order = {source.ids[:1]: number for number, source in reversed(list(enumerate(sources)))}
    return sorted(lines, key=lambda line: order.get(line.ids[:1], -1))


class _Statement(NamedTuple):
    """A sentence of a source with a value."""

    text: str
    facts: set[str]
    kinds: set[str]
    words: set[str]
    number: int
    """The position of the source."""
    source: Source

    def replaces(self, words: set[str], kinds: set[str]) -> bool:
        """Whether a statement about the same thing, with a value of the same kind, has these words."""
        common = len(self.words & words)
        return common >= max(2, len(words) * SAME_THING, len(self.words) / 2) and not kinds.isdisjoint(self.kinds)


def _statements(source: Source, number: int = 0) -> Iterator[_Statement]:
    for sentence, facts in sentences_with_facts(source.text):
        yield _Statement(sentence, facts, fact_kinds(sentence), _words_about(sentence, facts), number, source)


def _facts(line: str) -> set[str]:
    """The values of a line. A role that it begins with makes no name of the next word."""
    return extract_facts([_ROLE.sub("", line)])


def _words_about(sentence: str, facts: set[str]) -> set[str]:
    """The words of a sentence that say what its values are about."""
    values = {word for fact in facts for word in _WORD.findall(fold(fact))}
    return {word for word in _WORD.findall(fold(sentence)) if word not in STOP_WORDS} - values


def _is_outdated(line: str, statements: Sequence[_Statement]) -> bool:
    """Whether the newest statement about the same thing has other values, or says that a value was replaced."""
    facts = _facts(line)
    kinds, words = fact_kinds(line), _words_about(line, facts)
    newest = next((s for s in reversed(statements) if s.replaces(words, kinds)), None)
    if newest and facts.isdisjoint(newest.facts):
        return True
    for statement in statements:
        for old, new in _REPLACED.findall(statement.text):
            if old in facts and new not in line and not _REPLACED.search(line):
                return not any(old in other.facts for other in statements if other.number > statement.number)
    return False


def _with_restored(
    lines: Sequence[Line], statements: Sequence[_Statement], max_tokens: int, count: Callable[[str], int]
) -> list[Line]:
    """The lines and what they lack of the statements. The lines give way to it, down to a third of the space."""

    def fitting(candidates: Iterable[Line], space: int) -> list[Line]:
        found = []
        for line in candidates:
            if (tokens := count(f"{line.day}: {line.text}") + 1) <= space:
                found.append(line)
                space -= tokens
        return found

    def size(some: Iterable[Line]) -> int:
        return sum(count(f"{line.day}: {line.text}") + 1 for line in some)

    needed = size(_missing(lines, statements))
    space = max(max_tokens - needed, int(max_tokens * (1 - RESTORED_SHARE)))
    kept = lines = list(lines)
    if size(lines) > space:  # far too long: lines with values first
        kept = fitting([line for line in lines if _facts(line.text)], space)
        others = [line for line in lines if line not in kept]
        kept += fitting(others, min(space - size(kept), int(max_tokens * (1 - RESTORED_SHARE))))
        kept.sort(key=lines.index)
    return kept + fitting(_missing(kept, statements), max_tokens - size(kept))[::-1]


def _missing(lines: Sequence[Line], statements: Sequence[_Statement]) -> Iterator[Line]:
    """The statements whose values the lines lack, newest first. One that a newer one replaces is skipped."""
    shown = "\n".join(line.text for line in lines)
    newer: list[_Statement] = []
    seen: set[str] = set()
    for statement in reversed(statements):
        missing = {fact for fact in statement.facts if fact not in shown} - seen
        if missing and not any(other.replaces(statement.words, statement.kinds) for other in newer):
            day = _date(statement.source.day)
            text = with_dates(statement.text, day) if day else statement.text
            yield Line(statement.source.day, text, statement.source.ids)
        seen |= statement.facts
        newer.append(statement)


def _clean_lines(text: str) -> Iterator[Line]:
    """The lines that say something, each once."""
    seen: set[str] = set()
    for line in read_lines(text):
        sentences = []
        for sentence in _SENTENCE.split(_LOOP.sub(r"\1", _MARK.sub("", line.text)[:MAX_LINE_CHARS])):
            key = " ".join(_WORD.findall(fold(sentence)))
            if key and key not in seen and not _NOISE.match(sentence.strip().replace("’", "'")):
                seen.add(key)
                sentences.append(sentence.strip())
        if len(line.text) > MAX_JOINED_CHARS:
            yield from (Line(line.day, sentence) for sentence in sentences)
        elif sentences:
            yield Line(line.day, " ".join(sentences))


class _Attribution:
    """Finds the sources that a line stems from, by the words that they share, rare ones first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = [(source, set(_WORD.findall(fold(source.text))) - STOP_WORDS) for source in sources]
        self._frequency = Tally(word for _, words in self._sources for word in words)

    def __call__(self, text: str) -> list[Source]:
        words = set(_WORD.findall(fold(text))) - STOP_WORDS
        total = len(self._sources)
        scores = [
            (sum(math.log(1 + total / self._frequency[word]) for word in words & other), -number, source)
            for number, (source, other) in enumerate(self._sources)
        ]
        best = max((score for score, _, _ in scores), default=0.0)
        ranked = sorted((entry for entry in scores if entry[0] > best / 2), key=lambda entry: entry[:2], reverse=True)
        return [source for score, _, source in ranked[:MAX_SOURCES] if score > 0]


def _date(day: str) -> date | None:
    try:
        return date.fromisoformat(day) if day else None
    except ValueError:
        return None
