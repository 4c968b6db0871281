"""Servers that are not part of this project: llama.cpp, aimock and LiteLLM. Skipped where they are not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.config.settings import TimeoutSettings
from chatmem.errors import AuthenticationError, ContextLengthError, IncompleteReplyError, RateLimitError, ServerError
from chatmem.memory.strategies.buffer import BufferStrategy
from chatmem.models.discovery import context_window_of
from chatmem.models.openai.client import OpenAIModel
from chatmem.stores.memory import MemoryStore
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.fakes import wait_until

DIRECTORIES = [os.environ.get("CHATMEM_TEST_NPM", ""), str(Path(__file__).parents[2] / ".venv" / "npm")]
AIMOCK = next(
    (
        p
        for directory in DIRECTORIES
        if directory and (p := Path(directory, "node_modules/@copilotkit/aimock/dist/cli.js")).exists()
    ),
    None,
)
TINY = """
import sys, numpy as np, gguf
out, ctx, rng = sys.argv[1], int(sys.argv[2]), np.random.default_rng(0)
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
scores, types = [0.0] * len(tokens), [2, 3, 3] + [6] * 256
for i, word in enumerate("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-:;()"):
    tokens.append(word); scores.append(-float(i + 1)); types.append(1)
while len(tokens) % 32:
    tokens.append(f"<pad{len(tokens)}>"); scores.append(-1e4); types.append(5)
V, D, H, FF, L = len(tokens), 64, 4, 128, 2
w = gguf.GGUFWriter(out, "llama")
w.add_name("tiny"); w.add_context_length(ctx); w.add_embedding_length(D); w.add_block_count(L); w.add_feed_forward_length(FF)
w.add_head_count(H); w.add_head_count_kv(H); w.add_layer_norm_rms_eps(1e-5); w.add_rope_dimension_count(D // H); w.add_vocab_size(V)
w.add_file_type(gguf.LlamaFileType.ALL_F32); w.add_tokenizer_model("llama"); w.add_token_list(tokens); w.add_token_scores(scores)
w.add_token_types(types); w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0); w.add_add_bos_token(True)
w.add_chat_template("{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\\n{% endfor %}[assistant] ")
r = lambda *s: (rng.standard_normal(s) * 0.05).astype(np.float32)
w.add_tensor("token_embd.weight", r(V, D)); w.add_tensor("output_norm.weight", np.ones(D, np.float32)); w.add_tensor("output.weight", r(V, D))
for i in range(L):
    p = f"blk.{i}."
    for n, s in [("attn_q", (D, D)), ("attn_k", (D, D)), ("attn_v", (D, D)), ("attn_output", (D, D)), ("ffn_gate", (FF, D)), ("ffn_up", (FF, D)), ("ffn_down", (D, FF))]:
        w.add_tensor(p + n + ".weight", r(*s))
    w.add_tensor(p + "attn_norm.weight", np.ones(D, np.float32)); w.add_tensor(p + "ffn_norm.weight", np.ones(D, np.float32))
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
"""
SERVE = """
import sys, signal, xllamacpp as x
p = x.CommonParams(); p.model.path = sys.argv[1]; p.n_ctx = int(sys.argv[2]); p.n_parallel = 1; p.cpuparams.n_threads = 2; p.warmup = False
p.hostnames = ["127.0.0.1"]; p.port = 0; p.n_predict = 24; p.api_keys = ["sk-llama"]
s = x.Server(p); print(s.listening_address, flush=True); signal.pause()
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's server with a tiny random model and a window of 512 tokens."""
    if not importlib.util.find_spec("xllamacpp") or not importlib.util.find_spec("gguf"):
        pytest.skip("xllamacpp and gguf are not installed: pip install '.[servers]'")
    directory = tmp_path_factory.mktemp("llama")
    model = directory / "tiny.gguf"
    subprocess.run([sys.executable, "-c", TINY, str(model), "2048"], check=True)
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(model), "512"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout
        yield server.stdout.readline().strip() + "/v1"
        server.kill()


def ask(model: OpenAIModel, text: str, **options: Any) -> tuple[str, list[Any]]:
    pieces = list(model.stream([{"role": "user", "content": text}], options))
    return "".join(p.text for p in pieces), pieces


def test_llama_streams_a_reply_with_its_usage(llama: str) -> None:
    text, pieces = ask(OpenAIModel("tiny", llama, lambda: "sk-llama"), "hello", max_tokens=8)
    usage = next(p.usage for p in pieces if p.usage)
    assert text and usage.prompt and usage.completion and pieces and any(p.status for p in pieces)


