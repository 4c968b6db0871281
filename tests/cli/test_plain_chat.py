"""The plain forms of `chat` are recognised without Typer, and mean what Typer makes of them."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest

from chatmem.cli import chat
from chatmem.cli.main import plain_chat_options
from chatmem.cli.start_chat import start_chat
from chatmem.cli.typer_app import build_app
from tests.conftest import Run
from tests.server import Server

ACCEPTED = [
    ["chat"],
    ["chat", "-c"],
    ["chat", "--continue"],
    ["chat", "-s", "work"],
    ["chat", "--session", "über uns"],
    ["chat", "When do I fly?"],
    ["chat", "chat"],
    ["chat", "hello", "-s", "work"],
    ["chat", "-c", "hello"],
    ["chat", "-s", "work", "-c", "hello"],
    ["chat", "-t", "review"],
    ["chat", "--template", "review", "-s", "work", "hello"],
]
WORDS = [
    "chat",
    "ask",
    "-s",
    "--session",
    "-c",
    "--continue",
    "work",
    "",
    "-",
    "--",
    "-h",
    "--session=work",
    "-swork",
    "-t",
    "-p",
]


def as_typer_reads(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters that `start_chat` gets from Typer."""
    found: list[dict[str, Any]] = []

    def record(*values: Any) -> None:
        found.append(dict(zip(list(inspect.signature(start_chat).parameters)[1:], values[1:], strict=True)))

    monkeypatch.setattr(chat, "start_chat", record)
    build_app(arguments)(arguments, standalone_mode=False)
    return found[0]


@pytest.mark.parametrize("arguments", ACCEPTED, ids=" ".join)
def test_a_plain_form_means_what_typer_makes_of_it(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    options = plain_chat_options(arguments)
    assert options is not None
    defaults = {p.name: p.default for p in list(inspect.signature(start_chat).parameters.values())[1:]}
    assert as_typer_reads(arguments, monkeypatch) == defaults | options


def test_every_form_is_left_to_typer_or_means_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {p.name: p.default for p in list(inspect.signature(start_chat).parameters.values())[1:]}
    counts = [0, 0]
    for count in range(4):
        for words in map(list, itertools.product(WORDS, repeat=count)):
            options = plain_chat_options(words)
            counts[options is None] += 1
            if options is not None:
                assert as_typer_reads(words, monkeypatch) == defaults | options, words
    assert counts[0] > 20 and counts[1] > counts[0]


def test_a_shell_that_asks_for_completions_is_answered_by_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CHATMEM_COMPLETE", "complete_bash")
    assert plain_chat_options(["chat"]) is None


def test_a_system_prompt_with_an_invalid_byte_is_sent_without_it(run: Run, server: Server) -> None:
    for _ in range(2):
        assert run("ask", "-s", "one", "--system", "bad \udcff", "hello").returncode == 0
    assert server.chats[-1]["messages"][0]["content"].startswith("bad \ufffd")


def test_an_option_of_chat_without_a_command_is_a_chat(run: Run, server: Server) -> None:
    run("chat", "-s", "one", input="hello\n")
    assert "3 messages; last: again" in run("-c", input="again\n").stdout
    assert "5 messages; last: more" in run("-s", "one", input="more\n").stdout
