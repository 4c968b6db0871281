"""Token counts: exact where the encoding is installed, otherwise an estimate within documented bounds."""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import Message, Usage
from chatmem.history.session import Session
from chatmem.memory.budget import Limits
from chatmem.memory.window import server_truncated
from chatmem.tokens import counter as counter_module
from chatmem.tokens import encodings
from chatmem.tokens.calibration import Calibration, calibrate, looks_truncated, plateaued
from chatmem.tokens.counter import REQUEST_OVERHEAD, Counter, counter_for_model
from chatmem.tokens.encodings import ENCODINGS as TABLES_BY_ENCODING
from chatmem.tokens.encodings import encoding_for_model, find_encoding_file
from chatmem.tokens.estimate import estimate_tokens

TABLES = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or Path(__file__).parents[2] / "shared" / "tiktoken")
needs_tables = pytest.mark.skipif(
    not (TABLES / TABLES_BY_ENCODING["o200k_base"].file_name).exists(),
    reason="the encodings of tiktoken are not installed",
)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"), ("gpt-4o-mini", "o200k_base"), ("openai/gpt-4o-mini:free", "o200k_base"), ("gpt-4.1", "o200k_base"), ("gpt-5-mini", "o200k_base"),
        ("gpt-6-turbo", "o200k_base"), ("o3", "o200k_base"), ("o4-mini", "o200k_base"), ("codex-mini-latest", "o200k_base"), ("gpt-oss:20b", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"), ("ft:gpt-4o:org", "o200k_base"), ("gpt-4", "cl100k_base"), ("gpt-4-turbo", "cl100k_base"), ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"), ("ft:gpt-3.5-turbo:x", "cl100k_base"), ("llama3.2", None), ("claude-4", None), ("", None), ("offline", None), ("mistral:7b", None),
    ],
)  # fmt: skip
def test_the_encoding_follows_from_the_name_of_the_model(model: str, encoding: str | None) -> None:
    assert encoding_for_model(model) == encoding


COOKBOOK = [
    (
        "system",
        None,
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    ),
    ("system", "example_user", "New synergies will help drive top-line growth."),
    ("system", "example_assistant", "Things working well together will increase revenue."),
    (
        "system",
        "example_user",
        "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    ),
    ("system", "example_assistant", "Let's talk later when we're less busy about how to do better."),
    ("user", None, "This late pivot means we don't have time to boil the ocean for the client deliverable."),
]


@needs_tables
@pytest.mark.parametrize(("model", "expected"), [("gpt-4", 129), ("gpt-4o", 124)])
def test_the_cookbook_example_counts_as_openai_says(model: str, expected: int) -> None:
    one = counter_for_model(model, [TABLES])
    names = sum(1 + one.count_text(name) for _, name, _ in COOKBOOK if name)
    assert (
        one.method == "exact"
        and REQUEST_OVERHEAD + sum(one.count_message(text) for _, _, text in COOKBOOK) + names == expected
    )


@needs_tables
@pytest.mark.parametrize("text", ["<|endoftext|>", "\ud800", "", "a" * 200_000, "👩‍👩‍👧 é ‏x", "\r\n\0"])
def test_any_text_can_be_counted(text: str) -> None:
    assert counter_for_model("gpt-4o", [TABLES]).count_text(text) >= 0 and estimate_tokens(text) >= 0


def test_without_an_encoding_tokens_are_estimated_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(encodings, "_known_directories", lambda: [tmp_path])
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("network"))
    one = counter_for_model("gpt-4o")
    assert one.method == "estimated" and one.count_text("hello world") == 2


def test_a_damaged_encoding_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    damaged = tmp_path / TABLES_BY_ENCODING["o200k_base"].file_name
    damaged.write_bytes(b"not it")
    assert find_encoding_file("o200k_base", (tmp_path,)) != damaged and damaged.exists()


SAMPLES = {
    "English": "The harbour was quiet that morning, and the two fishermen who had waited since five o'clock did not mind. They spoke of the weather, of a cousin's new boat, and of what the market would pay for mackerel. Nobody mentioned the letter, although everybody in the village knew that it had come. ",
    "Chinese": "今天早上港口很安静，两个渔夫从五点开始就在等，但是他们并不着急。他们谈论天气、表弟的新船，以及市场上鲭鱼的价格。虽然村里每个人都知道那封信已经到了，但是没有人提起它。",
    "Japanese": "その朝、港は静かで、五時から待っていた二人の漁師は気にしていませんでした。彼らは天気や、いとこの新しい船、市場でのサバの値段について話しました。手紙が届いたことは村の誰もが知っていましたが、誰もそれに触れませんでした。",
    "Korean": "그날 아침 항구는 조용했고, 다섯 시부터 기다리던 두 어부는 개의치 않았습니다. 그들은 날씨와 사촌의 새 배, 그리고 시장에서 고등어 값이 얼마나 될지 이야기했습니다. 마을 사람 모두가 편지가 온 것을 알고 있었지만 아무도 말하지 않았습니다.",
}


@needs_tables
@pytest.mark.parametrize("name", SAMPLES)
def test_the_estimate_is_within_ten_percent(name: str) -> None:
    assert estimate_tokens(SAMPLES[name]) == pytest.approx(
        counter_for_model("gpt-4o", [TABLES]).count_text(SAMPLES[name]), rel=0.10
    )