def test_llama_refuses_a_wrong_key(llama: str) -> None:
    with pytest.raises(AuthenticationError):
        ask(OpenAIModel("tiny", llama, lambda: "sk-wrong"), "hello")


def test_llama_reports_its_window(llama: str) -> None:
    (listed,) = OpenAIModel("tiny", llama, lambda: "sk-llama").list_models()
    assert context_window_of(listed) == 512


def test_a_context_overflow_of_llama_is_recognised(llama: str) -> None:
    with pytest.raises(ContextLengthError) as caught:
        ask(OpenAIModel("tiny", llama, lambda: "sk-llama"), "word " * 600)
    assert caught.value.limit == 512


def test_a_conversation_too_long_for_llama_is_trimmed_and_sent_again(llama: str) -> None:
    model = OpenAIModel("tiny", llama, lambda: "sk-llama", window=100_000)
    learned: list[int] = []

    def resolve(settings: Any) -> TurnConfig:
        counter = Counter(None, estimate_tokens)
        return TurnConfig(
            model,
            BufferStrategy(),
            lambda m: counter,
            {"max_tokens": 16},
            record_model_fact=lambda **f: learned.extend(f.values()),
        )

    chat = Chat(MemoryStore(), "x", resolve)
    notices = []
    for n in range(9):
        for piece in chat.send(f"question {n} " + "abcdefgh " * 12):
            notices += [piece.notice.text] if piece.notice else []
    assert any("takes 512 tokens" in n for n in notices) and 512 in learned and len(chat.session.turns) == 9
    assert all(t.reply for t in chat.session.turns)


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of aimock with a few scripted answers, without /v1."""
    if AIMOCK is None or not shutil.which("node"):
        pytest.skip("aimock is not installed: npm install --prefix .venv/npm @copilotkit/aimock")
    directory = tmp_path_factory.mktemp("aimock")
    fixtures = [
        {
            "match": {"userMessage": "too long"},
            "response": {
                "error": {
                    "message": "This model's maximum context length is 8192 tokens.",
                    "type": "invalid_request_error",
                    "code": "context_length_exceeded",
                },
                "status": 400,
            },
        },
        {
            "match": {"userMessage": "snip"},
            "response": {"content": "one two three four five six seven"},
            "latency": 5,
            "truncateAfterChunks": 4,
        },
        {
            "match": {"userMessage": "drop"},
            "response": {"content": "one two three four five six seven"},
            "latency": 30,
            "disconnectAfterMs": 80,
        },
        {"match": {"userMessage": "lengthy"}, "response": {"content": "partial answ", "finishReason": "length"}},
        {"match": {"userMessage": "think"}, "response": {"reasoning": "let me think", "content": "done"}},
        {"match": {"userMessage": "emoji"}, "response": {"content": "Hi **there**! 日本語 émoji 🎉 done."}},
        {"match": {"userMessage": "hello"}, "response": {"content": "Hello!"}},
    ]
    (directory / "a.json").write_text(json.dumps({"fixtures": fixtures}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["node", str(AIMOCK), "-p", str(port), "-f", str(directory), "--chunk-size", "5", "--latency", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/__aimock/journal"))
        yield f"http://127.0.0.1:{port}"
        server.kill()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True


def mock(address: str, **more: Any) -> OpenAIModel:
    return OpenAIModel(
        "gpt-4o-mini", f"{address}/v1", lambda: "sk-mock", timeouts=TimeoutSettings(5.0, 5.0, 5.0), **more
    )


def journal(address: str) -> Any:
    with urllib.request.urlopen(f"{address}/__aimock/journal?limit=500") as response:
        return json.load(response)


def test_split_surrogates_are_joined(aimock: str) -> None:
    assert ask(mock(aimock), "emoji")[0] == "Hi **there**! 日本語 émoji 🎉 done."


def test_reasoning_of_aimock_is_separate_from_text(aimock: str) -> None:
    text, pieces = ask(mock(aimock), "think")
    assert text == "done" and "".join(p.reasoning for p in pieces) == "let me think"


def test_a_length_limit_is_reported(aimock: str) -> None:
    assert [p.status for p in ask(mock(aimock), "lengthy")[1] if p.status] == ["length"]


@pytest.mark.parametrize("word", ["snip", "drop"])
def test_a_reply_that_is_cut_is_never_complete(aimock: str, word: str) -> None:
    pieces = []
    try:
        for piece in mock(aimock).stream([{"role": "user", "content": word}], {}):
            pieces.append(piece)
    except IncompleteReplyError:
        pass
    assert not any(p.status == "complete" for p in pieces) and "one" in "".join(p.text for p in pieces)


def test_a_context_overflow_of_aimock_is_recognised(aimock: str) -> None:
    with pytest.raises(ContextLengthError) as caught:
        ask(mock(aimock), "too long")
    assert caught.value.limit == 8192


def test_an_unknown_message_is_a_server_error(aimock: str) -> None:
    with pytest.raises(ServerError):
        ask(mock(aimock), "nothing matches this")


def test_rate_limits_are_retried_and_then_reported(aimock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("chatmem.models.openai.client.time.sleep", waits.append)
    chaos = urllib.request.Request(
        f"{aimock}/__aimock/chaos", json.dumps({"rateLimitRate": 1}).encode(), {"content-type": "application/json"}
    )
    urllib.request.urlopen(chaos).close()
    try:
        with pytest.raises(RateLimitError):
            ask(mock(aimock), "hello")
    finally:
        urllib.request.urlopen(urllib.request.Request(f"{aimock}/__aimock/chaos", method="DELETE")).close()
    assert waits == [1.0, 1.0]


def test_the_azure_api_is_supported(aimock: str) -> None:
    azure = OpenAIModel("my-deployment", aimock, lambda: "sk-azure", azure_version="2024-10-21")
    assert ask(azure, "hello")[0] == "Hello!"
    assert "/openai/deployments/my-deployment/chat/completions" in json.dumps(journal(aimock))


def test_aimock_received_the_messages_of_the_plan(aimock: str) -> None:
    model = mock(aimock)
    chat = Chat(
        MemoryStore(),
        "x",
        lambda s: TurnConfig(model, BufferStrategy(), lambda m: Counter(None, estimate_tokens), system="Be brief."),
    )
    list(chat.send("hello"))
    expected = list(chat.plan("hello again").messages)
    list(chat.send("hello again"))
    assert json.dumps(expected) in json.dumps(journal(aimock)) or expected == _last(journal(aimock))


def _last(entries: Any) -> Any:
    entries = entries if isinstance(entries, list) else entries.get("entries") or entries.get("requests")
    newest = max(entries, key=lambda e: e.get("timestamp", 0)) if entries else {}
    body = newest.get("body") or newest.get("request", {}).get("body")
    body = json.loads(body) if isinstance(body, str) else body
    return [{"role": m["role"], "content": m["content"]} for m in body["messages"]]


LITELLM = os.environ.get("CHATMEM_TEST_LITELLM", "")
MOCKS = {
    "mock-small": "Hello **bold** `code`",
    "mock-ratelimit": "litellm.RateLimitError",
    "mock-ctx": "litellm.ContextWindowExceededError",
    "mock-500": "litellm.InternalServerError",
}


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of LiteLLM's proxy, which needs an environment of its own: CHATMEM_TEST_LITELLM names its command."""
    if not LITELLM:
        pytest.skip("CHATMEM_TEST_LITELLM is not set to the litellm command of an environment with litellm[proxy]")
    directory = tmp_path_factory.mktemp("litellm")
    models = [
        {"model_name": n, "litellm_params": {"model": f"openai/{n}", "api_key": "sk-none", "mock_response": r}}
        for n, r in MOCKS.items()
    ]
    config = {
        "model_list": models,
        "general_settings": {"master_key": "sk-master"},
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"disable_cooldowns": True},
    }
    (directory / "config.yaml").write_text(json.dumps(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [LITELLM, "--config", str(directory / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as server:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health/liveliness"), 120)
        yield f"http://127.0.0.1:{port}/v1"
        server.kill()


@pytest.mark.long
def test_replies_and_errors_of_litellm_are_understood(litellm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatmem.models.openai.client.time.sleep", lambda seconds: None)

    def model(name: str, key: str = "sk-master") -> OpenAIModel:
        return OpenAIModel(name, litellm, lambda: key, timeouts=TimeoutSettings(5.0, 30.0, 30.0))

    text, pieces = ask(model("mock-small"), "hello")
    assert (
        text == "Hello **bold** `code`" and any(p.usage for p in pieces) and any(p.status == "complete" for p in pieces)
    )
    assert sorted(str(m["id"]) for m in model("mock-small").list_models()) == sorted(MOCKS)
    with pytest.raises(RateLimitError):
        ask(model("mock-ratelimit"), "hello")
    with pytest.raises(ContextLengthError):
        ask(model("mock-ctx"), "hello")
    with pytest.raises(ServerError):
        ask(model("mock-500"), "hello")
    with pytest.raises((AuthenticationError, ServerError)):
        ask(model("mock-small", "sk-wrong"), "hello")
