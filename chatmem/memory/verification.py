"""What a model wrote as a summary, checked against what it was made from.

A summary is kept line by line. Repetitions, apologies, refusals and instructions to the model are removed, and so are
lines with a number, code, date or address that is not in the source and does not follow from it. Statements with such
values that the summary lacks are restored verbatim, the newest first. Each line knows its day and its turns.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from chatmem.memory.dates import with_dates
from chatmem.memory.facts import extract_facts, fact_kinds, sentences_with_facts, split_sentences
from chatmem.memory.summary_lines import Line, read_lines
from chatmem.memory.values import Values
from chatmem.memory.words import STOP_WORDS
from chatmem.text import normalize, terms_of

RESTORED_SHARE = 2 / 3
"""The share of a segment that restored statements may take."""
SAME_THING = 0.8
"""A statement that has this share of the words of an older one replaces it."""
MAX_STATEMENTS = 500
"""How many sentences of one message are read."""
MAX_RIVALS = 50
"""With how many newer statements that share a word each one is compared."""
PREFIX = 5
"""How many letters of two words have to be the same for inflected forms of one word."""
MAX_JOINED_CHARS = 300
"""A longer line becomes one line for each sentence."""
MAX_LINE_CHARS = 20_000
MAX_SOURCES = 3
"""How many turns a line is attributed to."""

_MARK = re.compile(r"^\s*(?:[-*•]\s+|#+\s+)")
_ROLE = re.compile(r"^(?:user|assistant)\s*:\s*", re.IGNORECASE)
_PHRASES = (
    r"(?:(?:sure|certainly|of course|okay|ok)\b[\s,!.]*)?(?:here(?:'s| is| are)\b.{0,40}\b(?:summary|notes|lines)\b)",
    r"(?:sure|certainly|of course|okay|ok)\b[\s,!.]*$",
    r"(?:the |a )?summary(?: of (?:the|this|our) .{0,40})?:?$",
    r"i(?:'m| am) (?:sorry|unable|not able)\b",
    r"i apologi[sz]e|sorry\b|es tut mir leid|je suis désolé|lo siento",
    r"as an? (?:ai|language model)\b",
    r"i (?:can't|cannot|can not|won't) (?:help|assist|provide|do|answer|summari[sz]e|continue|fulfil|comply|access)\b",
    r"please (?:provide|let me know)|let me know\b|is there anything else|how can i help|no conversation\b",
    r"```\w*$",
)
_PHRASE = re.compile("|".join(_PHRASES), re.IGNORECASE)
"""Apologies, refusals and phrases around a summary. A line that was said stays."""
_INSTRUCTIONS = (
    r"\b(?:ignore|disregard|forget)\b.{0,30}\b(?:all|any|previous|prior|above|earlier)\b.{0,30}"
    r"\b(?:instructions?|prompts?|rules?|messages?|said)\b",
    r"\b(?:you are now|you must now|your new (?:role|task|instructions)|from now on,? you\b)",
    r"^act as (?:a|an|if)\b|\b(?:you (?:must|should|will)|please) act as\b",
    r"\breveal (?:your|the) (?:system )?prompt|\bdo not (?:tell|reveal|mention)\b.{0,20}\b(?:the user|prompt)\b",
    r"^\W*(?:system|assistant|developer|model)\s+(?:instructions?|prompt|message)\b",
    r"\bthe assistant (?:must|should|has to)\b|\brespond (?:only )?with\b|\bin every (?:answer|reply)\b",
    r"^\W*(?:system|developer)\s*:",
    r"<\|[^|>]{0,40}\|>",
    r"^\[(?:end of|today is|excerpts|summary|when the messages|not summarised)\b",
)
_INSTRUCTION = re.compile("|".join(_INSTRUCTIONS), re.IGNORECASE)
"""Instructions to the model, and the marks of blocks."""
MAX_PERIOD = 12
"""How many words the part of a loop has at most."""
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_TOKEN = re.compile(r"[^\W_]+(?:[-'.,:/][^\W_]+)*")
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
    return any(True for _ in _clean_lines(text, _Attribution([])))


def verified(text: str, sources: Sequence[Source], max_tokens: int, count: Callable[[str], int]) -> list[Line]:
    """The lines of a model's summary that may stay, with what it lacks, in at most `max_tokens`. Oldest first.

    A line with a value that its turns lack gives way to the sentence that it resembles, verbatim.
    """
    statements = [statement for number, source in enumerate(sources) for statement in _statements(source, number)]
    attribution = _Attribution(sources)
    lines: list[Line] = []
    for line in _clean_lines(text, attribution):
        found = attribution.find(line.text)
        known = Values.of((source.text, _date(source.day)) for source in found or sources)
        if any(known.unknown(line.text, _date(line.day))):
            lines += attribution.verbatim(line.text)
        elif not _is_outdated(line.text, statements):
            day = line.day if any(source.day == line.day for source in found) else ""
            ids = tuple(dict.fromkeys(ident for source in found for ident in source.ids))
            lines.append(Line(day or (found[0].day if found else ""), line.text, ids))
    lines = _with_restored(list(dict.fromkeys(lines)), statements, max_tokens, count)
    order = {source.ids[:1]: number for number, source in reversed(list(enumerate(sources)))}
    return sorted(lines, key=lambda line: order.get(line.ids[:1], -1))


def lacking(shown: Iterable[str], lines: Iterable[Line]) -> Iterator[Line]:
    """The lines, newest first, that neither those shown nor newer ones say already, or replace."""
    known: defaultdict[str, list[_Statement]] = defaultdict(list)

    def is_known(line: Line) -> bool:
        facts = _facts(line.text)
        kinds, words = _topic(line.text, facts)
        rivals = {id(other): other for word in words for other in known[word][:MAX_RIVALS]}
        if any(other.covers(facts, words, kinds) for other in rivals.values()):
            return True
        for word in words:
            known[word].append(_Statement(line.text, facts, kinds, words, 0, Source(line.ids, line.day, line.text)))
        return not words

    for text in shown:
        is_known(Line("", text))
    yield from (line for line in lines if not is_known(line))


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

    def covers(self, facts: set[str], words: set[str], kinds: set[str]) -> bool:
        """Whether this statement says the same, or replaces it."""
        return (words <= self.words and facts <= self.facts) or self.replaces(words, kinds)


def _statements(source: Source, number: int) -> Iterator[_Statement]:
    for sentence, facts in itertools.islice(sentences_with_facts(source.text), MAX_STATEMENTS):
        yield _Statement(sentence, facts, *_topic(sentence, facts), number, source)


def _facts(line: str) -> set[str]:
    """The values of a line. A role that it begins with makes no name of the next word."""
    return extract_facts([_ROLE.sub("", line)])


def _topic(sentence: str, facts: set[str]) -> tuple[set[str], set[str]]:
    """The kind of the last value of a sentence, and the words that say what it is about: all but this value."""
    last = max(facts, key=lambda fact: (sentence.rfind(fact), len(fact)), default="")
    words = {word for word in _WORD.findall(normalize(sentence)) if word not in STOP_WORDS}
    return fact_kinds(last) or fact_kinds(sentence), words - set(_WORD.findall(normalize(last)))


def _is_outdated(line: str, statements: Sequence[_Statement]) -> bool:
    """Whether the newest statement about the same thing has other values, or says that a value was replaced."""
    facts = _facts(line)
    kinds, words = _topic(line, facts)
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

    def tokens(line: Line) -> int:
        return count(f"{line.day}: {line.text}\n" if line.day else f"{line.text}\n")

    def fitting(candidates: Iterable[Line], space: int) -> list[Line]:
        found = []
        for line in candidates:
            if (needed := tokens(line)) <= space:
                found.append(line)
                space -= needed
        return found

    def size(some: Iterable[Line]) -> int:
        return sum(map(tokens, some))

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
    """The statements whose values the lines lack, newest first. One that a newer one replaces is skipped.

    A value counts only in a line that shares another word with the statement, if the statement has other words.
    """
    shown = [(_tokens(line.text), _prefixes(line.text)) for line in lines]
    newer: defaultdict[str, list[_Statement]] = defaultdict(list)
    seen: set[str] = set()  # restored already, or said to be replaced
    for statement in reversed(statements):
        about = {word[:PREFIX] for word in statement.words if word.isalpha()}
        near = [tokens for tokens, prefixes in shown if not about or not about.isdisjoint(prefixes)]
        wanted = {fact: _tokens(fact) for fact in statement.facts}
        missing = {fact for fact, words in wanted.items() if not any(words <= tokens for tokens in near)} - seen
        rivals = {id(other): other for word in statement.words for other in newer[word][:MAX_RIVALS]}
        if missing and not any(other.replaces(statement.words, statement.kinds) for other in rivals.values()):
            day = _date(statement.source.day)
            text = with_dates(statement.text, day) if day else statement.text
            yield Line(statement.source.day, text, statement.source.ids)
        seen |= missing | {old for old, _ in _REPLACED.findall(statement.text)}
        for word in statement.words:
            newer[word].append(statement)


def _tokens(text: str) -> set[str]:
    """The words and numbers of a text, each as a whole, and the parts of those with hyphens."""
    tokens = _TOKEN.findall(normalize(text))
    return {part for token in tokens for part in (token, *re.split("[-/]", token))}


def _prefixes(text: str) -> set[str]:
    """The beginnings of the words of a text, which inflected forms share."""
    return {word[:PREFIX] for word in _WORD.findall(normalize(text))}


def _without_loops(text: str) -> str:
    """The text without repetitions in a row: words that follow each other four times or more stay once.

    Numbers are left alone: a repetition of digits may be a number.
    """
    words, kept, index = text.split(" "), [], 0
    while index < len(words):
        for period in range(1, MAX_PERIOD + 1):
            part, end = words[index : index + period], index + period
            while words[end : end + period] == part:
                end += period
            if end - index >= 4 * period and any(part) and not any(map(str.isdigit, "".join(part))):
                kept += part
                index = end
                break
        else:
            kept.append(words[index])
            index += 1
    return " ".join(kept)


def _clean_lines(text: str, attribution: _Attribution) -> Iterator[Line]:
    """The lines that say something, each once."""
    seen: set[str] = set()
    for line in read_lines(text):
        sentences = []
        for sentence in split_sentences(_without_loops(_MARK.sub("", line.text)[:MAX_LINE_CHARS])):
            key = " ".join(_WORD.findall(normalize(sentence)))
            plain = sentence.strip().replace("’", "'")
            is_noise = _INSTRUCTION.search(plain) or (_PHRASE.match(plain) and not attribution.was_said(plain))
            if key and key not in seen and not is_noise:
                seen.add(key)
                sentences.append(sentence.strip())
        if len(line.text) > MAX_JOINED_CHARS:
            yield from (Line(line.day, sentence) for sentence in sentences)
        elif sentences:
            yield Line(line.day, " ".join(sentences))


class _Attribution:
    """Finds the sources that a line stems from, by the words that they share, rare ones first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = [(source, set(terms_of(source.text)) - STOP_WORDS) for source in sources]
        self._frequency = Tally(word for _, words in self._sources for word in words)

    def find(self, text: str) -> list[Source]:
        """The sources that have most in common with a line, at most three, the best first."""
        words = set(terms_of(text)) - STOP_WORDS
        scores = [
            (self._weight(words & other), -number, source) for number, (source, other) in enumerate(self._sources)
        ]
        best = max((score for score, _, _ in scores), default=0.0)
        ranked = sorted((entry for entry in scores if entry[0] > best / 2), key=lambda entry: entry[:2], reverse=True)
        return [source for _, _, source in ranked[:MAX_SOURCES]]

    def verbatim(self, text: str) -> Iterator[Line]:
        """The sentence of a source that a line resembles, if it has at least two words in common with one."""
        words = set(terms_of(text)) - STOP_WORDS
        candidates = [
            (self._weight(common), -number, sentence, source)
            for number, source in enumerate(self.find(text))
            for sentence in itertools.islice(split_sentences(source.text), MAX_STATEMENTS)
            if len(common := words & set(terms_of(sentence))) > 1 and len(sentence) <= MAX_JOINED_CHARS
        ]
        if candidates:
            _, _, sentence, source = max(candidates, key=lambda entry: entry[:2])
            sentence, day = " ".join(sentence.split()), _date(source.day)
            yield Line(source.day, with_dates(sentence, day) if day else sentence, source.ids)

    def was_said(self, text: str) -> bool:
        """Whether a source says this in the same words."""
        words = " ".join(_WORD.findall(normalize(text)))
        return any(words in " ".join(_WORD.findall(normalize(source.text))) for source, _ in self._sources)

    def _weight(self, words: set[str]) -> float:
        return sum(math.log(1 + len(self._sources) / self._frequency[word]) for word in words)


def _date(day: str) -> date | None:
    try:
        return date.fromisoformat(day) if day else None
    except ValueError:
        return None
