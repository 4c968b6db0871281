"""Retrieval of passages that are left out of the context, by the words of the question: no model, no embeddings.

An inverted index in memory holds the words of every passage, reduced to their stems. Passages are ranked by BM25
(Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; a word counts once per passage). A part of each
score goes to the passages around it, because an answer often stands a few messages from the words that are asked for.
Scripts without spaces are indexed as pairs of characters.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date

from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory import passages
from chatmem.memory.dates import NamedDays, named_days
from chatmem.memory.passages import Passage
from chatmem.memory.words import IRREGULAR, STOP_WORDS, is_ignorance, is_question, speaker_asked_about
from chatmem.text import terms_of

MAX_TERMS = 24
MAX_BEST = 400
"""How many of the best passages give a part of their score to their neighbours."""
MAX_QUESTION_CHARS = 4000
"""A longer question is searched for by its beginning."""
MAX_WEIGHED = 3000
"""How many of the best passages are weighed by speaker and date."""
MAX_POSTINGS = 6000
"""Once so many passages have a score, further words, which are more frequent, only add to these."""
NEIGHBOUR_SHARES = (0.5, 0.4, 0.3, 0.2)
"""The shares of a passage's score that go to the first, second, third and fourth passage before and after it."""
MAX_TERM_FREQUENCY = 0.15
"""Terms in a larger share of all passages are ignored, unless all terms of a question are."""
RARE_TERM_FREQUENCY = 0.04
"""A statement whose rarest term is in a larger share of all passages retrieves nothing."""
MIN_RELATIVE_SCORE = 0.25
"""Passages with a smaller share of the best score are ignored."""
SPEAKER_WEIGHT = 2.0
"""The weight of what the user said for a question about the user, and of replies for one about the assistant."""
DATE_WEIGHT = 1.8
"""The weight of messages from two days before to ten days after the days that a question names."""
DAYS_BEFORE, DAYS_AFTER = 2, 10
K1, B = 1.2, 0.75
"""The usual parameters of BM25."""

_BATCH = 512


