"""The model client: one stream of chunks from whatever a server sends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chatmem.config.settings import TimeoutSettings
from chatmem.errors import (
    AuthenticationError,
    ChatmemError,
    ContextLengthError,
    IncompleteReplyError,
    RateLimitError,
    ServerError,
    UsageError,
)
from chatmem.history.records import Usage
from chatmem.models.base import StreamChunk
from chatmem.models.openai import error_mapping, response_parser
from chatmem.models.openai.client import OpenAIModel
from chatmem.models.openai.response_parser import ReplyState, parse_stream
from chatmem.models.openai.sse import Event, parse_events
from tests.server import OK, Request, Server, delta, event, status, stream

pytestmark = pytest.mark.claim("faulty streams and servers: wrong outcomes")

QUESTION = [{"role": "user", "content": "hi"}]


@pytest.fixture
def local_server() -> Iterator[Server]:
    with Server() as server:
        yield server


def model(server: Server, **more: Any) -> OpenAIModel:
    more.setdefault("timeouts", TimeoutSettings(connect=2.0, first_token=5.0, idle=5.0))
    return OpenAIModel("test-model", server.url, **more)


@pytest.fixture(autouse=True)
def retry_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts. They are recorded instead of slept."""
    waits: list[float] = []
    monkeypatch.setattr("chatmem.models.openai.client.time.sleep", waits.append)
    return waits


def ask(one: OpenAIModel, **options: Any) -> tuple[str, list[StreamChunk]]:
    pieces = list(one.stream(QUESTION, options))
    return "".join(p.text for p in pieces), pieces


def finish(pieces: list[StreamChunk]) -> str | None:
    return next((p.status for p in reversed(pieces) if p.status), None)


HELLO = delta("Hel") + delta("lo") + delta(finish="stop")
END = b"data: [DONE]\n\n"
COMPLETE = {
    "plain": HELLO + END,
    "crlf": (HELLO + END).replace(b"\n", b"\r\n"),
    "cr": (HELLO + END).replace(b"\n", b"\r"),
    "byte order mark": b"\xef\xbb\xbf" + HELLO + END,
    "comments": b": ping\n\n" + delta("Hel") + b": still here\n\n" + delta("lo", "stop") + END,
    "ping event": b"event: ping\ndata: {}\n\n" + delta("Hel") + b"event: ping\n\n" + delta("lo", "stop") + END,
    "ping with text": b"event: ping\ndata: pong\n\n" + HELLO + END,
    "id and retry": b"id: 1\nretry: 3000\n\n" + delta("Hel") + b"id: 2\n" + delta("lo", "stop") + END,
    "empty data": b"data:\n\ndata: \n\n" + HELLO + END,
    "no space": HELLO.replace(b"data: ", b"data:") + b"data:[DONE]\n\n",
    "no done": HELLO,
    "no finish reason": delta("Hel") + delta("lo") + END,
    "data after done": HELLO + END + delta("never"),
    "no blank line at the end": HELLO[:-1],
    "no newline at the end": HELLO[:-2],
    "several lines of data": b'data: {"choices":[{"delta":\ndata: {"content":"Hello"},\ndata: "finish_reason":"stop"}]}\n\n'
    + END,
    "null, number and list": b"data: null\n\ndata: 1\n\ndata: []\n\n" + HELLO + END,
    "choices empty": event({"choices": []}) + HELLO + END,
    "choices null": event({"choices": None}) + HELLO + END,
    "choices missing": event({"object": "x"}) + HELLO + END,
    "choice null": event({"choices": [None]}) + HELLO + END,
    "delta null": event({"choices": [{"delta": None}]}) + HELLO + END,
    "content null": event({"choices": [{"delta": {"role": "assistant", "content": None}}]}) + HELLO + END,
    "content a number": event({"choices": [{"delta": {"content": 7}}]}) + HELLO + END,
    "content a list": event(
        {"choices": [{"delta": {"content": [{"type": "text", "text": "Hel"}, "lo"]}, "finish_reason": "stop"}]}
    )
    + END,
    "usage null": event({"choices": [], "usage": None}) + HELLO + END,
    "unknown finish reason": delta("Hello", "eos") + END,
    "message instead of delta": event({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}) + END,
    "name of an event": b"event: message\n" + delta("Hello", "stop") + END,
    "unknown fields": b"colour: red\nevent\n" + delta("Hello", "stop") + END,
}


