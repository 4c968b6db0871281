"""Full-text retrieval of evicted messages with SQLite's FTS5 in memory: no model, no embeddings.

The query is the rare content words of the question. Hits are ranked by BM25 and come with the message that follows,
which holds the answer more often than the hit itself. Scripts without spaces are indexed as pairs of characters.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory.plan import RetrievedLine

MAX_TERMS = 24
MAX_HITS = 40
EXCERPT_FROM_CHARS = 320
"""Longer messages are cut to the sentences that match."""
MAX_TERM_FREQUENCY = 0.15
"""Terms in a larger share of all messages are ignored."""
RARE_TERM_FREQUENCY = 0.04
"""A question whose rarest term is in a larger share of all messages retrieves nothing."""
MIN_RELATIVE_SCORE = 0.3
"""Hits with a smaller share of the best hit's score are ignored."""

_STOP = frozenset(
    (
        "a about after again all also am an and any are as at be because been before being but by can could did do "
        "does doing done down ever every few for from get gets getting give go goes going gone got had has have having "
        "he hello her here hers hey hi him his how i if in into is it its just kind know known let like long made make "
        "many may maybe me might mine more most much must my never no nor not now of off often oh ok okay on once one "
        "only or other our out over own please quite rather really remember right said same say see she should since "
        "so some something still such sure take tell than thank thanks that the their them then there these they thing "
        "things think this those though through to told too under until up upon us use used very want wanted was way "
        "we well went were what when where which while who whom whose why will with without would yes yet you your "
        "yours again anything call called many name whats thats dont didnt im ive"
    ).split()
) - {"name"}
_WORD = re.compile(r"[^\W_]+(?:['’.\-/:@][^\W_]+)*")
_UNSPACED = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\u0e00-\u0e7f]+"
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*|\n+")


class FullTextIndex:
    """The index of one session. Call `update`, then `retrieve`. Both may be called from any thread."""

    def __init__(self) -> None:
        import sqlite3  # imported lazily: slow

        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self._messages: list[Message] = []
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        tokenizer = "tokenize='porter unicode61 remove_diacritics 2'"
        self._database.executescript(
            f"""
            CREATE VIRTUAL TABLE messages USING fts5(text, content='', {tokenizer});
            CREATE VIRTUAL TABLE terms USING fts5vocab(messages, row);
            CREATE VIRTUAL TABLE question USING fts5(text, {tokenizer});
            CREATE VIRTUAL TABLE question_terms USING fts5vocab(question, instance);
            """
        )

    def update(self, session: Session, asked: str = "") -> None:
        """Index the new messages of the session, of every branch.

        `asked` is the id of the question being asked. It is indexed later, so that a preview finds the same lines.
        """
        with self._lock:
            if len(self._messages) >= len(session.messages):
                return
            new = [m for m in list(session.messages.values())[len(self._messages) :] if m.id not in self._known]
            if new and new[-1].id == asked:
                new.pop()
            for message in new:
                self._known[message.id] = len(self._messages)
                self._messages.append(message)
            rows = ((self._known[m.id], _indexed(m.content)) for m in new if m.role in ("user", "assistant"))
            self._database.executemany("INSERT INTO messages(rowid, text) VALUES (?, ?)", rows)

    def retrieve(self, question: str, is_candidate: Callable[[str], bool]) -> Sequence[Sequence[RetrievedLine]]:
        """Groups of lines, best first: each hit with the message that follows it, if that is a candidate too."""
        with self._lock:
            terms = self._terms(question)
            hits = list(self._hits(terms, is_candidate)) if terms else []
        words = {term.lower() for term in terms}
        groups = []
        for message in hits:
            lines = [RetrievedLine(message, _excerpt(message.content, words))]
            position = self._known[message.id] + 1
            after = self._messages[position] if position < len(self._messages) else None
            if after and after.parent == message.id and after.role in ("user", "assistant") and is_candidate(after.id):
                lines.append(RetrievedLine(after, _excerpt(after.content, words)))
            groups.append(lines)
        return groups

    def _hits(self, terms: list[str], is_candidate: Callable[[str], bool]) -> Iterator[Message]:
        query = " OR ".join(f'"{term}"' for term in terms)
        rows = self._database.execute(
            "SELECT rowid, rank FROM messages WHERE messages MATCH ? ORDER BY rank LIMIT 400", (query,)
        )
        best, count = None, 0
        for position, rank in rows:
            message = self._messages[position]
            if not is_candidate(message.id):
                continue
            best = rank if best is None else best
            if rank > best * MIN_RELATIVE_SCORE or count == MAX_HITS:  # ranks are negative: lower is better
                return
            count += 1
            yield message

    def _terms(self, question: str) -> list[str]:
        """The words of the question that are specific in this conversation. None if none of them is rare."""
        words = list(dict.fromkeys(_words(question)))[: 4 * MAX_TERMS]
        if not words:
            return []
        self._database.execute("DELETE FROM question")
        self._database.executemany("INSERT INTO question(rowid, text) VALUES (?, ?)", enumerate(words))
        rows = self._database.execute(
            "SELECT q.doc, min(coalesce(t.doc, 0))"
            " FROM question_terms q LEFT JOIN terms t ON t.term = q.term GROUP BY q.doc"
        )
        total = max(1, len(self._messages))
        known = sorted(
            (spread, position) for position, spread in rows if 0 < spread <= max(3.0, total * MAX_TERM_FREQUENCY)
        )
        if not known or known[0][0] > max(3.0, total * RARE_TERM_FREQUENCY):
            return []
        return [words[position] for _, position in known[:MAX_TERMS]]


def _words(text: str) -> Iterator[str]:
    """Content words, and pairs of characters of scripts without spaces."""
    for run in re.findall(_UNSPACED, text):
        yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
    for word in _WORD.findall(re.sub(_UNSPACED, " ", text)):
        plain = word.replace("’", "'")
        plain = plain[:-2] if plain.lower().endswith("'s") else plain
        if plain.lower().replace("'", "") not in _STOP and (len(plain) > 1 or plain.isdigit()):
            yield plain.replace('"', "")


def _indexed(text: str) -> str:
    """A message as it is indexed: runs of scripts without spaces become pairs of characters."""
    if text.isascii():
        return text
    return re.sub(_UNSPACED, lambda run: " " + " ".join(_pairs(run[0])) + " ", text)


def _pairs(run: str) -> Iterable[str]:
    return (run[i : i + 2] for i in range(max(1, len(run) - 1)))


def _excerpt(text: str, words: set[str]) -> str:
    """A long message cut to the sentences that hold a word of the question, with their neighbours."""
    text = text.strip()
    if len(text) <= EXCERPT_FROM_CHARS:
        return " ".join(text.split())
    sentences = [s for s in _SENTENCE.split(text) if s and s.strip()]
    stems = {word[: max(3, len(word) - 3)] for word in words}
    hits = [n for n, s in enumerate(sentences) if any(stem in s.lower() for stem in stems)]
    wanted = sorted({m for n in hits[:4] for m in (n - 1, n, n + 1) if 0 <= m < len(sentences)}) or [0, 1]
    kept, last = [], -1
    for n in wanted:
        if n < len(sentences):
            kept.append(("… " if n != last + 1 else "") + sentences[n].strip()[: 2 * EXCERPT_FROM_CHARS])
            last = n
    return " ".join(" ".join(kept).split()) + (" …" if last != len(sentences) - 1 else "")
