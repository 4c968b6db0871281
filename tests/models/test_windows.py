"""The context window of a model, as each kind of server states it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatmem.models.openai.client import OpenAIModel
from chatmem.models.windows import served_window
from tests.conftest import Run
from tests.fakes import wait_until
from tests.server import Server, status

pytestmark = pytest.mark.claim("faulty streams and servers: wrong outcomes")

SERVERS: dict[str, tuple[dict[str, Any], dict[str, Any], int | None]] = {
    "llama.cpp": ({"owned_by": "llamacpp"}, {"/props": {"default_generation_settings": {"n_ctx": 4096}}}, 4096),
    "llama.cpp, listed": ({"owned_by": "llamacpp", "meta": {"n_ctx": 2048}}, {}, 2048),
    "ollama, loaded": ({"owned_by": "library"}, {"/api/ps": {"models": [{"name": "m:latest", "context_length": 8192}]}}, 8192),
    "ollama, not loaded": (
        {"owned_by": "library"},
        {
            "/api/ps": {"models": [{"name": "other", "context_length": 1}]},
            "/api/show": {"parameters": 'stop "x"\nnum_ctx                        16384', "model_info": {"x.context_length": 131072}},
        },
        16384,
    ),
    "ollama, only trained": ({"owned_by": "library"}, {"/api/show": {"model_info": {"x.context_length": 131072}}}, None),
    "lm studio": (
        {"owned_by": "organization_owner", "max_context_length": 99_999},
        {"/api/v0/models": {"data": [{"id": "m", "loaded_context_length": 12_000}]}},
        12_000,
    ),
    "litellm": (
        {"owned_by": "openai"}, {"/model/info": {"data": [{"model_name": "m", "model_info": {"max_input_tokens": 128_000}}]}}, 128_000,
    ),
    "vllm": ({"owned_by": "vllm", "max_model_len": 32_768}, {}, 32_768),
    "unknown": ({}, {"/props": {"n_ctx": 4096}}, None),
    "nonsense": ({"owned_by": "llamacpp"}, {"/props": {"default_generation_settings": {"n_ctx": "many"}, "n_ctx": True}}, None),
    "not an object": ({"owned_by": "library"}, {"/api/ps": ["x"], "/api/show": {"parameters": 7}}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("asked_for", ["m", "another name"])
def test_the_window_is_what_is_loaded_else_what_is_listed(server: Server, name: str, asked_for: str) -> None:
    entry, server.pages, window = SERVERS[name]
    server.models = [{"id": "m", **entry}]
    entries = OpenAIModel("m", server.url).list_models()
    assert served_window(server.url, asked_for, "key", entries) == window


def test_a_name_that_is_not_among_several_models_has_no_window(server: Server) -> None:
    entries = [{"id": "a", "max_model_len": 1000}, {"id": "b", "max_model_len": 2000}]
    assert served_window(server.url, "b", "", entries) == 2000 and served_window(server.url, "c", "", entries) is None


def test_a_question_does_not_wait_for_the_window_which_is_remembered(server: Server, run: Run, home: Path) -> None:
    server.models = [{"id": "test-model", "owned_by": "llamacpp"}]
    server.pages = {"/props": {"default_generation_settings": {"n_ctx": 4096}}}
    run("chat", "-s", "work", input="".join(f"line {n}\n" for n in range(20)))
    facts = json.loads((home / "data" / "cache" / "servers.json").read_text())
    assert facts[f"{server.url} test-model"]["served_window"] == 4096
    assert json.loads(run("context", "work", "--json").stdout)["budget"] == 3072


def test_the_documented_window_counts_for_a_proxy_nearby_only_with_its_provider(
    server: Server, run: Run, home: Path
) -> None:
    run("ask", "hi", "-s", "work", "-m", "gpt-4o-mini")
    assert "8,192 is assumed" in run("context", "work").stdout
    with (home / "config.toml").open("a") as config:
        config.write('provider = "openai"\n')
    run("context", "work")  # a slow lookup is not waited for
    cache = home / "data" / "cache" / "servers.json"
    wait_until(lambda: cache.exists() and '"public"' in cache.read_text())
    assert "of 65,536 tokens" in run("context", "work").stdout and "takes 123,904" in run("context", "work").stdout


def test_a_key_is_not_sent_to_where_a_server_redirects(server: Server) -> None:
    with Server() as other:
        other.pages = {"/stolen": {"n_ctx": 4096}}
        entries = [{"id": "m", "owned_by": "llamacpp"}]
        server.raw_pages = {"/props": status(302, b"", f"Location: http://127.0.0.1:{other.port}/stolen")}
        assert served_window(server.url, "m", "SECRET", entries) is None and other.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"hello there\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_not_http_is_no_window_and_no_traceback(server: Server, answer: bytes) -> None:
    server.raw_pages = {"/props": answer}
    assert served_window(server.url, "m", "", [{"id": "m", "owned_by": "llamacpp"}]) is None


def test_hostile_parameters_are_read_in_linear_time(server: Server) -> None:
    server.pages = {"/api/show": {"parameters": "x " + "\n \t" * 100_000 + "\nnum_ctx " + "9" * 5000}}
    assert served_window(server.url, "m", "", [{"id": "m", "owned_by": "library"}]) is None
