"""The offline model: answers only from the messages it was sent, and says so."""

from __future__ import annotations

import pytest

from chatmem.memory.summaries import SUMMARY_CLOSE, SUMMARY_OPEN
from chatmem.models.offline import OfflineModel, answer, extract_summary
from tests.memory import test_planner


def as_messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("told", "asked", "found"),
    [
        ("My name is Nemo", "What is my name?", "Nemo"),
        ("My name is Nemo.", "what's my name", "Nemo"),
        ("We met in Lisbon in 2019. It rained.", "Where did we meet?", "not in"),
        ("The code for my router is XK-4821.", "What is the router code?", "XK-4821"),
        ("I live in Oslo and I work at a bakery.", "Where do I live?", "Oslo"),
        ("我的名字是尼莫。", "我的名字是什么？", "尼莫"),
    ],
)
def test_it_answers_from_earlier_statements(told: str, asked: str, found: str) -> None:
    assert found in answer(as_messages(told, "Noted.", asked))


def test_it_says_how_many_messages_it_was_sent_when_it_does_not_know() -> None:
    assert "the 3 messages I was sent" in answer(as_messages("I like tea.", "Noted.", "What is my sister called?"))
    assert "the one message" in answer(as_messages("What is my name?"))


def test_the_newest_statement_wins() -> None:
    assert "Zoe" in answer(as_messages("My name is Nemo.", "Noted.", "My name is Zoe.", "Noted.", "What is my name?"))


def test_it_answers_from_a_summary() -> None:
    system = {"role": "system", "content": f"{SUMMARY_OPEN}\n- user: My name is Nemo.\n{SUMMARY_CLOSE}"}
    assert "Nemo" in answer([system, *as_messages("hi", "hello", "What is my name?")])


def test_it_extracts_when_asked_to_summarise() -> None:
    summary = extract_summary(
        "user: My code is XK-4821.\nassistant: Noted.\nuser: How are you?\nuser: The meeting is on 2026-03-04."
    )
    assert "XK-4821" in summary and "2026-03-04" in summary and "How are you" not in summary


def test_it_streams_chunks_and_respects_max_tokens() -> None:
    pieces = list(OfflineModel().stream(as_messages("My name is Nemo."), {"max_tokens": 2}))
    assert pieces[-1].status == "length" and len([p for p in pieces if p.text]) == 2 and pieces[-1].usage


@pytest.mark.parametrize("text", ["", "?", " ", "\ud800", "what " * 5000, "日本語", "a" * 100_000])
def test_it_answers_any_message(text: str) -> None:
    assert answer(as_messages(text))


def test_retrieved_lines_are_not_part_of_the_question() -> None:
    session = test_planner.make_session(1)
    for record in (
        {"id": "q", "parent": session.head, "role": "user", "content": "The locker code is XK-4821.", "time": ""},
        {"id": "a", "parent": "q", "role": "assistant", "content": "Noted.", "time": ""},
    ):
        session.apply({"type": "message", **record})
    test_planner.replay(session, "window:1", 4)
    question = "Which locker code was it?"
    messages = test_planner.plan_with(session, "window:1,recall_tokens=300", question=question).messages
    assert messages[-1]["content"] != question and "XK-4821" in answer(messages)
    unrelated = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"].replace(question, "Hello!")}]
    assert "XK-4821" not in answer(unrelated)