@pytest.mark.parametrize("name", COMPLETE)
def test_a_reply_is_complete_with(local_server: Server, name: str) -> None:
    local_server.answers = [OK + COMPLETE[name]]
    text, pieces = ask(model(local_server))
    assert (text, finish(pieces), len(local_server.requests)) == ("Hello", "complete", 1)


SKIPPED = {
    "malformed json": delta("Hel") + b"data: {oops\n\n" + delta("lo", "stop") + END,
    "json too deep": delta("Hel") + b"data: " + b"[" * 100_000 + b"\n\n" + delta("lo", "stop") + END,
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_malformed_event_is_skipped_with_a_notice(local_server: Server, name: str) -> None:
    local_server.answers = [OK + SKIPPED[name]]
    text, pieces = ask(model(local_server))
    assert text == "Hello" and any("malformed events" in p.notice.text for p in pieces if p.notice)


def test_bad_utf8_becomes_a_replacement_character(local_server: Server) -> None:
    local_server.answers = [OK + delta("Hel?lo", "stop").replace(b"?", b"\xff") + END]
    assert ask(model(local_server))[0] == "Hel\ufffdlo"


def test_reasoning_is_separate_from_text(local_server: Server) -> None:
    local_server.answers = [OK + delta(None, reasoning_content="hm ") + delta(None, reasoning="so") + HELLO + END]
    text, pieces = ask(model(local_server))
    assert text == "Hello" and "".join(p.reasoning for p in pieces) == "hm so"


@pytest.mark.parametrize("place", ["own chunk", "with choices", "first"])
def test_usage_is_found_in_any_chunk(local_server: Server, place: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    bodies = {
        "own chunk": HELLO + event({"choices": [], "usage": usage}),
        "with choices": HELLO + event({"choices": [{"delta": {}}], "usage": usage}),
        "first": event({"choices": [], "usage": usage}) + HELLO,
    }
    local_server.answers = [OK + bodies[place] + END]
    assert [p.usage for p in ask(model(local_server))[1] if p.usage] == [Usage(9, 2, 4)]


@pytest.mark.parametrize(
    ("reason", "said"), [("length", "length"), ("content_filter", "filtered"), ("max_tokens", "length")]
)
def test_a_reply_that_hit_a_limit_is_not_complete(local_server: Server, reason: str, said: str) -> None:
    local_server.answers = [stream("Hello", finish=reason)]
    assert finish(ask(model(local_server))[1]) == said


CUT = {
    "end of file in mid-reply": OK + delta("Hel"),
    "end of file in mid-event": OK + delta("Hel") + delta("lo")[:-9],
}


@pytest.mark.parametrize("name", CUT)
def test_text_without_a_finish_is_not_complete(local_server: Server, name: str) -> None:
    local_server.answers = [CUT[name]]
    text, pieces = ask(model(local_server))
    assert text == "Hel" and finish(pieces) is None


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN = {
    "chunked encoding cut": CHUNKED + b"%x\r\n" % len(delta("Hel")) + delta("Hel") + b"\r\n20\r\nda",
    "content length short": OK.replace(b"Connection: close", b"Content-Length: 9999") + delta("Hel"),
    "error object": OK + delta("Hel") + event({"error": {"message": "out of memory", "code": 500}}),
    "error string": OK + delta("Hel") + event({"error": "out of memory"}),
    "flat error event": OK + delta("Hel") + b'event: error\ndata: {"message": "out of memory"}\n\n',
    "error event of text": OK + delta("Hel") + b"event: error\ndata: out of memory\n\n",
    "error field": OK + delta("Hel") + b'error: {"message": "out of memory", "code": 500}\n\n',
    "finish reason error": OK + delta("Hel") + delta(finish="error"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_reply_that_breaks_off_is_an_error_and_not_requested_again(local_server: Server, name: str) -> None:
    local_server.answers = [BROKEN[name]]
    texts = []
    with pytest.raises(IncompleteReplyError) as caught:
        for piece in model(local_server).stream(QUESTION, {}):
            texts.append(piece.text)
    assert "".join(texts) == "Hel" and len(local_server.requests) == 1
    assert "memory" in caught.value.message or "error" not in name or "finish" in name


def test_a_connection_reset_during_a_reply_is_an_incomplete_reply(local_server: Server) -> None:
    def reset(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK + delta("Hel"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gate.wait(5)

    gate = threading.Event()
    local_server.answers = [reset]
    with pytest.raises(IncompleteReplyError):
        for piece in model(local_server).stream(QUESTION, {}):
            assert piece.text == "Hel"
            gate.set()


COMPLETION = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


def test_json_instead_of_a_stream_is_used(local_server: Server) -> None:
    local_server.answers = [status(200, COMPLETION)]
    text, pieces = ask(model(local_server))
    assert (text, finish(pieces)) == ("Hello", "complete")


def test_json_that_claims_to_be_a_stream_is_used(local_server: Server) -> None:
    local_server.answers = [OK + json.dumps(COMPLETION).encode()]
    assert ask(model(local_server))[0] == "Hello"


NOT_A_REPLY = {
    "empty body": (OK, "empty reply"),
    "only done": (OK + END, "empty reply"),
    "finish without text": (stream(), "empty reply"),
    "only reasoning": (OK + delta(None, reasoning="hm") + delta(finish="stop") + END, "It only sent reasoning"),
    "web page": (status(200, b"<html><title>Log in</title></html>", kind="text/html"), "web page titled “Log in”"),
    "web page as a stream": (OK + b"<!doctype html><html></html>", "web page"),
    "json error": (status(200, {"error": {"message": "no slots"}}), "no slots"),
    "json error string": (status(200, {"error": "no slots"}), "no slots"),
    "error first in stream": (OK + event({"error": {"message": "no slots"}}), "no slots"),
    "plain text": (status(200, b"hello", kind="text/plain"), "empty reply"),
    "other json": (status(200, {"hello": 1}), "error"),
    "anthropic stream": (
        OK + b"event: message_start\n" + event({"type": "message_start", "message": {"id": "msg_1", "content": []}}),
        "Anthropic's own API",
    ),
    "anthropic json": (
        status(200, {"type": "message", "role": "assistant", "content": [{"text": "hi"}], "stop_reason": "end_turn"}),
        "Anthropic's own API",
    ),
    "ollama lines": (
        status(
            200,
            b'{"model":"m","created_at":"t","message":{"content":"a"},"done":false}\n' * 2,
            kind="application/x-ndjson",
        ),
        "Ollama's own API",
    ),
    "ollama json": (
        status(200, {"model": "m", "created_at": "t", "response": "a", "done": True}),
        "Ollama's own API",
    ),
    "responses stream": (
        OK + b"event: response.created\n" + event({"type": "response.created", "response": {"id": "resp_1"}}),
        "OpenAI's Responses API",
    ),
    "responses json": (status(200, {"object": "response", "output": []}), "OpenAI's Responses API"),
}


@pytest.mark.parametrize("name", NOT_A_REPLY)
def test_anything_but_a_reply_is_named_in_the_error(local_server: Server, name: str) -> None:
    body, message = NOT_A_REPLY[name]
    local_server.answers = [body]
    with pytest.raises(ServerError) as caught:
        ask(model(local_server))
    assert message in caught.value.message


REFUSED: dict[str, tuple[bytes, type[ChatmemError], str, int]] = {
    "400": (status(400, {"error": {"message": "bad temperature"}}), ServerError, "bad temperature", 1),
    "400 detail": (status(400, {"detail": "Server is pinned"}), ServerError, "Server is pinned", 1),
    "401": (status(401, {"error": {"message": "Incorrect key"}}), AuthenticationError, "Incorrect key", 1),
    "403": (status(403, {"error": "no"}), AuthenticationError, "403", 1),
    "404 model": (status(404, {"error": {"message": "The model `x` does not exist"}}), ServerError, "has no model", 1),
    "404 path": (status(404, b"not found", kind="text/plain"), ServerError, "has no such path", 1),
    "408": (status(408, {}), ServerError, "408", 3),
    "409": (status(409, {}), ServerError, "409", 3),
    "413": (status(413, {}), ServerError, "too large", 1),
    "422": (status(422, {"error": "Unexpected fields"}), ServerError, "Unexpected fields", 1),
    "429": (status(429, {"error": {"message": "slow down"}}), RateLimitError, "limiting requests", 3),
    "429 quota": (status(429, {"error": {"code": "insufficient_quota"}}), RateLimitError, "quota", 1),
    "429 for long": (status(429, {}, "Retry-After: 300"), RateLimitError, "Retry after 300 s", 1),
    "402": (status(402, {}), RateLimitError, "quota", 1),
    "500": (status(500, {"error": {"message": "oops"}}), ServerError, "oops", 3),
    "502 web page": (
        status(502, b"<html><title>Bad gateway</title>", kind="text/html"),
        ServerError,
        "Bad gateway",
        3,
    ),
    "503 loading": (status(503, {"error": {"message": "Loading model"}}), ServerError, "still loading", 3),
    "529": (status(529, {"error": {"message": "overloaded"}}), ServerError, "overloaded", 3),
    "301": (status(301, b"", "Location: http://127.0.0.1:1/"), ServerError, "redirects", 1),
    "307": (status(307, b"", "Location: http://127.0.0.1:1/"), ServerError, "redirects", 1),
    "tls": (b"\x15\x03\x01\0\2\2\x46", ServerError, "does not speak HTTP but TLS", 1),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", ServerError, "does not speak HTTP but SSH", 1),
    "http/2": (b"\0\0\x12\4\0\0\0\0\0" + bytes(18), ServerError, "does not speak HTTP but HTTP/2", 1),
    "not http": (b"hello", ServerError, "", 3),
    "closed before an answer": (b"", ServerError, "", 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_status_is_one_line_of_the_right_type_after_the_right_number_of_attempts(
    local_server: Server, name: str
) -> None:
    body, kind, message, attempts = REFUSED[name]
    local_server.answers = [body] * attempts
    with pytest.raises(kind) as caught:
        ask(model(local_server))
    assert message in caught.value.message and "\n" not in caught.value.message
    assert len([r for r in local_server.requests if r.method == "POST"]) == attempts and caught.value.hint


def test_retries_are_visible_and_obey_retry_after(local_server: Server, retry_waits: list[float]) -> None:
    local_server.answers = [status(429, {}, "Retry-After: 7"), status(503, {}), stream("fine")]
    text, pieces = ask(model(local_server))
    notices = [p.notice.text for p in pieces if p.notice]
    assert text == "fine" and retry_waits == [7.0, 2.0] and "Retrying in 7 s" in notices[0] and len(notices) == 2


def test_an_unknown_model_is_reported_with_similar_names(local_server: Server) -> None:
    local_server.answers = [status(404, {"error": {"message": "model not found"}})]
    local_server.models = [{"id": "test-modal"}, {"id": "other"}]
    with pytest.raises(ServerError) as caught:
        ask(model(local_server))
    assert "'test-modal'" in caught.value.hint


def test_stream_options_are_dropped_for_good_when_refused(local_server: Server) -> None:
    local_server.answers = [
        status(400, {"error": {"message": "unknown field stream_options"}}),
        stream("a"),
        stream("b"),
    ]
    one = model(local_server)
    assert ask(one)[0] + ask(one)[0] == "ab"
    assert ["stream_options" in c for c in local_server.chats] == [True, False, False]


def test_options_are_sent_as_they_are(local_server: Server) -> None:
    ask(model(local_server), temperature=0.3, top_k=4, seed=None)
    assert (
        local_server.chats[0]["temperature"] == 0.3
        and local_server.chats[0]["top_k"] == 4
        and "seed" not in local_server.chats[0]
    )


@pytest.mark.parametrize("phase", ["before headers", "before text", "in the middle", "endless comments"])
def test_silence_ends_a_request(local_server: Server, phase: str) -> None:
    over = threading.Event()

    def stall(request: Request, connection: socket.socket) -> None:
        if phase != "before headers":
            connection.sendall(OK)
        if phase in ("in the middle", "endless comments"):
            connection.sendall(delta("Hel"))
        while not over.wait(0.05):
            if phase == "endless comments":
                connection.sendall(b": ping\n\n")

    local_server.otherwise = lambda request: stall
    one = model(local_server, timeouts=TimeoutSettings(connect=1.0, first_token=0.3, idle=0.3))
    kind = IncompleteReplyError if phase in ("in the middle", "endless comments") else ServerError
    with pytest.raises(kind):
        ask(one)
    over.set()


def test_a_refused_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ServerError) as caught:
        ask(OpenAIModel("m", f"http://127.0.0.1:{port}/v1"))
    assert "refused" in caught.value.message and str(port) in caught.value.message


def test_a_server_that_sends_its_banner_and_waits_is_named_at_once(local_server: Server) -> None:
    asked = threading.Event()

    def banner(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        asked.wait(30)

    local_server.answers = [banner]
    with pytest.raises(ServerError, match="SSH"):
        ask(model(local_server))
    asked.set()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_file_also_counts_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="Cannot read the certificates"):
        ask(OpenAIModel("m", "https://127.0.0.1:1/v1"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Server(tls=context) as server:
        one = OpenAIModel("m", server.url.replace("http://127.0.0.1", "https://localhost"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert ask(one)[0].startswith("1 messages")


def test_a_host_name_that_does_not_resolve_is_reported() -> None:
    with pytest.raises(ServerError, match="Cannot resolve the host name"):
        ask(OpenAIModel("m", "http://nowlocal_server.invalid/v1"))


def test_tls_to_a_plain_port_is_reported(local_server: Server) -> None:
    local_server.otherwise = lambda request: b"HTTP/1.1 400 Bad\r\n\r\n"
    with pytest.raises(ServerError) as caught:
        ask(
            OpenAIModel(
                "m", local_server.url.replace("http", "https"), timeouts=TimeoutSettings(connect=1.0, first_token=5.0)
            )
        )
    assert "secure" in caught.value.message or "in time" in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "localhost:11434/v1",
        "http://[::1/v1",
        "ftp://x/",
        "",
        "http://",
        "http://a b/",
        "http://u:pw@host/v1",
        "http://h:99999/",
    ],
)
def test_an_invalid_base_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        OpenAIModel("m", url)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("key", ["", " ", "sk-\nx", "sk-é", "sk a"])
def test_an_invalid_key_is_neither_shown_nor_sent(local_server: Server, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(model(local_server, get_key=lambda: key))
    assert not local_server.requests and (not key.strip() or key not in caught.value.message)


def test_environment_variables_of_the_openai_library_are_ignored(
    local_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "surprise")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Surprise: surprise")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    ask(model(local_server))
    assert "surprise" not in str(local_server.requests[0].headers) and os.environ["OPENAI_ORG_ID"] == "surprise"


def test_a_redirect_is_not_followed_with_the_messages(local_server: Server) -> None:
    with Server() as other:
        local_server.answers = [status(307, b"", f"Location: {other.url}/chat/completions")]
        with pytest.raises(ServerError, match="redirects"):
            ask(model(local_server))
        assert other.requests == []


def test_an_endless_event_and_an_endless_reply_are_stopped(
    local_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless_event(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK + delta("Hel") + b"data: ")
        while True:
            connection.sendall(b"x" * 65536)

    def endless_reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK)
        while True:
            connection.sendall(delta("x" * 65536))

    monkeypatch.setattr(response_parser, "MAX_REPLY_CHARS", 1 << 20)
    local_server.answers = [endless_event, endless_reply]
    for _ in range(2):
        with pytest.raises(IncompleteReplyError):
            ask(model(local_server))


OVERFLOWS: list[tuple[int | None, Any, int | None]] = [
    (
        400,
        {
            "error": {
                "code": "context_length_exceeded",
                "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            }
        },
        8192,
    ),
    (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4,096 tokens. However, you requested 5000",
            "code": 400,
        },
        4096,
    ),
    (
        400,
        {
            "error": {
                "type": "exceed_context_size_error",
                "message": "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
                "n_prompt_tokens": 9412,
                "n_ctx": 8192,
            }
        },
        8192,
    ),
    (
        400,
        {
            "error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 13055>= n_ctx: 4096)."
        },
        4096,
    ),
    (
        200,
        {
            "error": {
                "object": "error",
                "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
                "code": 400,
            }
        },
        4096,
    ),
    (400, {"error": {"message": "litellm.ContextWindowExceededError: litellm.BadRequestError", "code": "400"}}, None),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens",
            }
        },
        131072,
    ),
    (
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"},
        },
        200000,
    ),
    (500, {"error": "context size has been exceeded"}, None),
]


@pytest.mark.parametrize(("code", "body", "limit"), OVERFLOWS)
def test_context_overflow_is_recognised_and_its_limit_read(code: int, body: Any, limit: int | None) -> None:
    error = error_mapping.context_overflow(code, body)
    assert isinstance(error, ContextLengthError) and error.limit == limit


@pytest.mark.parametrize("body", [{"error": {"message": "bad temperature"}}, {"error": "model not found"}, "", None, 7])
def test_other_errors_are_not_a_context_overflow(body: Any) -> None:
    assert error_mapping.context_overflow(400, body) is None


def test_a_context_overflow_inside_a_stream_is_recognised(local_server: Server) -> None:
    local_server.answers = [OK + event(OVERFLOWS[4][1])]
    with pytest.raises(ContextLengthError):
        ask(model(local_server))


RECORDED = (
    b"".join(delta(t) for t in ("Hé", "llo ", "wörld 🎉", " done"))
    + delta(finish="stop")
    + event({"choices": [], "usage": {"prompt_tokens": 3}})
    + END
)


def read(chunks: list[bytes]) -> tuple[str, str | None]:
    reply = ReplyState("server", "m")
    return "".join(p.text for p in parse_stream(iter(chunks), reply)), reply.status


def test_a_stream_cut_at_any_byte_gives_a_prefix_and_is_complete_only_at_its_end() -> None:
    whole, _ = read([RECORDED])
    ended_at = RECORDED.index(b'"finish_reason": "stop"') + len(b'"finish_reason": "stop"}]}')
    for end in range(len(RECORDED) + 1):
        text, finished = read([RECORDED[:end]])
        assert whole.startswith(text)
        assert (finished == "complete") == (end >= ended_at), end


@given(st.lists(st.integers(1, 40), max_size=60))
def test_any_chunking_gives_the_same_text(cuts: list[int]) -> None:
    for body in (
        RECORDED,
        RECORDED.replace(b"\n", b"\r\n"),
        RECORDED.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + RECORDED,
    ):
        chunks, start = [], 0
        for cut in cuts:
            chunks.append(body[start : start + cut])
            start += cut
        assert read([*chunks, body[start:]]) == read([RECORDED])


def test_one_byte_at_a_time_gives_the_same_text() -> None:
    assert read([bytes([b]) for b in RECORDED]) == read([RECORDED])


def check_mutated(data: bytes) -> None:
    try:
        read([data])
    except ChatmemError:
        pass


@given(st.data())
@hypothesis_settings(max_examples=500)
def test_any_mutated_stream_gives_text_or_a_chatmem_error(data: st.DataObject) -> None:
    body = bytearray(RECORDED)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    check_mutated(bytes(body))


@given(st.binary(max_size=300))
def test_any_bytes_can_be_parsed_into_events(data: bytes) -> None:
    assert all(isinstance(e, Event) for e in parse_events([data]))


def test_one_event_of_more_than_4_mb_is_an_incomplete_reply() -> None:
    def chunks() -> Iterator[bytes]:
        yield delta("Hel")
        yield b"data: "
        for _ in range(80):
            yield b"x" * 65_536

    reply, texts = ReplyState("server", "m"), []
    with pytest.raises(IncompleteReplyError):
        for chunk in parse_stream(chunks(), reply):
            texts.append(chunk.text)
    assert "".join(texts) == "Hel"


def test_a_large_event_below_the_limit_is_read() -> None:
    text = "x" * 3_900_000
    assert read([delta(text), delta(finish="stop")]) == (text, "complete")


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("stop", "complete"), ("end_turn", "complete"), ("STOP", "complete"), ("eos_token", "complete"), ("tool_calls", "complete"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("max_output_tokens", "length"),
        ("content_filter", "filtered"), ("SAFETY", "filtered"), ("RECITATION", "filtered"), ("refusal", "filtered"), ("PROHIBITED_CONTENT", "filtered"),
    ],
)  # fmt: skip
def test_the_finish_reasons_of_all_vendors_lead_to_a_status(local_server: Server, reason: str, status: str) -> None:
    local_server.answers = [OK + delta("text") + event({"choices": [{"delta": {}, "finish_reason": reason}]})]
    statuses = [chunk.status for chunk in model(local_server).stream(QUESTION, {}) if chunk.status]
    assert statuses == [status]


def test_a_reply_of_white_space_is_an_empty_reply(local_server: Server) -> None:
    local_server.answers = [stream(" \n", "\t ")]
    with pytest.raises(ServerError, match="sent an empty reply"):
        ask(model(local_server))


@pytest.mark.parametrize(
    ("answers", "waits"),
    [
        ([status(429, {}, "Retry-After: 59")], []),
        ([status(429, {}, "Retry-After: 12"), status(429, {}, "Retry-After: 12")], [12.0]),
        ([status(503, {}, "Retry-After: 8"), status(503, {}, "Retry-After: 8"), stream("fine")], [8.0, 8.0]),
    ],
)
def test_at_most_20_seconds_are_waited_in_all(
    local_server: Server, answers: list[Any], waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("chatmem.models.openai.client.time.sleep", waited.append)
    local_server.answers = list(answers)
    try:
        ask(model(local_server))
    except RateLimitError as error:
        assert len(answers) == len(waits) + 1 and "Retry after" in error.message
    assert waited == waits and sum(waited) <= 20


def peak_while(function: Callable[[], object]) -> int:
    """The most bytes of Python objects that existed at a time while a function ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["gzip bomb", "endless", "large"])
def test_the_body_of_an_error_is_read_up_to_a_limit(local_server: Server, kind: str) -> None:
    head = b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\nConnection: close\r\n"
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b'{"error": {"message": "' + b"x" * 100
    packed = bomb.compress(packed) + b"".join(bomb.compress(b"x" * (1 << 20)) for _ in range(300)) + bomb.flush()
    sent = []

    def answer(request: Request, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if kind == "gzip bomb":
                connection.sendall(head + b"Content-Encoding: gzip\r\n\r\n" + packed)
                return
            connection.sendall(head + b'\r\n{"error": {"message": "')
            for _ in range(1 << 20 if kind == "endless" else 300):
                connection.sendall(b"x" * (1 << 20))
                sent.append(1)

    local_server.answers = [answer]
    client = model(local_server)
    client.preload()

    def attempt() -> None:
        with pytest.raises(ServerError, match="rejected the request"):
            ask(client)

    assert peak_while(attempt) < 20 << 20
    assert len(sent) < 30


def test_compressed_replies_are_read_although_uncompressed_ones_are_asked_for(local_server: Server) -> None:
    head, body = stream("a compressed reply").split(b"\r\n\r\n", 1)
    packed = zlib.compressobj(wbits=31)
    local_server.answers = [head + b"\r\nContent-Encoding: gzip\r\n\r\n" + packed.compress(body) + packed.flush()]
    assert ask(model(local_server))[0] == "a compressed reply"
    assert local_server.requests[0].headers["accept-encoding"] == "identity"


def test_a_model_list_is_limited(local_server: Server) -> None:
    local_server.models = [{"id": "x" * (1 << 20)} for _ in range(40)]
    with pytest.raises(ServerError, match="larger than 16 MB"):
        model(local_server).list_models()


def test_headers_do_not_extend_the_time_for_the_first_token(local_server: Server) -> None:
    over = threading.Event()

    def answer(request: Request, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.05):
                connection.sendall(b"X-More: yes\r\n")

    local_server.answers = [answer]
    try:
        with pytest.raises(ServerError, match="sent nothing for"):
            ask(model(local_server, timeouts=TimeoutSettings(first_token=0.5)))
    finally:
        over.set()


@pytest.mark.parametrize(
    "extra",
    [
        {"type": "response.completed"}, {"object": "response"}, {"type": "message_delta"},
        {"done": True, "created_at": 1, "message": "ok"}, {"type": "message", "content": [], "stop_reason": None},
    ],
)  # fmt: skip
def test_a_chat_completion_with_fields_of_another_api_is_a_chat_completion(
    local_server: Server, extra: dict[str, Any]
) -> None:
    whole = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    local_server.answers = [status(200, whole | extra)]
    assert ask(model(local_server))[0] == "hi"
    local_server.answers = [OK + event({"choices": [], **extra}) + delta("hi") + delta(finish="stop") + END]
    assert ask(model(local_server))[0] == "hi"