class PassageIndex:
    """The index of one session. Call `update`, then `retrieve`. Both may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stems = Stems()
        self._messages: list[Message] = []
        self._known: set[str] = set()
        self._postings: defaultdict[str, array[int]] = defaultdict(lambda: array("I"))
        """The passages that contain each term, by their numbers, ascending."""
        self._places: list[tuple[int, int, int]] = []
        """The message of each passage, and where it begins and ends there."""
        self._lengths = array("H")
        """The terms of each passage."""
        self._total_length = 0
        self._questions: dict[str, list[int]] = {}
        """The passages of each question that was asked."""

    def update(self, session: Session, asked: str = "") -> None:
        """Index the new messages of the session, of every branch.

        `asked` is the id of the question being asked. It is indexed later, so that a preview finds the same passages.
        """
        with self._lock:
            if len(self._messages) >= len(session.messages):
                return
            new = [m for m in list(session.messages.values())[len(self._messages) :] if m.id not in self._known]
            if new and new[-1].id == asked:
                new.pop()
            for first in range(0, len(new), _BATCH):
                self._add(new[first : first + _BATCH])

    def retrieve(
        self, question: str, is_candidate: Callable[[str], bool], today: date | None = None
    ) -> Iterable[Passage]:
        """The passages of candidates that are relevant for a question asked `today`, best first."""
        question = question[:MAX_QUESTION_CHARS]
        days = named_days(question, today) if today else []
        with self._lock:
            skipped = self._questions.get(_normalized(question), ())
            terms = self._terms(question, days, skipped)
            scores = self._scores(terms) if terms else self._of_days(days)
            for number in skipped:
                scores.pop(number, None)
            scores = self._weighed(scores, question, days, _with_all(terms))
        asked_before = set(skipped)
        return self._rank(
            scores,
            lambda number: number not in asked_before and is_candidate(self._messages[self._places[number][0]].id),
        )

    def _add(self, messages: Sequence[Message]) -> None:
        rows: list[tuple[int, int, int, list[str]]] = []
        for message in messages:
            position = len(self._messages)
            self._messages.append(message)
            self._known.add(message.id)
            if message.role == "user" or (message.role == "assistant" and not is_ignorance(message.content)):
                content = message.content
                rows += ((position, a, b, terms_of(content[a:b])) for a, b in passages.split(content))
        self._stems.learn(itertools.chain.from_iterable(row[3] for row in rows))
        stem_of, postings = self._stems.__getitem__, self._postings
        for number, (position, start, end, words) in enumerate(rows, len(self._places)):
            terms = set(map(stem_of, words))
            terms.discard("")
            for term in terms:
                postings[term].append(number)
            self._places.append((position, start, end))
            self._lengths.append(min(len(terms), passages.MAX_CHARS))
            self._total_length += len(terms)
            message = self._messages[position]
            if message.role == "user" and end - start == len(message.content.strip()):
                self._questions.setdefault(" ".join(words), []).append(number)

    def _terms(
        self, question: str, days: Sequence[NamedDays], skipped: Sequence[int]
    ) -> list[tuple[float, array[int]]]:
        """The weight and the passages of each term of the question, the rarest first. Named days are no terms."""
        asks = question
        for named in reversed(days):
            asks = f"{asks[: named.start]} {asks[named.end :]}"
        words = terms_of(asks)
        self._stems.learn(words)
        total = max(1, len(self._places) - len(skipped))
        known = []
        for term in dict.fromkeys(self._stems[word] for word in words):
            found = self._postings.get(term)
            if found and len(found) > len(skipped):
                known.append((len(found) - len(skipped), term))
        known.sort()
        rarest = known[0][0] if known else 0
        if not is_question(question) and rarest > max(3.0, total * RARE_TERM_FREQUENCY):
            return []
        most = max(3.0, total * MAX_TERM_FREQUENCY)
        chosen = [entry for entry in known if entry[0] <= most] or known
        return [
            (math.log(1 + (total - count + 0.5) / (count + 0.5)), self._postings[term])
            for count, term in chosen[:MAX_TERMS]
        ]

    def _scores(self, terms: Iterable[tuple[float, array[int]]]) -> dict[int, float]:
        """The BM25 score of each passage with a term."""
        scores: dict[int, float] = {}
        for weight, found in terms:
            if not scores:
                scores = dict.fromkeys(found, weight)
            elif len(scores) < MAX_POSTINGS:
                for number in found:
                    scores[number] = scores.get(number, 0.0) + weight
            else:
                for number in scores.keys() & set(found):
                    scores[number] += weight
        mean = self._total_length / max(1, len(self._places))
        norms = [(K1 + 1) / (1 + K1 * (1 - B + B * length / mean)) for length in range(passages.MAX_CHARS + 1)]
        lengths = self._lengths
        return {number: score * norms[lengths[number]] for number, score in scores.items()}

    def _of_days(self, days: Sequence[NamedDays]) -> dict[int, float]:
        """The passages that were said on the days of a question without other words, all alike."""
        spans = [(str(named.first), f"{named.last}~") for named in days]
        return {
            number: 1.0
            for number, (position, _, _) in enumerate(self._places)
            if any(first <= self._messages[position].time <= last for first, last in spans)
        }

    def _weighed(
        self, scores: dict[int, float], question: str, days: Sequence[NamedDays], complete: set[int]
    ) -> dict[int, float]:
        """The best scores, raised for what the asked speaker said, and for what was said around the named days.

        Passages with all words of the question are never put behind others for their speaker.
        """
        role = speaker_asked_about(question)
        spans = [_around(named) for named in days]
        if not role and not spans:
            return scores
        weighed = {}
        for number in heapq.nlargest(MAX_WEIGHED, scores, key=scores.__getitem__):
            message, score = self._messages[self._places[number][0]], scores[number]
            if message.role == role or number in complete:
                score *= SPEAKER_WEIGHT
            if any(first <= message.time <= last for first, last in spans):
                score *= DATE_WEIGHT
            weighed[number] = score
        return weighed

    def _rank(self, scores: dict[int, float], is_candidate: Callable[[int], bool]) -> Iterator[Passage]:
        """The passages by their scores and those of their neighbours, best first."""
        by_score = heapq.nlargest(2 * MAX_BEST, scores, key=scores.__getitem__)
        best = [number for number in by_score if is_candidate(number)][:MAX_BEST]
        if len(best) < MAX_BEST and len(scores) > len(by_score):  # what is in the context takes the first places
            by_score = sorted(scores, key=scores.__getitem__, reverse=True)
            best = list(itertools.islice(filter(is_candidate, by_score), MAX_BEST))
        sums = _with_neighbours({number: scores[number] for number in best})
        ranked = sorted(sums, key=sums.__getitem__, reverse=True)
        found = (number for number in ranked if 0 <= number < len(self._places) and is_candidate(number))
        least = 0.0
        for number in found:
            least = least or sums[number] * MIN_RELATIVE_SCORE
            if sums[number] < least:
                return
            position, start, end = self._places[number]
            yield Passage(self._messages[position], start, end)


def _with_all(terms: Sequence[tuple[float, array[int]]]) -> set[int]:
    """The passages with all of some terms. None if there is only one: it says too little."""
    return set(terms[0][1]).intersection(*(found for _, found in terms[1:])) if len(terms) > 1 else set()


def _around(named: NamedDays) -> tuple[str, str]:
    """The times of messages that a day in the question makes likely, as texts that compare with those of records."""
    first = max(named.first.toordinal() - DAYS_BEFORE, date.min.toordinal())
    last = min(named.last.toordinal() + DAYS_AFTER, date.max.toordinal())
    return str(date.fromordinal(first)), f"{date.fromordinal(last)}~"


def _with_neighbours(scores: dict[int, float]) -> dict[int, float]:
    """The scores, raised by those of the passages around each."""
    sums = dict(scores)
    for number, score in scores.items():
        for distance, share in enumerate(NEIGHBOUR_SHARES, 1):
            for other in (number - distance, number + distance):
                sums[other] = sums.get(other, 0.0) + share * score
    return sums


class Stems(dict[str, str]):
    """The stem of each word that was learned: empty for words that are not searched for.

    English words are reduced by Porter's algorithm, the one of SQLite's full-text search.
    """

    def __init__(self) -> None:
        import sqlite3  # imported lazily: slow

        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.executescript(
            "CREATE VIRTUAL TABLE words USING fts5(word, tokenize='porter ascii');"
            "CREATE VIRTUAL TABLE stems USING fts5vocab(words, instance);"
        )

    def learn(self, words: Iterable[str]) -> None:
        """Find the stems of words in lower case that are not known yet."""
        new = set(words).difference(self)
        plain = []
        for word in new:
            if word in STOP_WORDS or (len(word) == 1 and word.isascii() and not word.isdigit()):
                self[word] = ""
            elif word.isascii() and word.isalpha():
                plain.append(word)
            else:
                self[word] = word
        if plain:
            rows = ((number, IRREGULAR.get(word, word)) for number, word in enumerate(plain))
            self._database.executemany("INSERT INTO words(rowid, word) VALUES (?, ?)", rows)
            for number, stem in self._database.execute("SELECT doc, term FROM stems"):
                self[plain[number]] = stem
            self._database.execute("DELETE FROM words")


def _normalized(question: str) -> str:
    return " ".join(terms_of(question))
