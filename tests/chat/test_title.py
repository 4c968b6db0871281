"""Titles that are made in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import chatmem
from chatmem.api import Library
from chatmem.chat.background_title import PROMPT, as_title
from tests.fakes import wait_until
from tests.server import Request, Server, echo, stream


@pytest.fixture
def library(server: Server) -> Iterator[Library]:
    with chatmem.open(titles="on") as library:
        yield library


def is_title_request(request: Request) -> bool:
    return bool(request.json["messages"][0]["content"] == PROMPT)


def answer_titles(server: Server, *titles: str | bytes) -> list[Request]:
    """Let the server answer requests for a title with these, others with an echo. Returns the requests for titles."""
    asked: list[Request] = []

    def answer(request: Request) -> bytes:
        if not is_title_request(request):
            return echo(request)
        title = titles[min(len(asked), len(titles) - 1)]
        asked.append(request)
        return title if isinstance(title, bytes) else stream(title)

    server.otherwise = answer
    return asked


def has_title(chat: Any) -> bool:
    return bool(chat._chat._new_title.has_result)


def test_the_first_reply_gives_a_session_a_title(library: Library, server: Server) -> None:
    asked = answer_titles(server, "**Trip to Lisbon**")
    chat = library.session("plan")
    chat.ask("When do I fly to Lisbon?")
    wait_until(lambda: has_title(chat))
    chat.close()
    assert library.sessions()[0].title == "Trip to Lisbon" and len(asked) == 1
    assert "When do I fly to Lisbon?" in asked[0].json["messages"][1]["content"]
    again = library.session("plan")
    again.ask("And back?")
    assert len(asked) == 1 and again.messages[0].content == "When do I fly to Lisbon?"


def test_a_title_of_the_user_is_kept_even_if_it_is_set_while_one_is_made(library: Library, server: Server) -> None:
    asked = answer_titles(server, "Another title")
    chat = library.session("plan")
    chat.ask("hello")
    wait_until(lambda: has_title(chat))
    other = library.session("plan")
    other._chat.update_settings(title="My own")
    chat.close()
    assert library.sessions()[0].title == "My own" and len(asked) == 1
    other.ask("more")
    assert len(asked) == 1


def test_a_request_for_a_title_that_fails_is_repeated_after_the_next_reply(library: Library, server: Server) -> None:
    failure = b"HTTP/1.1 400 X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    asked = answer_titles(server, failure, stream("cut", finish=None, done=False), "Third attempt")
    chat = library.session("plan")
    for number in range(3):
        chat.ask(f"question {number}")
        wait_until(lambda: not chat._chat._new_title.running)
    chat.close()
    assert library.sessions()[0].title == "Third attempt" and len(asked) == 3


def test_a_question_cancels_the_title_and_does_not_wait_for_it(library: Library, server: Server) -> None:
    asked, release = threading.Event(), threading.Event()

    def answer(request: Request, connection: Any) -> None:
        if is_title_request(request) and not asked.is_set():
            asked.set()
            release.wait(120)  # longer than this test waits: only a request that is cancelled is repeated
        else:
            connection.sendall(stream("Second") if is_title_request(request) else echo(request))

    server.otherwise = lambda request: lambda _, connection: answer(request, connection)  # type: ignore[assignment,return-value]
    chat = library.session("plan")
    chat.ask("first")
    asked.wait(20)
    assert "3 messages" in chat.ask("second").text
    try:
        wait_until(lambda: has_title(chat))
    finally:
        release.set()
    chat.close()
    assert library.sessions()[0].title == "Second"


def test_no_title_is_made_if_that_is_off_or_the_model_is_built_in(server: Server) -> None:
    for titles, model in (("off", None), ("on", "offline")):
        with chatmem.open(titles=titles, model=model) as library:
            library.session("plan").ask("hello")
    assert not any(is_title_request(r) for r in server.requests if r.path.endswith("/completions"))


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Trip to Lisbon", "Trip to Lisbon"),
        ("\n\n# **Title:** “Trip to Lisbon.”\nMore text", "Trip to Lisbon"),
        ("Title: Red boats", "Red boats"),
        ("タイトル", "タイトル"),
        ("", ""),
        ("***", ""),
        ("word " * 60, "word " * 11 + "word…"),
        ("What (really?) happened", "What (really?) happened"),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_a_title_is_one_short_line_of_an_answer(answer: str, title: str) -> None:
    assert as_title(answer) == title
