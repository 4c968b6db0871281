"""Windows and prices of public models, from the installed genai-prices."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chatmem.app import OPENAI_MODEL
from chatmem.config.settings import Price
from chatmem.history.records import Usage
from chatmem.models import prices
from chatmem.models.model_facts import ModelFacts
from chatmem.models.prices import PublicModel, PublicModels, cost, look_up
from tests.conftest import Run
from tests.fakes import wait_until
from tests.server import Server, status, stream

OPENAI = "https://api.openai.com/v1"


def test_the_default_model_is_a_small_one_that_is_listed() -> None:
    default, large = (PublicModel.from_untrusted(look_up(OPENAI, "", name)) for name in (OPENAI_MODEL, "gpt-4o"))
    assert default.window and large.window and default.window > large.window
    usage = Usage(prompt=1000, completion=1000)
    default_cost, large_cost = default.cost(usage), large.cost(usage)
    assert default_cost and large_cost and default_cost < large_cost / 5


def test_a_model_is_found_by_the_address_of_its_server_or_by_its_provider() -> None:
    listed = look_up(OPENAI, "", "gpt-4o-mini")
    assert listed["window"] == 128_000 and listed["prices"][0][0] == 0
    assert look_up("http://127.0.0.1:4000/v1", "openai", "gpt-4o-mini") == listed
    for server, provider, name in (
        (OPENAI, "", "no such model"),
        ("https://example.org/v1", "", "gpt-4o-mini"),
        (OPENAI, "no such provider", "gpt-4o-mini"),
    ):
        assert look_up(server, provider, name) == {}


def test_a_long_prompt_has_the_price_of_its_tier() -> None:
    model = PublicModel.from_untrusted(look_up(OPENAI, "", "gpt-5.4"))
    (first, low), (start, high) = model.prices
    assert first == 0 and start > 100_000 and high.prompt > low.prompt
    for prompt, price in ((1000, low), (start, low), (start + 1, high)):
        assert model.cost(Usage(prompt, 100)) == cost(Usage(prompt, 100), price)


def test_the_price_of_today_counts() -> None:
    """The price of o3 was lowered in June 2025."""
    assert look_up(OPENAI, "", "o3")["prices"][0][1:3] == [2.0, 8.0]


def test_cached_tokens_have_their_own_price_and_unknown_costs_are_not_zero() -> None:
    price = Price(prompt=10.0, completion=20.0, cached=1.0)
    assert cost(Usage(1_000_000, 100_000, 400_000), price) == pytest.approx(6 + 0.4 + 2)
    assert cost(Usage(1_000_000, 0, 400_000), Price(10.0, 20.0)) == pytest.approx(10)
    assert PublicModel().cost(Usage(100, 100)) is None
    assert PublicModel(prices=((0, price),)).cost(Usage(None, 100)) is None


def test_a_model_is_looked_up_once_until_the_library_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "servers.json"
    first = PublicModels(ModelFacts(path))
    found = first.get(OPENAI, "", "gpt-4o-mini")
    thread = first._lookups[OPENAI, "", "gpt-4o-mini"]
    thread.join(60)
    assert first.get(OPENAI, "", "gpt-4o-mini").window == 128_000 and found.window in (128_000, None)
    assert list(first._lookups.values()) == [thread]
    entry = json.loads(path.read_text())[f"{OPENAI} gpt-4o-mini"]["public"]
    second = PublicModels(ModelFacts(path))
    assert second.get(OPENAI, "", "gpt-4o-mini").window == 128_000 and second._lookups == {}
    assert entry["prices"] == look_up(OPENAI, "", "gpt-4o-mini")["prices"]
    monkeypatch.setattr(prices, "_data_version", lambda: 1)
    third = PublicModels(ModelFacts(path))
    third.get(OPENAI, "", "gpt-4o-mini")
    assert len(third._lookups) == 1
    third._lookups[OPENAI, "", "gpt-4o-mini"].join(60)


def test_an_old_entry_is_used_while_it_is_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = ModelFacts(tmp_path / "servers.json")
    entry = {"window": 777, "prices": [], "at": 0, "of": ["", prices._data_version()]}
    facts.put(OPENAI, "gpt-4o-mini", public=entry)
    models = PublicModels(facts)
    monkeypatch.setattr(prices, "MAX_WAIT", 3600.0)  # not waited for
    assert models.get(OPENAI, "", "gpt-4o-mini").window == 777
    models._lookups[OPENAI, "", "gpt-4o-mini"].join(60)
    assert models.get(OPENAI, "", "gpt-4o-mini").window == 128_000


@pytest.mark.parametrize(
    "entry",
    [
        None, [], "x", {"window": "many", "prices": 3}, {"window": True, "prices": [[0, 1]]},
        {"window": 10**400, "prices": [[0, "1", 2, 3], [0, None, 2, 3], ["0", 1, 2, 3], [0, 10**400, 1, 1], {}]},
        {"window": -5, "prices": [[0, float("nan"), 1, 1], [0, 1, float("inf"), 1], [0, -1, 1, 1]]},
    ],
)  # fmt: skip
def test_a_damaged_entry_of_the_cache_is_an_unknown_model(entry: Any) -> None:
    assert PublicModel.from_untrusted(entry) == PublicModel()


def test_the_cost_of_a_reply_is_stored_with_it_and_a_configured_price_replaces_it(
    server: Server, run: Run, home: Path
) -> None:
    config = home / "config.toml"
    config.write_text('discover = false\nprovider = "openai"\nmodel = "gpt-4o-mini"\n')
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000, "prompt_tokens_details": {"cached_tokens": 0}}
    server.otherwise = lambda request: stream("Hello.", usage=usage)
    run("ask", "-s", "first", "hi", CHATMEM_MODEL="gpt-4o-mini")  # a slow lookup is not waited for
    cache = home / "data" / "cache" / "servers.json"
    wait_until(lambda: cache.exists() and '"public"' in cache.read_text())
    assert run("ask", "-s", "work", "hi", CHATMEM_MODEL="gpt-4o-mini").returncode == 0
    records = [json.loads(line) for line in (home / "data" / "sessions" / "work.jsonl").read_text().splitlines()]
    assert records[-1]["usage"]["cost"] == 0.75
    assert "$0.7500" in run("sessions", "stats", "work").stdout
    with config.open("a") as file:
        file.write('[prices."gpt-4o-mini"]\nprompt = 1.0\ncompletion = 2.0\n')
    assert "$3.0000" in run("sessions", "stats", "work").stdout


def test_a_model_without_a_price_has_no_cost(server: Server, run: Run, home: Path) -> None:
    server.otherwise = lambda request: stream("Hello.", usage={"prompt_tokens": 10, "completion_tokens": 10})
    run("ask", "-s", "work", "hi")
    records = (home / "data" / "sessions" / "work.jsonl").read_text().splitlines()
    assert "cost" not in json.loads(records[-1])["usage"] and "$" not in run("sessions", "stats").stdout


def test_a_default_model_that_is_not_offered_names_the_nearest_that_is(server: Server, run: Run) -> None:
    server.otherwise = lambda request: status(
        404, json.dumps({"error": {"message": f"The model {OPENAI_MODEL!r} does not exist."}}).encode()
    )
    server.models = [{"id": name} for name in ("text-embedding-4", "gpt-6.1-luna", "whisper-9")]
    failed = run("ask", "hi", CHATMEM_MODEL=OPENAI_MODEL)
    assert failed.returncode == 3 and "gpt-6.1-luna" in failed.stderr, failed.stderr


def test_a_lookup_that_hangs_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(prices.PublicModels, "_remember", lambda *_: released.wait(60))
    monkeypatch.setattr(prices, "MAX_WAIT", 0.2)
    models, started = PublicModels(ModelFacts(tmp_path / "servers.json")), time.monotonic()
    for name in ("a", "b", "a", "b") * 25:
        assert models.get(OPENAI, "", name) == PublicModel()
    assert time.monotonic() - started < 100 * 0.2 / 4, "not once per question"
    released.set()


def test_what_a_child_finds_after_its_parent_ended_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({f"{OPENAI} gpt-4o-mini": 5}))  # damaged
    question = json.dumps([str(path), OPENAI, "", "gpt-4o-mini"]).encode()
    subprocess.run(
        [sys.executable, "-P", "-m", "chatmem.models.prices"], input=question, check=True, capture_output=True
    )
    models = PublicModels(ModelFacts(path))
    assert models.get(OPENAI, "", "gpt-4o-mini").window == 128_000 and models._lookups == {}


@pytest.mark.parametrize("when", [10**400, -(10**400), float("nan"), "x", None])
def test_a_hostile_time_in_the_cache_is_ignored(server: Server, run: Run, home: Path, when: Any) -> None:
    facts = {"window": 9000, "window_at": when, "served_window": 9000, "served_at": when}
    cache = home / "data" / "cache"
    cache.mkdir(parents=True)
    (cache / "servers.json").write_text(json.dumps({f"{server.url} test-model": facts}))
    done = run("ask", "hi")
    assert done.returncode == 0 and "failed" not in done.stderr, done.stderr
