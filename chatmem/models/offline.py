"""The built-in model, which needs no server: it knows nothing except the messages it is sent.

It is not a language model but a small extractive answerer. Told "My name is Nemo", then asked "What is my name?", it
finds the sentence. Asked to summarise, it extracts. It shows what each memory strategy remembers and forgets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatmem.history.records import Usage
from chatmem.models.base import OFFLINE, Options, StreamChunk
from chatmem.tokens.counter import REQUEST_OVERHEAD, counter_for_model

_STOP_WORDS = frozenset(
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
_SUMMARY_REQUEST = re.compile(r"(you |please )?(summari[sz]e|write (a|the) summary)\b", re.IGNORECASE)
_BLOCK = re.compile(r"\A\[(Excerpts)?[^\n]*\]\n(.*?)\n\[End of [^\n]*\]\n\n", re.DOTALL)
"""A marked block before the question, such as excerpts: context, not part of the question."""


class OfflineModel:
    """Answers from the messages it is sent, by the words that a question shares with their sentences."""

    name = OFFLINE
    window: int | None = 8192

    @property
    def server(self) -> str:
        return ""

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        return []

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        text = answer(messages)
        limit = options.get("max_tokens")
        words = re.findall(r"\S+\s*|\s+", text)
        cut = isinstance(limit, int) and len(words) > limit
        for word in words[:limit] if cut else words:
            yield StreamChunk(text=word)
        count = counter_for_model(OFFLINE).count_message
        prompt = REQUEST_OVERHEAD + sum(count(m["content"]) for m in messages)
        yield StreamChunk(
            usage=Usage(prompt, len(words[:limit] if cut else words)), status="length" if cut else "complete"
        )

    def preload(self) -> None:
        pass

    def for_background(self) -> OfflineModel:
        return self

    def cancel(self) -> None:
        pass


def answer(messages: Sequence[Mapping[str, str]]) -> str:
    """The answer to these messages, the last of which is the question."""
    *context, last = messages
    question = last["content"].strip()
    if len(messages) == 2 and context[0]["role"] == "system" and _SUMMARY_REQUEST.match(context[0]["content"]):
        return extract_summary(question)
    while block := _BLOCK.match(question):
        if block[1]:
            context.append({"role": "user", "content": block[2]})
        question = question[block.end() :]
    if not _is_question(question):
        return _acknowledge(question)
    last = {"role": "user", "content": question}
    known = [_speaker(m["role"], sentence) for m in (*context, last) for sentence in _sentences(m["content"])]
    found = _best_sentence(question, known)
    count = len(messages)
    if found is None:
        sent = "the one message" if count == 1 else f"the {count} messages"
        return f"That is not in {sent} I was sent. (I am the offline model and know nothing else.)"
    role, sentence = found
    if role == "user":
        return f"You told me: “{sentence}”"
    return f"I was sent: “{sentence}”" if role == "system" else f"I said: “{sentence}”"


def extract_summary(transcript: str, most: int = 12) -> str:
    """A summary without a model: the sentences of a text that say the most, in their order, one per line."""
    lines = [s for s in _sentences(transcript) if not _is_question(s.partition(": ")[2] or s) and len(s) < 400]
    frequency = Counter(word for line in lines for word in set(_words(line)))
    scored = []
    for index, line in enumerate(dict.fromkeys(lines)):
        words = _words(line)
        facts = len(re.findall(r"\b(?:my|our|we|i)\b.*\b(?:is|are|was|am)\b|\d|[A-Z]{2,}", line))
        rarity = sum(1 / frequency[w] for w in words)
        scored.append((facts * 2 + rarity / (1 + len(words) ** 0.5), index, line))
    best = sorted(sorted(scored, reverse=True)[:most], key=lambda s: s[1])
    return "\n".join(f"- {line}" for _, _, line in best)


def _speaker(role: str, sentence: str) -> tuple[str, str]:
    """Who said a sentence, and the sentence. A quoted line names its speaker."""
    quoted = re.match(r"(?:\d{4}-\d\d-\d\d )?(user|assistant): (.+)", sentence)
    return (quoted[1], quoted[2]) if quoted else (role, sentence)


def _acknowledge(statement: str) -> str:
    short = " ".join(statement.split())
    short = short if len(short) <= 80 else short[:79] + "…"
    return f"Noted: “{short}” Ask me about it: I answer only from the messages I am sent."


def _is_question(text: str) -> bool:
    return text.rstrip().endswith(("?", "？")) or bool(_QUESTION.match(text.strip()))


def _sentences(text: str) -> list[str]:
    return [s.strip(" -*#>\t") for s in _SENTENCE.split(text) if s.strip(" -*#>\t")]


def _words(text: str) -> list[str]:
    found = []
    for word in re.findall(r"[^\W_]+(?:['’][^\W_]+)?", text.lower()):
        if re.match(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        elif word not in _STOP_WORDS:
            found.append(_stem(word))
    return found


def _stem(word: str) -> str:
    word = re.sub(r"['’]s$", "", word)
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _best_sentence(question: str, known: list[tuple[str, str]]) -> tuple[str, str] | None:
    """The newest of the sentences that share the most words with the question, if they share enough."""
    wanted = set(_words(question))
    if not wanted:
        return None
    document_frequency = Counter(word for _, sentence in known for word in set(_words(sentence)) & wanted)
    best, best_score = None, 0.0
    for role, sentence in known:
        if _is_question(sentence) or sentence.startswith(
            ("Noted:", "That is not in", "(I am the offline", "Ask me about")
        ):
            continue
        shared = set(_words(sentence)) & wanted
        score = sum(1.0 + 1.0 / document_frequency[word] for word in shared) + (0.1 if role == "user" else 0.0)
        if len(shared) * 2 >= len(wanted) and score >= best_score:
            best, best_score = (role, sentence), score
    return best
