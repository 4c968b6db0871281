"""The built-in model that needs no key: it knows nothing except the messages it is sent, and says so.

No language model, but a small extractive answerer. Told "My name is Nemo", then asked "What is my name?", it
finds the sentence; asked to summarise, it extracts. It shows what each memory strategy remembers and forgets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from chatmem.models.base import Options, Piece
from chatmem.records import Usage
from chatmem.tokens import PRIMER, counter

NAME = "offline"

_STOP = frozenset(
    (
        "a about again all also am an and any are as at be been but by can could did do does for from had has "
        "have he her him his how i if in is it its just know let like many may me mine more much my name's no not "
        "now of on or our please remember say she should so some such tell than thanks that the their them then "
        "there these they this to told too us very want was we were what what's when where which who whom whose "
        "why will with would yes you your"
    ).split()
)
_QUESTION = re.compile(
    r"^(what|who|whom|whose|where|when|which|why|how|do|does|did|is|are|was|were|can|could|will|would|have|has|had|am)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+|(?<=[。！？])")
_SUMMARISE = re.compile(r"\b(summari[sz]e|summary|notes)\b", re.IGNORECASE)


class OfflineModel:
    """Answers from the messages it is sent, by the words that question and sentence share."""

    name = NAME
    window: int | None = 8192

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[Piece]:
        text = answer(messages)
        limit = options.get("max_tokens")
        words = re.findall(r"\S+\s*|\s+", text)
        cut = isinstance(limit, int) and len(words) > limit
        for word in words[:limit] if cut else words:
            yield Piece(text=word)
        count = counter(NAME).message
        prompt = PRIMER + sum(count(m["content"]) for m in messages)
        yield Piece(usage=Usage(prompt, len(words[:limit] if cut else words)), finish="length" if cut else "complete")

    def warm(self) -> None:
        pass


def answer(messages: Sequence[Mapping[str, str]]) -> str:
    """What the offline model says to these messages; the last one is the question."""
    *context, last = messages
    question = last["content"].strip()
    if any(_SUMMARISE.search(m["content"][:400]) for m in context if m["role"] == "system") and len(messages) == 2:
        return extract(question)
    if not _is_question(question):
        return _acknowledge(question)
    known = [_said(m["role"], sentence) for m in (*context, last) for sentence in _sentences(m["content"])]
    found = _best(question, known)
    count = len(messages)
    if found is None:
        sent = "the one message" if count == 1 else f"the {count} messages"
        return f"That is not in {sent} I was sent. (I am the offline model: I know nothing else.)"
    role, sentence = found
    if role == "user":
        return f"You told me: “{sentence}”"
    return f"In what I was sent it says: “{sentence}”" if role == "system" else f"I said: “{sentence}”"


def extract(transcript: str, most: int = 12) -> str:
    """The sentences of a text that say the most, in their order, one a line: its summary without a model."""
    lines = [s for s in _sentences(transcript) if not _is_question(s.partition(": ")[2] or s) and len(s) < 400]
    frequency = Counter(word for line in lines for word in set(_words(line)))
    scored = []
    for index, line in enumerate(dict.fromkeys(lines)):
        words = _words(line)
        facts = len(re.findall(r"\b(?:my|our|we|i)\b.*\b(?:is|are|was|am)\b|\d|[A-Z]{2,}", line))
        rare = sum(1 / frequency[w] for w in words)
        scored.append((facts * 2 + rare / (1 + len(words) ** 0.5), index, line))
    best = sorted(sorted(scored, reverse=True)[:most], key=lambda s: s[1])
    return "\n".join(f"- {line}" for _, _, line in best)


def _said(role: str, sentence: str) -> tuple[str, str]:
    """Who said a sentence, and what: a quoted line names its speaker."""
    quoted = re.match(r"(?:\d{4}-\d\d-\d\d )?(user|assistant): (.+)", sentence)
    return (quoted[1], quoted[2]) if quoted else (role, sentence)


def _acknowledge(statement: str) -> str:
    short = " ".join(statement.split())
    short = short if len(short) <= 80 else short[:79] + "…"
    return f"Noted: “{short}” Ask me about it: I answer from what I am shown, and from nothing else."


def _is_question(text: str) -> bool:
    return text.rstrip().endswith(("?", "？")) or bool(_QUESTION.match(text.strip()))


def _sentences(text: str) -> list[str]:
    return [s.strip(" -*#>\t") for s in _SENTENCE.split(text) if s.strip(" -*#>\t")]


def _words(text: str) -> list[str]:
    found = []
    for word in re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower()):
        if re.match(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _STOP:
            found.append(_stem(word))
    return found


def _stem(word: str) -> str:
    word = re.sub(r"['’]s$", "", word)
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _best(question: str, known: list[tuple[str, str]]) -> tuple[str, str] | None:
    """The newest of the sentences that share most of the question's words, if that is enough of them."""
    wanted = set(_words(question))
    if not wanted:
        return None
    spread = Counter(word for _, sentence in known for word in set(_words(sentence)) & wanted)
    best, best_score = None, 0.0
    for role, sentence in known:
        if _is_question(sentence) or sentence.startswith(
            ("Noted:", "That is not in", "(I am the offline", "Ask me about")
        ):
            continue
        shared = set(_words(sentence)) & wanted
        score = sum(1.0 + 1.0 / spread[word] for word in shared) + (0.1 if role == "user" else 0.0)
        if len(shared) * 2 >= len(wanted) and score >= best_score:
            best, best_score = (role, sentence), score
    return best