@needs_tables
def test_the_estimate_of_python_is_within_ten_percent_and_of_json_within_twenty() -> None:
    exact = counter_for_model("gpt-4o", [TABLES])
    python = "".join(p.read_text() for p in sorted(Path(counter_module.__file__).parent.glob("*.py")))
    assert estimate_tokens(python) == pytest.approx(exact.count_text(python), rel=0.10)
    data = json.dumps(
        [
            {"id": n * 7919, "name": f"item {n}", "tags": ["red", "blue"], "price": n * 1.25, "active": n % 2 == 0}
            for n in range(200)
        ]
    )
    assert estimate_tokens(data) == pytest.approx(exact.count_text(data), rel=0.20)


def reply(number: int, counted: int, reported: int | None, model: str = "m") -> Message:
    return Message(
        f"a{number}", None, "assistant", "x", model=model, usage=Usage(reported), plan_digest={"counted": counted}
    )


def test_calibration_uses_the_newest_reports_of_the_same_model() -> None:
    path = [
        reply(1, 100, 300),
        reply(2, 100, 130),
        reply(3, 100, 120),
        reply(4, 100, 500, "other"),
        reply(5, 100, None),
    ]
    assert calibrate(reversed(path), "m") == Calibration(1.2)
    assert calibrate(reversed(path), "unknown") is None


@pytest.mark.parametrize("reported", [1, 10**9])
def test_the_ratio_that_a_server_reports_is_bounded(reported: int) -> None:
    found = calibrate([reply(1, 100, reported)], "m")
    assert found is None or 0.4 <= found.ratio <= 2.5


def test_a_calibrated_counter_shares_its_cache_and_reports_its_method() -> None:
    calls: list[str] = []

    def count(text: str) -> int:
        calls.append(text)
        return len(text)

    one = Counter(None, count)
    assert (
        one.method,
        one.count_message("abc"),
        one.with_calibration(2.0).count_message("abc"),
        one.with_calibration(2.0).method,
    ) == (
        "estimated",
        7,
        14,
        "calibrated",
    )
    assert calls == ["abc"]


def server_tokens(kind: str, text: str) -> int:
    """Stand-ins for servers with quite different tokenizers."""
    return {
        "wide": len(text) // 6 + 1,
        "narrow": len(text) // 2 + 1,
        "words": len(text.split()) * 2 + 3,
        "bytes": len(text.encode()) // 3,
    }[kind]


@pytest.mark.parametrize("kind", ["wide", "narrow", "words", "bytes"])
@pytest.mark.parametrize("overhead", [(3, 3), (7, 60)])
def test_the_next_prompt_is_predicted_within_five_percent_after_three_turns(
    kind: str, overhead: tuple[int, int], rng: random.Random
) -> None:
    errors = []
    for _ in range(60):  # enough for a stable percentile
        path: list[Message] = []
        one, sent = Counter(None, estimate_tokens), []
        for turn in range(30):
            sample = (
                SAMPLES[rng.choice(list(SAMPLES))] if rng.random() < 0.15 and kind != "words" else SAMPLES["English"]
            )
            sent.append(sample[: rng.randrange(20, len(sample))])
            scaled = one.with_calibration(*(calibrate(reversed(path), "m") or (1.0, 0)))
            counted = REQUEST_OVERHEAD + sum(one.count_message(t) for t in sent)
            predicted = scaled.request_overhead + sum(map(scaled.count_message, sent))
            reported = overhead[1] + sum(server_tokens(kind, t) + overhead[0] for t in sent)
            if turn >= 3:
                errors.append(abs(predicted - reported) / reported)
            path.append(reply(turn, counted, reported))
            sent.append(SAMPLES["English"][: rng.randrange(40, 280)])
    assert statistics.quantiles(errors, n=20)[18] <= 0.05, statistics.quantiles(errors, n=20)


def test_each_text_is_counted_once_over_many_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatmem.memory import strategies
    from chatmem.memory.planner import plan
    from tests.memory.test_planner import make_session

    calls: list[Any] = []

    def count(text: str) -> int:
        calls.append(text)
        return estimate_tokens(text)

    session, one = make_session(300), Counter(None, count)
    strategy = strategies.strategy_from_mapping({"strategy": "token-trim"})
    plan(session, "first?", strategy, one, Limits(4000))
    calls.clear()
    plan(session, "second?", strategy, one, Limits(4000))
    assert calls == ["second?"]


@pytest.mark.parametrize(("counted", "reported"), [(8, 1), (4000, 1), (4000, 30), (4000, 255), (1000, 500)])
def test_a_server_that_reports_few_tokens_is_not_said_to_truncate(counted: int, reported: int) -> None:
    assert not looks_truncated(counted, reported) and not plateaued((counted, min(reported, 255)), (10, 1))


@pytest.mark.parametrize(("counted", "reported"), [(700, 256), (9000, 2048)])
def test_a_server_that_reports_less_than_two_fifths_of_a_long_prompt_truncates(counted: int, reported: int) -> None:
    assert looks_truncated(counted, reported) and plateaued((counted, reported), (counted // 2, reported))


def test_a_short_prompt_does_not_show_that_we_count_too_much() -> None:
    assert calibrate([reply(1, 12, 9)], "m") is None
    assert calibrate([reply(1, 12, 15)], "m") == Calibration(1.25)
    assert calibrate([reply(1, 300, 240)], "m") == Calibration(0.8)


@pytest.mark.parametrize("counted", [10**400, float("nan"), "abc", [], -1])
def test_an_odd_count_in_a_file_is_ignored(counted: Any) -> None:
    odd = reply(2, 5, 100)
    odd = odd._replace(plan_digest={"counted": counted})
    assert calibrate([reply(1, 300, 300), odd], "m") == Calibration(1.0)
    session = Session("s")
    for message in (odd._replace(id="a", parent=None), reply(1, 300, 300)._replace(id="b", parent="a")):
        session.apply(message.record())
    assert server_truncated(session, 900, 300) in (True, False)
