"""The offline model: honest about what it is, and about what it was sent."""

from __future__ import annotations

import pytest

from chatmem.models.offline import OfflineModel, answer, extract


def talk(*texts: str) -> list[dict[str, str]]:
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
def test_it_answers_from_what_it_was_told(told: str, asked: str, found: str) -> None:
    assert found in answer(talk(told, "Noted.", asked))


def test_it_says_how_many_messages_it_was_sent_when_it_does_not_know() -> None:
    assert "the 3 messages I was sent" in answer(talk("I like tea.", "Noted.", "What is my sister called?"))
    assert "the one message" in answer(talk("What is my name?"))


def test_the_newest_statement_wins() -> None:
    assert "Zoe" in answer(talk("My name is Nemo.", "Noted.", "My name is Zoe.", "Noted.", "What is my name?"))


def test_it_finds_what_recall_and_notes_quote() -> None:
    system = {"role": "system", "content": "[Notes]\n- user: My name is Nemo.\n[End]"}
    assert "Nemo" in answer([system, *talk("hi", "hello", "What is my name?")])


def test_it_extracts_when_asked_to_summarise() -> None:
    notes = extract(
        "user: My code is XK-4821.\nassistant: Noted.\nuser: How are you?\nuser: The meeting is on 2026-03-04."
    )
    assert "XK-4821" in notes and "2026-03-04" in notes and "How are you" not in notes


def test_it_is_a_model_like_any_other() -> None:
    pieces = list(OfflineModel().stream(talk("My name is Nemo."), {"max_tokens": 2}))
    assert pieces[-1].finish == "length" and len([p for p in pieces if p.text]) == 2 and pieces[-1].usage


@pytest.mark.parametrize("text", ["", "?", " ", "\ud800", "what " * 5000, "日本語", "a" * 100_000])
def test_no_message_is_too_strange(text: str) -> None:
    assert answer(talk(text))
