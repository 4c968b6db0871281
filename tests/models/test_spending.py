"""The limit of costs per day, and what counts towards it."""

from __future__ import annotations

import datetime
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import chatmem
from chatmem.errors import SpendingLimitError
from chatmem.models.spending import MeteredModel, Spending
from tests.conftest import Run
from tests.fakes import Notices, wait_until
from tests.server import Server, stream

PRICES = {"test-model": {"prompt": 1000.0, "completion": 2000.0}}
"""A dollar per 1,000 prompt tokens, two per 1,000 tokens of replies."""


def open_with(limit: float | None, **settings: Any) -> chatmem.Library:
    limits = None if limit is None else {"per_day": limit}
    return chatmem.open(prices=PRICES, options={"max_tokens": 100}, limits=limits, **settings)


def reply(prompt: int = 50, completion: int = 100) -> bytes:
    return stream("fine", usage={"prompt_tokens": prompt, "completion_tokens": completion})


def test_a_request_that_may_exceed_the_limit_is_not_sent_and_can_be_repeated(server: Server) -> None:
    server.otherwise = lambda request: reply()  # each costs $0.25
    with open_with(0.6) as library:
        chat = library.session("plan")
        assert chat.ask("one").cost == pytest.approx(0.25)
        chat.ask("two")
        with pytest.raises(SpendingLimitError, match=r"limit of \$0.60 per day: \$0.5000 were spent today.*about ~\$0"):
            chat.ask("three")
        assert len(server.chats) == 2 and chat.messages[-1].content == "three"
    with open_with(5.0) as library:
        assert library.session("plan").retry().text == "fine"


def test_the_first_request_of_a_day_is_refused_if_it_alone_exceeds_the_limit(server: Server) -> None:
    with open_with(0.1) as library, pytest.raises(SpendingLimitError):
        library.session("plan").ask("word " * 200)
    assert server.chats == []


def test_all_sessions_of_a_user_count_and_those_of_others_do_not(server: Server) -> None:
    server.otherwise = lambda request: reply()
    for user, name in (("ann", "a"), ("ann", "b"), ("bob", "c")):
        with open_with(0.6, user=user) as library:
            library.session(name).ask("hello")
    with open_with(0.6, user="ann") as library, pytest.raises(SpendingLimitError):
        library.session("d").ask("hello")


def test_without_a_limit_costs_are_counted_and_nothing_is_stopped(server: Server, home: Path) -> None:
    server.otherwise = lambda request: reply()
    with open_with(None) as library:
        for number in range(3):
            library.session("plan").ask(f"question {number}")
        assert library._app.spending.today() == pytest.approx(0.75)
    (file,) = (home / "data" / "state" / "spending").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_summaries_and_titles_count(server: Server) -> None:
    server.otherwise = lambda request: reply()
    with open_with(None, titles="on") as library:
        chat = library.session("plan")
        chat.ask("hello")
        wait_until(lambda: not chat._chat._new_title.running)
        assert library._app.spending.today() == pytest.approx(0.5) and len(server.chats) == 2


def test_a_reply_that_was_cut_counts_with_its_estimated_prompt(server: Server) -> None:
    server.answers = [stream("half", finish=None, done=False)]
    with open_with(9.0) as library:
        with pytest.raises(chatmem.ChatmemError):
            library.session("plan").ask("word " * 100)
        assert 0.05 < library._app.spending.today() < 0.3


def test_a_model_without_a_price_is_named_once_and_not_stopped(server: Server) -> None:
    notices = Notices()
    with chatmem.open(limits={"per_day": 0.01}, notify=notices) as library:
        chat = library.session("plan")
        seen = [chunk.notice.text for _ in range(2) for chunk in chat.stream("hello") if chunk.notice]
    assert [text for text in seen if "No price is known for test-model" in text] == seen[:1] and len(server.chats) == 2


def test_the_limit_of_the_config_counts_in_every_command_with_exit_code_5(home: Path, run: Run, server: Server) -> None:
    (home / "config.toml").write_text(
        'titles = "off"\n[limits]\nper_day = 0.3\n[prices.test-model]\nprompt = 1000\ncompletion = 2000\n'
        "[options]\nmax_tokens = 100\n"
    )
    server.otherwise = lambda request: reply()
    assert run("ask", "hello").returncode == 0
    refused = run("ask", "--json", "hello")
    assert refused.returncode == 5 and "limit of $0.30 per day" in json.loads(refused.stdout)["error"]["message"]
    assert len(server.chats) == 1


def test_damaged_lines_and_other_days_do_not_count(tmp_path: Path) -> None:
    spending = Spending(tmp_path / "s", "ann")
    spending.add(1.5)
    path = spending._path
    with path.open("ab") as file:
        file.write(b"\xff\nx\n-7\nnan\n\n0.5\n")
    assert spending.today() == pytest.approx(2.0)
    today = datetime.date.today()
    for days in (1, 3):
        (path.parent / f"{today - datetime.timedelta(days=days)}.{path.suffix[1:]}").write_text("100\n")
    spending.add(0.25)
    assert spending.today() == pytest.approx(2.25) and len(list(path.parent.iterdir())) == 2


def test_what_cannot_be_written_still_counts_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file where a directory should be")
    spending = Spending(tmp_path / "s", "ann")
    spending.add(1.0)
    assert spending.today() == pytest.approx(1.0)


@pytest.mark.skipif(os.name != "posix", reason="needs atomic appends")
def test_costs_that_many_processes_add_at_once_all_count(tmp_path: Path) -> None:
    def add() -> None:
        for _ in range(50):
            Spending(tmp_path / "s", "ann").add(0.001)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Spending(tmp_path / "s", "ann").today() == pytest.approx(0.4)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_counting_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        Spending(tmp_path / "s", "ann").add(0.001)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_metered_model_is_the_model_in_all_else(server: Server) -> None:
    with open_with(None, model="offline") as library:
        model = library.session("plan")._chat.turn_config.model
        metered = model.for_background()
        assert isinstance(metered, MeteredModel) and isinstance(metered.for_background(), MeteredModel)
        assert (metered.name, metered.server, metered.window) == ("offline", "", 8192) and metered.list_models() == []
