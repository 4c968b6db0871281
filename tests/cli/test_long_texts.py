"""Everyday material that is longer than usual, through the command line: the newest turn is always sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.server import Request, Server, stream


def words(name: str, count: int) -> str:
    """A text of about `count` tokens."""
    return f"{name} " * count


@pytest.fixture
def ask(run: Run, server: Server, home: Path) -> Any:
    """Asks questions in one session. Returns what the model was sent for the last one."""

    def ask(*questions: str, reply: str = "Understood.", window: int | None = None, memory: str = "") -> list[Any]:
        settings = f"context_window = {window}\n" if window else ""
        (home / "config.toml").write_text("discover = false\n" + settings)

        server.otherwise = lambda request: stream(reply)
        for question in questions:
            done = run("ask", "-s", "work", input=question, CHATMEM_MEMORY=memory or "summary")
            assert done.returncode == 0, done.stderr
        contexts = [chat["messages"] for chat in server.chats]  # of summaries too
        sent: list[Any] = next(c for c in reversed(contexts) if c[-1]["content"].endswith(questions[-1]))
        return sent

    return ask


@pytest.mark.parametrize("tokens", [13_500, *(pytest.param(n, marks=pytest.mark.long) for n in (29_649, 70_000))])
def test_a_long_paste_on_a_large_model_is_sent_with_ten_short_turns_after_it(ask: Any, tokens: int) -> None:
    ask(paste := words("paste", tokens), window=128_000)
    for number in range(10):
        sent = ask(f"and shorter, number {number}?", window=128_000)
        assert sent[-1]["content"].endswith(f"and shorter, number {number}?")
        if number < 8:  # it is one of the last eight turns
            assert sent[1]["content"].strip() == paste.strip() and len(sent) == 2 * number + 4
        else:
            assert "and shorter, number 0?" in str(sent) and sent[-2]["content"] == "Understood."


def test_a_long_paste_on_a_window_of_8192_is_shortened_in_the_turns_after_it(ask: Any, run: Run) -> None:
    assert len(ask(words("first", 13_500))) == 1
    sent = ask("question 0?")
    assert sent[-3]["content"].startswith("first first") and "tokens left out …]" in sent[-3]["content"]
    for number in (1, 2):
        sent = ask(f"question {number}?")
        assert f"question {number - 1}?" in sent[-3]["content"] and sent[-1]["content"] == f"question {number}?"
    assert "of 6,144 tokens" in run("context", "work").stdout


@pytest.mark.parametrize("memory", ["summary", "token-trim", "window:6", "buffer"])
def test_a_long_reply_on_an_unknown_window_is_shortened_in_the_next_turn(ask: Any, memory: str) -> None:
    ask("Write a lot.", reply=words("reply", 12_000), memory=memory)
    sent = ask("And now?", memory=memory)
    assert [m["role"] for m in sent[-3:]] == ["user", "assistant", "user"]
    assert sent[-3]["content"] == "Write a lot." and "tokens left out …]" in sent[-2]["content"]


def test_notices_appear_when_something_begins_and_not_on_every_turn(ask: Any, run: Run) -> None:
    ask("Write a lot.", reply=words("reply", 12_000), memory="summary:2000")
    first, second = (run("ask", "-s", "work", f"Question {n}?") for n in range(2))
    assert "Turn 1 is too long to be sent whole" in first.stderr
    assert "too long to be sent whole" not in second.stderr or "Turn 2" in second.stderr


def test_a_question_over_an_assumed_window_is_sent_alone_with_one_notice(ask: Any, run: Run, server: Server) -> None:
    ask("hello")
    done = run("ask", "-s", "work", input=words("long", 20_000))
    assert done.returncode == 0 and "Set context_window" in done.stderr and len(server.chats[-1]["messages"]) == 1


def test_a_question_over_a_hard_budget_is_refused_and_names_the_setting(ask: Any, run: Run, server: Server) -> None:
    ask("hello")
    done = run("ask", "-s", "work", "--memory", "summary:4000", input=words("long", 20_000))
    assert done.returncode == 10 and "max_tokens of the memory strategy (summary:4000)" in done.stderr
    assert len(server.chats) == 1


def test_a_window_that_is_proven_larger_is_assumed_from_then_on(ask: Any, run: Run, server: Server) -> None:
    def counts(request: Request) -> bytes:
        return stream("ok", usage={"prompt_tokens": 12_010, "completion_tokens": 5})

    ask("hello")
    server.otherwise = counts
    assert run("ask", "-s", "work", input="word " * 12_000).returncode == 0
    assert "a window of 32,768 is assumed" in run("context", "work").stdout


def test_an_export_says_what_the_model_was_not_sent(ask: Any, run: Run) -> None:
    sent = ask(words("first", 13_500), "and shorter?")
    assert "tokens left out …]" in sent[-3]["content"]
    page = run("export", "work", "-f", "html").stdout
    (left_out,) = re.findall(r"turn 1 was sent without ([\d,]+) of its tokens", page)
    assert 7_000 < int(left_out.replace(",", "")) < 13_500
    assert f"[… {left_out} tokens left out …]" in sent[-3]["content"]
