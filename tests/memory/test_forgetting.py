"""Forgetting on purpose: what neither the summary nor retrieval shows again, while the history keeps it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from chatmem.history.session import Session
from chatmem.memory.budget import Limits
from chatmem.memory.forgetting import find_matches, has_words, is_forgotten, remembered_turn, turns_with
from chatmem.memory.plan import ApiMessage, ContextPlan
from chatmem.memory.planner import plan
from chatmem.memory.strategies import parse_spec, strategy_from_mapping
from chatmem.memory.summaries import select_summaries
from chatmem.memory.summarizer import SummaryJob, SummaryModel
from chatmem.stores import open_store
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.memory.test_planner import NOW, add_summary, index, make_session

SECRET = "My locker code is XK-4821."


def say(session: Session, ident: str, text: str, reply: str = "Noted.") -> None:
    """Add a turn."""
    question = {"type": "message", "id": ident, "parent": session.head, "role": "user", "content": text}
    session.apply(question | {"time": "2026-05-02T10:00:00Z"})
    answer = {"type": "message", "id": f"{ident}r", "parent": ident, "role": "assistant", "content": reply}
    session.apply(answer | {"time": "2026-05-02T10:00:01Z"})


def forget(session: Session, text: str) -> None:
    session.apply({"type": "forget", "text": text})


def secretive(*later: str) -> Session:
    """A session in which a secret was said in turn 2, and then other things."""
    session = make_session(1)
    say(
        session,
        "secret",
        f"{SECRET} " + "And nothing else was said that day, I believe. " * 8,
        "Locker XK-4821, noted.",
    )
    for number in range(12):
        say(session, f"later{number}", f"Something else, number {number}, about boats and the sea.", "I see. " * 30)
    for number, text in enumerate(later):
        say(session, f"last{number}", text)
    return session


def planned(session: Session, spec: str, question: str = "What is the code of my locker?") -> ContextPlan:
    counter = Counter(None, estimate_tokens)
    return plan(
        session, question, strategy_from_mapping(parse_spec(spec)), counter, Limits(20_000), retriever=index(session)
    )


def sent(context: ContextPlan) -> str:
    return "\n".join(message["content"] for message in context.messages)


SPECS = ["window:1,recall_tokens=600", "summary:700", "token-trim:500,recall_tokens=auto"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_forgotten_passage_is_neither_quoted_nor_copied_nor_summarised(spec: str) -> None:
    session = secretive()
    assert "XK-4821" in sent(planned(session, spec))
    forget(session, "xk-4821")
    assert "4821" not in sent(planned(session, spec))
    assert session.messages["secret"].content.startswith(SECRET), "the history keeps it"


def test_forgetting_applies_to_what_was_said_before_it() -> None:
    session = secretive()
    forget(session, "locker code")
    say(session, "again", "The locker code is XK-4821 after all.")
    say(session, "end", "And now something about boats.")
    text = sent(planned(session, "window:1,recall_tokens=600"))
    assert "after all" in text and SECRET not in text


def test_summary_lines_with_all_words_are_hidden_and_the_others_stay() -> None:
    session = secretive()
    add_summary(session, 1, 6, "Locker code: XK-4821\nLikes boats.\n2026-05-02: The gate code is ZZ-1.")
    before = sent(planned(session, "summary:900,recall_tokens=0", "Hello?"))
    forget(session, "LOCKER, code")
    after = sent(planned(session, "summary:900,recall_tokens=0", "Hello?"))
    assert "XK-4821" in before and "XK-4821" not in after
    assert "Likes boats." in after and "2026-05-02: The gate code is ZZ-1." in after


def test_a_line_whose_turns_were_said_after_it_stays() -> None:
    session = secretive("The new locker code is XK-4821.")
    entry = {"type": "summary", "id": "s", "from": "q1", "to": "last0r", "level": 0, "sources": [["secret"], ["last0"]]}
    session.apply({"type": "forget", "text": "locker"})
    say(session, "after", "My locker is green now.")
    say(session, "end", "Bye.")
    session.apply(
        entry | {"to": "afterr", "text": "Locker: XK-4821\nThe locker is green", "sources": [["secret"], ["after"]]}
    )
    ((_, _, segment),) = select_summaries(session, session.turns, len(session.turns))
    assert segment.text == "The locker is green" and segment.sources == (("after",),)


def test_a_segment_that_is_made_again_never_sees_it() -> None:
    session, shown = secretive(), []

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        shown.append(messages[-1]["content"])
        return "Talked about boats.", "complete"

    forget(session, "locker")
    counter = Counter(None, estimate_tokens)
    job = SummaryJob.for_session(session, 10, 900, SummaryModel("m", 8192, ask), counter)
    job.run()
    assert shown and not job.error and "4821" not in "".join(shown) and "boats" in "".join(shown)
    assert all("4821" not in segment.text for segment in job.segments)


def test_merged_segments_never_see_a_forgotten_line() -> None:
    session, shown = secretive(), []
    add_summary(session, 1, 4, "Locker code: XK-4821\n" + "Talked about boats at length. " * 16)
    add_summary(session, 5, 8, "Talked about the sea at length. " * 16)
    forget(session, "locker")

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        shown.append(messages[-1]["content"])
        return "Boats and the sea.", "complete"

    SummaryJob.for_session(session, 8, 200, SummaryModel("m", 8192, ask), Counter(None, estimate_tokens)).run()
    assert len(shown) == 1 and "4821" not in shown[0]


def test_matches_name_the_turn_and_the_passage() -> None:
    session = secretive()
    add_summary(session, 1, 4, "Likes tea\nLocker code: XK-4821")
    segments = [segment for _, _, segment in select_summaries(session, session.turns, 13)]
    found = list(find_matches(session, "code locker", segments))
    assert [(match.turn, match.is_summary) for match in found] == [(1, True), (2, False)]
    assert found[1].text.startswith(SECRET)
    forget(session, "code locker")
    assert not [match for match in find_matches(session, "code locker", []) if not match.is_summary]


@pytest.mark.parametrize(
    ("text", "said", "hidden"),
    [
        ("cat", "A concatenation.", False),
        ("cat", "My CAT sleeps.", True),
        ("cafe", "The café is open.", True),
        ("猫", "私の猫はタマです。", True),
        ("red boat", "The boat is red.", True),
        ("red boat", "The boat is blue.", False),
        ("4821", "code XK-4821", True),
        ("XK_4821", "My key is prod_XK_4821.", True),
        ("Lisbon", "我喜欢Lisbon和茶。", True),
        ("кот", "Который час?", False),
        ("кот", "Мой кот спит.", True),
        ("pregnant", "When do you tell them about the pregnancy?", True),
        ("Claudia", "Claudias Schlüssel", True),
        ("boat", "The boats are red.", True),
        ("boat", "A boatman came.", False),
        ("Vienna", "The Viennese café.", True),
        ("Marianne", "Maria came.", False),
        ("Paris", "A Parisian café.", False),
    ],
)
def test_all_words_have_to_be_there_as_whole_words(text: str, said: str, hidden: bool) -> None:
    session = Session("s")
    say(session, "q", said)
    forget(session, text)
    assert is_forgotten(session, said, "q") == hidden


def test_only_the_passage_is_left_out_of_a_copy() -> None:
    session = secretive()
    forget(session, "locker")
    turn = session.turns[1]
    kept = remembered_turn(session, turn)
    assert "locker" not in kept.question.content and "nothing else was said" in kept.question.content
    assert remembered_turn(session, session.turns[2]) == session.turns[2]


def test_turns_that_still_have_the_text_are_named() -> None:
    session = secretive(SECRET)
    assert turns_with(session.turns, "locker code") == [2, 15]


def test_a_text_without_words_matches_nothing() -> None:
    session = secretive()
    assert not has_words("… ?!") and has_words("猫")
    forget(session, "?!")
    assert "XK-4821" in sent(planned(session, SPECS[0]))
    before = session.malformed_count
    session.apply({"type": "forget", "text": 7})
    assert session.malformed_count == before + 1


def test_a_fork_forgets_what_the_original_forgot_and_no_more(tmp_path: Path) -> None:
    store = open_store("file", tmp_path)
    original = secretive()
    records = [{"type": "session", "chatmem": 1, "id": "x", "name": "work"}]
    records += [message.record() for message in original.messages.values()]
    records.insert(6, {"type": "forget", "text": "locker"})
    store.open("work", records).close()
    store.fork("work", "copy")
    one, two = store.session("work"), store.session("copy")
    assert one.forgotten == two.forgotten and one.forgotten[0].before == 5
    assert is_forgotten(two, SECRET, "secret") and not is_forgotten(two, SECRET, "later9")


def test_plans_with_forgotten_texts_count_exactly(rng: random.Random) -> None:
    for _ in range(20):
        session = secretive(*(f"Word {rng.randrange(5)} of the sea." for _ in range(rng.randrange(9))))
        for text in rng.sample(["locker", "sea", "word 3", "boats"], 2):
            forget(session, text)
        counter = Counter(None, estimate_tokens)
        context = planned(session, rng.choice(SPECS))
        total = counter.request_overhead + sum(counter.count_message(m["content"]) for m in context.messages)
        assert context.tokens == total


def test_a_line_that_stems_from_a_forgotten_passage_is_hidden_and_listed() -> None:
    session = make_session(1)
    say(session, "news", "I am pregnant, the child comes in June.")
    for number in range(6):
        say(session, f"later{number}", f"Something about boats, number {number}.")
    record = {"type": "summary", "id": "s", "from": "q1", "to": "later3r", "level": 0}
    record |= {"text": "Expects a child in June.\nTalked about boats.", "sources": [["news"], ["later0"]]}
    session.apply(record)
    segments = [segment for _, _, segment in select_summaries(session, session.turns, 8)]
    listed = [(match.is_summary, match.text) for match in find_matches(session, "pregnant", segments)]
    assert listed == [(True, "Expects a child in June."), (False, "I am pregnant, the child comes in June.")]
    forget(session, "pregnant")
    ((_, _, segment),) = select_summaries(session, session.turns, 8)
    assert segment.text == "Talked about boats."


def test_forgetting_can_be_taken_back() -> None:
    session = secretive()
    forget(session, "locker")
    forget(session, "boats")
    session.apply({"type": "forget", "text": "locker", "undone": True})
    assert [entry.text for entry in session.forgotten] == ["boats"]
    assert "XK-4821" in sent(planned(session, SPECS[0]))


def test_a_turn_that_lost_text_and_the_whole_turn_are_counted_apart() -> None:
    session = Session("s")
    for number in range(30):
        say(
            session,
            f"q{number}",
            f"Question {number} about boats.",
            "Lisbon is secret." if number == 4 else "First part.",
        )
        more = {"type": "message", "id": f"q{number}more", "parent": session.head, "role": "assistant"}
        session.apply(more | {"content": f"Second part of reply {number}. " * 6})
    forget(session, "Lisbon secret")
    counter = Counter(None, estimate_tokens)
    for spec in ("summary:1200", "buffer", "token-trim:2000", "summary:1200"):
        context = plan(session, "hi?", strategy_from_mapping(parse_spec(spec)), counter, Limits(100_000), now=NOW)
        total = counter.request_overhead + sum(
            Counter(None, estimate_tokens).count_message(m["content"]) for m in context.messages
        )
        assert context.tokens == total


def test_a_chunk_of_which_everything_was_forgotten_is_summarised_without_the_model() -> None:
    session, calls = make_session(1), []
    session.apply({"type": "head", "message": None})
    say(session, "only", SECRET, "The locker code, noted.")
    forget(session, "locker code")
    for number in range(4):
        say(session, f"later{number}", "boats " * 20)

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        calls.append(messages)
        return "Talked about boats.", "complete"

    job = SummaryJob.for_session(session, 1, 900, SummaryModel("m", 8192, ask), Counter(None, estimate_tokens))
    job.run()
    assert not calls and not job.error and [segment.text for segment in job.segments] == ["(left out)"]


def test_a_line_that_shares_one_word_with_the_forgotten_passage_it_stems_from_is_hidden() -> None:
    session = make_session(1)
    say(session, "news", "I am pregnant, it is due in June.")
    for number in range(6):
        say(session, f"later{number}", f"Something about boats, number {number}.")
    record = {"type": "summary", "id": "s", "from": "q1", "to": "later3r", "level": 0}
    session.apply(record | {"text": "Expects a child in June.\nLikes tea.", "sources": [["news"], ["news"]]})
    forget(session, "pregnant")
    ((_, _, segment),) = select_summaries(session, session.turns, 8)
    assert segment.text == "Likes tea."


def test_a_question_whose_reply_was_forgotten_is_still_summarised() -> None:
    session, shown = make_session(1), []
    say(session, "news", "I keep a boat in the harbour.", "Its name is Pickle.")
    forget(session, "Pickle")

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        shown.append(messages[-1]["content"])
        return "Keeps a boat.", "complete"

    SummaryJob.for_session(session, 2, 900, SummaryModel("m", 8192, ask), Counter(None, estimate_tokens)).run()
    assert len(shown) == 1 and "I keep a boat" in shown[0] and "Pickle" not in shown[0]
