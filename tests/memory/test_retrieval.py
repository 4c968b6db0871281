"""Which passages are found for a question, and in which order."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Sequence
from datetime import date

import pytest

from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory import retrieval
from chatmem.memory.excerpts import is_retrievable
from chatmem.memory.passages import MAX_CHARS, Passage, joined, split
from chatmem.memory.retrieval import PassageIndex
from chatmem.memory.words import is_ignorance, is_question, speaker_asked_about

TODAY = date(2026, 5, 20)


def session_of(*texts: str, days: Sequence[str] = ()) -> Session:
    """A session whose messages have these texts: questions and replies by turns."""
    session = Session("s")
    for number, text in enumerate(texts):
        time = f"{days[number] if number < len(days) else '2026-05-03'}T10:00:00Z"
        role = ("user", "assistant")[number % 2]
        message = {"id": f"m{number}", "parent": session.head, "role": role, "content": text, "time": time}
        session.apply({"type": "message", **message})
    return session


def found(session: Session, question: str, without: Sequence[str] = (), today: date | None = TODAY) -> list[str]:
    """The ids of the messages of the passages found, best first."""
    index = PassageIndex()
    index.update(session)
    return [p.message.id for p in index.retrieve(question, lambda ident: ident not in without, today)]


def filler(count: int, seed: int = 1) -> list[str]:
    """Pairs of messages about nothing, none of which shares a word with the tests."""
    rng = random.Random(seed)
    words = "harbour wind stone lamp river cloud paper glass wood field rope sand bell leaf".split()
    return [" ".join(rng.sample(words, 5)) for _ in range(2 * count)]


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("My locker code is XK-4821.", "Which code opens the locker?"),
        ("I bought a kayak.", "What did I buy?"),
        ("The children sleep upstairs.", "Where does each child sleep?"),
        ("We were running along the dam.", "Where did we run?"),
        ("Ich wohne in München.", "Wohne ich in munchen?"),
        ("私の猫の名前はタマです。", "猫の名前は何ですか？"),
        ("My cat is called タマ, not Pluto.", "タマ?"),
        ("El código es ñandú.", "¿Dónde está el nandu?"),
        ("Nemo's bowl is blue.", "What colour is the bowl of Nemo?"),
        ("order 7 of invoice 2231", "what was invoice 2231?"),
    ],
)
def test_a_question_finds_the_passage_it_shares_a_word_with(said: str, asked: str) -> None:
    session = session_of(*filler(30), said, "Noted.", *filler(30, 2))
    assert found(session, asked)[0] == "m60"


def test_an_answer_without_a_word_of_the_question_is_found_by_what_stands_before_it() -> None:
    answer = "Pickle, because of the spots."
    session = session_of(*filler(30), "We got a puppy.", "Which name did you choose?", answer, "Sweet.", *filler(30, 2))
    assert "m62" in found(session, "What is the name of the puppy?")[:4]


def test_the_shares_of_neighbours_fall_with_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(*filler(20), "The walrus sings.", "Does it?", *filler(20, 2))
    around = [f"m{40 + distance}" for distance in range(-4, 5)]
    ranked = [ident for ident in found(session, "Where is the walrus?", today=None) if ident in around]
    assert ranked[0] == "m40" and set(ranked[1:3]) == {"m39", "m41"} and set(ranked[3:5]) == {"m38", "m42"}
    assert set(ranked[5:7]) == {"m37", "m43"}
    assert "m35" not in ranked and "m45" not in ranked
    monkeypatch.setattr(retrieval, "NEIGHBOUR_SHARES", ())
    assert found(session, "Where is the walrus?") == ["m40"]


def test_two_hits_near_each_other_rank_before_a_single_one() -> None:
    session = session_of(
        *filler(10), "the walrus", "the walrus again", *filler(20, 2), "a walrus", "yes", *filler(10, 3)
    )
    assert set(found(session, "Where is the walrus?")[:2]) == {"m20", "m21"}


def test_what_the_asked_speaker_said_ranks_first() -> None:
    session = session_of(*filler(20), "my ferry is at nine", "the ferry at nine is mine", *filler(20, 2))
    assert found(session, "When is my ferry?")[0] == "m40"
    assert found(session, "When did you say the ferry goes?")[0] == "m41"


@pytest.mark.parametrize(
    ("asked", "role"),
    [
        ("What is my name?", "user"),
        ("Where did I go?", "user"),
        ("What did you recommend?", "assistant"),
        ("Can you tell me what my code is?", ""),
        ("Where is the harbour?", ""),
        ("Wie heißt mein Hund?", "user"),
        ("Qu'est-ce que tu as dit ?", "assistant"),
        ("¿Dónde está mi coche?", "user"),
        ("猫の名前は？", ""),
    ],
)
def test_pronouns_tell_whose_messages_a_question_is_about(asked: str, role: str) -> None:
    assert speaker_asked_about(asked) == role


@pytest.mark.parametrize("asked", ["What was the ferry on 3 May?", "The ferry last month?", "The ferry on 2026-05-03?"])
def test_a_date_in_the_question_raises_what_was_said_around_it(asked: str) -> None:
    today = date(2026, 6, 2)
    days = ["2026-04-10"] * 21 + ["2026-05-04"] * 21
    session = session_of(*filler(10), "the ferry", *filler(10, 2)[:-1], "no", "the ferry", "yes", days=days)
    assert found(session, asked, today=today)[0] == "m41"
    assert found(session, "Where is the ferry?", today=today)[0] == "m20"


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "december 9999", "29 February"])
def test_a_day_at_the_end_of_the_calendar_is_no_error(day: str) -> None:
    session = session_of("My licence expires.", "Noted.", *filler(10))
    assert found(session, f"Which licence expires on {day}?")[0] == "m0"


def test_a_question_that_names_only_a_day_finds_what_was_said_then() -> None:
    days = ["2026-05-02"] * 4 + ["2026-05-03"] * 2 + ["2026-05-09"] * 20
    session = session_of(*filler(13), days=days)
    assert {"m4", "m5"} <= set(found(session, "What did we talk about on 3 May?")[:2])
    assert found(session, "What did I say on 1 March?") == []


def test_characters_that_expand_when_they_are_folded_do_no_harm() -> None:
    kana = "".join(chr(0x3300 + n % 88) for n in range(319))
    assert found(session_of(kana, "yes", *filler(3)), "アパート?")[0] == "m0"


def test_a_date_counts_from_two_days_before_to_ten_days_after() -> None:
    texts, days = [], []
    for seed, day in enumerate(("2026-04-30", "2026-05-01", "2026-05-13", "2026-05-14")):
        texts += ["the ferry", "yes", *filler(4, seed)]
        days += [day] * 10
    ranked = found(session_of(*texts, days=days), "The ferry of 3 May?")
    assert [ident for ident in ranked if ident in ("m0", "m10", "m20", "m30")] == ["m10", "m20", "m0", "m30"]


def test_asking_again_does_not_hide_the_answer() -> None:
    asked = [text for _ in range(12) for text in ("What is my name?", "I do not know your name.")]
    session = session_of(*filler(10), "My name is Nemo.", "Hello.", *asked, *filler(10, 2))
    ranked = found(session, "What is my name?")
    assert ranked[0] == "m20"
    asked_again = {f"m{number}" for number in range(22, 46)}
    assert not asked_again & set(ranked), "neither the same question nor a reply that knows nothing is quoted"


@pytest.mark.parametrize(
    ("reply", "says_nothing"),
    [
        ("I do not know.", True),
        ("I’m sorry, I don’t have that information.", True),
        ("That is not in the 12 messages I was sent.", True),
        ("You haven't told me.", True),
        ("Das weiß ich nicht, ich weiß es nicht.", True),
        ("Your name is Nemo.", False),
        ("I don't have your notes, but Anna's number is 555-1212.", False),
        ("I'm not sure; ask Paul.", False),
        ("I do not know. " + "But here is a long story about it, with many details. " * 4, False),
    ],
)
def test_replies_that_only_say_that_they_do_not_know_are_recognised(reply: str, says_nothing: bool) -> None:
    assert is_ignorance(reply) == says_nothing


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("Where is it?", True),
        ("remind me of the code", True),
        ("Please tell me the code", True),
        ("what was the code", True),
        ("Did I mention the garage", True),
        ("我的名字是什么", True),
        ("¿Cuál es", True),
        ("Wo steht das Auto", True),
        ("I moved to Porto last week.", False),
        ("Thanks, that is what I needed.", False),
        ("The garage is what bothers me most of all.", False),
        ("", False),
    ],
)
def test_questions_are_told_from_statements(text: str, asks: bool) -> None:
    assert is_question(text) == asks


def test_frequent_words_are_ignored_unless_a_question_has_no_others() -> None:
    texts = [f"the ship number {n} is here" if n % 2 else filler(1, n)[0] for n in range(100)]
    session = session_of(*texts, "the walrus is on the ship", "yes")
    ranked = found(session, "Where is the ship with the walrus?")
    assert ranked[0] == "m100" and len(ranked) < 8
    assert len(found(session, "Where is the ship?")) > 30


def test_a_weaker_passage_than_a_quarter_of_the_best_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "NEIGHBOUR_SHARES", ())
    texts = ["alpha beta gamma delta epsilon", *filler(10), "alpha " + " ".join(filler(20, 5)), *filler(10, 2)]
    session = session_of(*texts)
    asked = "Where are alpha beta gamma delta epsilon?"
    assert found(session, asked) == ["m0"]
    monkeypatch.setattr(retrieval, "MIN_RELATIVE_SCORE", 0.0)
    assert found(session, asked) == ["m0", "m21"]


def reference(texts: Sequence[str], question: str) -> dict[str, float]:
    """The sums of all passages by the formulas of the documentation, written without an index."""
    documents = [set(text.split()) for text in texts]
    total, mean = len(documents), sum(map(len, documents)) / len(documents)
    frequency = {word: sum(word in d for d in documents) for word in question.rstrip("?").split()}
    present = {word: count for word, count in frequency.items() if count}
    chosen = {word for word, count in present.items() if count <= max(3, 0.15 * total)} or set(present)
    scores = {
        number: sum(math.log(1 + (total - frequency[w] + 0.5) / (frequency[w] + 0.5)) for w in chosen & words)
        * (1.2 + 1)
        / (1 + 1.2 * (0.25 + 0.75 * len(words) / mean))
        for number, words in enumerate(documents)
    }
    best = dict(sorted(scores.items(), key=lambda entry: -entry[1])[:400])
    sums = {
        number: sum(
            best.get(number + distance, 0.0) * (1.0, 0.5, 0.4, 0.3, 0.2)[abs(distance)] for distance in range(-4, 5)
        )
        for number in range(total)
    }
    return {f"m{number}": score for number, score in sums.items() if score >= 0.25 * max(sums.values()) > 0}


def test_the_ranking_is_that_of_the_documented_formulas(rng: random.Random) -> None:
    words = [f"x{number}" for number in range(60)]
    for _ in range(30):
        weights = [1 / (n + 1) for n in range(60)]
        texts = [" ".join(rng.choices(words, weights, k=rng.randrange(2, 30))) for _ in range(rng.randrange(5, 250))]
        question = " ".join(rng.sample(words, rng.randrange(1, 5))) + "?"
        expected, ranked = reference(texts, question), found(session_of(*texts), question, today=None)
        scores = [round(expected[ident], 9) for ident in ranked]
        assert set(ranked) == set(expected) and scores == sorted(scores, reverse=True)


def test_a_preview_finds_what_sending_finds() -> None:
    session = session_of(*filler(10), "My name is Nemo.", "Hello.")
    index = PassageIndex()
    index.update(session)
    preview = list(index.retrieve("What is my name?", lambda ident: True))
    session.apply(
        {"type": "message", "id": "asked", "parent": session.head, "role": "user", "content": "What is my name?"}
    )
    index.update(session, "asked")
    assert list(index.retrieve("What is my name?", lambda ident: True)) == preview
    session.apply({"type": "message", "id": "r", "parent": "asked", "role": "assistant", "content": "Nemo."})
    index.update(session)
    assert "r" in [p.message.id for p in index.retrieve("What is my name?", lambda ident: True)]


def test_an_index_that_grows_message_by_message_finds_the_same() -> None:
    rng = random.Random(3)
    texts = [" ".join(rng.choice("ab bc cd de ef fg gh hi ij jk".split()) for _ in range(6)) for _ in range(300)]
    whole, grown = session_of(*texts), session_of()
    one, other = PassageIndex(), PassageIndex()
    one.update(whole)
    for message in whole.messages.values():
        grown.apply(message.record())
        other.update(grown)
    for question in ("Where is ab bc?", "cd ef?", "ij"):
        first = [(*p[1:], p.message.id) for p in one.retrieve(question, lambda ident: True)]
        assert first == [(*p[1:], p.message.id) for p in other.retrieve(question, lambda ident: True)]


def test_only_candidates_are_found_even_if_the_best_400_are_none() -> None:
    session = session_of(*["walrus"] * 900, "a walrus by the sea, with a long tail of words behind it", "yes")
    assert found(session, "Where is the walrus?", without=[f"m{n}" for n in range(900)])[0] == "m900"


def test_updating_and_asking_from_two_threads_is_safe() -> None:
    session, index = session_of(), PassageIndex()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(100):
                list(index.retrieve("Where is the walrus?", lambda ident: True))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for number in range(300):
        message = {"id": f"m{number}", "parent": session.head, "role": "user", "content": f"walrus {number}"}
        session.apply({"type": "message", **message})
        index.update(session)
    thread.join()
    assert not failures


# Passages

TEXTS = {
    "short": "  One line.  ",
    "sentences": "This is a sentence of some words. " * 40,
    "lines": "a line without an end\n" * 60,
    "one line": "x" * 200_000,
    "words": "word " * 3_000,
    "cjk": "これは文です。" * 200,
    "emoji": "👩‍👩‍👧 " * 300,
    "blank": " \n ",
}


@pytest.mark.parametrize("name", TEXTS)
def test_passages_cover_a_text_in_order_and_are_short(name: str) -> None:
    text = TEXTS[name]
    spans = list(split(text))
    assert "".join(text[start:end] for start, end in spans) == text.strip()
    assert all(0 < end - start <= MAX_CHARS for start, end in spans)
    assert len(spans) <= 2 + 2.5 * len(text) / MAX_CHARS, "sentences share a passage where they fit"


def test_a_passage_ends_where_a_sentence_ends() -> None:
    text = TEXTS["sentences"]
    assert all(text[start:end].rstrip().endswith(".") for start, end in split(text))


def test_adjoining_passages_of_a_message_are_shown_as_one() -> None:
    message = Message("m", None, "user", "one. two. three. four.", "")
    parts = [Passage(message, 0, 5), Passage(message, 5, 10), Passage(message, 17, 22)]
    assert [p.text for p in joined(parts)] == ["one. two. …", "… four."]


def test_work_for_a_question_does_not_grow_with_what_shares_no_word_with_it() -> None:
    def steps(count: int) -> int:
        session = session_of("the walrus", "yes", *filler(count))
        index, asked = PassageIndex(), 0
        index.update(session)

        def count_candidate(ident: str) -> bool:
            nonlocal asked
            asked += 1
            return True

        list(index.retrieve("Where is the walrus?", count_candidate))
        return asked

    assert steps(2000) == steps(20)


def test_a_question_of_words_without_meaning_finds_nothing() -> None:
    session = session_of(*filler(5), "What is it that you want to say about this?", "It is what it is, I think.")
    assert found(session, "What was it about that?") == []


def test_a_message_of_320_characters_is_one_passage_and_a_longer_one_is_split() -> None:
    sentence = "x" * 159 + "."
    assert list(split(f"{sentence}{sentence}")) == [(0, 320)]
    assert list(split(f"{sentence} {sentence}")) == [(0, 161), (161, 321)]


def test_what_a_plan_excludes_is_not_quoted() -> None:
    session = session_of("The walrus sings.", "Yes.", "The walrus sleeps.", "Yes.", *filler(10))
    session.apply({"type": "mark", "message": "m0", "excluded": True})
    session.apply({"type": "mark", "message": "m2", "pinned": True})
    may_quote = is_retrievable(session, session.turns, {"m2"}, 5)
    assert [may_quote(ident) for ident in ("m0", "m1", "m2", "m3", "m4", "m10", "nothing")] == [
        False,
        False,
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_reply_in_the_words_of_the_question_is_found() -> None:
    session = session_of(*filler(10), "Hello.", "Where is the walrus?", *filler(10, 2))
    assert found(session, "Where is the walrus?")[0] == "m21"


def test_asking_again_does_not_make_frequent_words_rare() -> None:
    texts = [f"the ship number {n} is here" if n % 5 == 1 else filler(1, n)[0] for n in range(100)]
    asked = ["Where is the ship with the walrus?", "I do not know."] * 60
    ranked = found(session_of(*texts, "the walrus is on the ship", "yes", *asked), asked[0])
    assert ranked[0] == "m100" and len(ranked) < 10


def test_a_question_asked_before_is_not_quoted_whatever_blanks_are_around_it() -> None:
    session = session_of(*filler(10), "My name is Nemo.", "Hello.", "\n  What is my name? ", "Nemo.", *filler(10, 2))
    assert "m22" not in found(session, "What is my name?")


def test_a_statement_finds_something_if_one_of_its_words_is_rare() -> None:
    texts = [f"the ship number {n} is here" if n % 5 == 1 else filler(1, n)[0] for n in range(100)]
    session = session_of(*texts, "the walrus sings", "yes")
    assert found(session, "I saw the ship, then a walrus.")[0] == "m100"
    assert found(session, "I saw the ship.") == []


def test_a_preview_of_a_long_question_finds_what_sending_finds() -> None:
    session, index, question = session_of(*filler(10), "My name is Nemo.", "Hello."), PassageIndex(), "My name? " * 50
    index.update(session)
    preview = list(index.retrieve(question, lambda ident: True))
    session.apply({"type": "message", "id": "asked", "parent": session.head, "role": "user", "content": question})
    index.update(session, "asked")
    assert preview and list(index.retrieve(question, lambda ident: True)) == preview


def test_a_message_of_320_different_characters_is_found() -> None:
    han = "".join(chr(0x4E00 + number) for number in range(MAX_CHARS))
    assert found(session_of(han, "yes", *filler(3)), f"{han[:2]}?")[0] == "m0"


def test_a_question_is_searched_for_by_its_first_4000_characters_and_24_words() -> None:
    session = session_of("the kayak", "yes", *filler(10))
    assert found(session, "Where? " + "kayak".rjust(3_993))[0] == "m0"
    assert found(session, "Where? " + "kayak".rjust(3_994)) == []
    words = [f"x{number}" for number in range(10, 35)]
    session = session_of(*(text for word in words for text in (word, "yes", *filler(4))))
    ranked = found(session, f"Where is {' '.join(words)}?")
    assert [f"m{10 * number}" in ranked for number in range(25)] == [True] * 24 + [False]


def test_a_code_has_no_inflected_forms() -> None:
    session = session_of("the key XK4821S", "yes", *filler(10))
    assert found(session, "XK4821S?")[0] == "m0" and found(session, "XK4821?") == []


def test_a_long_sentence_is_split_between_words() -> None:
    text = "some words that are not all of one length " * 30
    assert [word for start, end in split(text) for word in text[start:end].split()] == text.split()


def test_a_passage_is_whole_if_it_is_all_of_its_message() -> None:
    message = Message("m", None, "user", "one. two.", "")
    assert Passage(message, 0, 9).is_whole
    assert not any(Passage(message, start, end).is_whole for start, end in ((0, 5), (5, 9), (4, 5)))
