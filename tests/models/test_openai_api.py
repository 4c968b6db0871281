"""The model door: one honest stream out of whatever a server sends."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chatmem.errors import (
    ChatmemError,
    ContextExceeded,
    KeyRefused,
    LimitReached,
    ReplyIncomplete,
    ServerFailed,
    WrongUse,
)
from chatmem.models import faults, openai_api, replies
from chatmem.models.base import Piece
from chatmem.models.openai_api import OpenAIModel, Timeouts
from chatmem.models.replies import Reply, streamed
from chatmem.models.sse import Event, events
from chatmem.records import Usage
from tests.server import OK, Request, Server, delta, event, status, stream

QUESTION = [{"role": "user", "content": "hi"}]


@pytest.fixture
def here() -> Iterator[Server]:
    with Server() as server:
        yield server


def model(server: Server, **more: Any) -> OpenAIModel:
    more.setdefault("timeouts", Timeouts(connect=2.0, first=5.0, silence=5.0))
    return OpenAIModel("test-model", server.url, **more)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between tries are noted, not slept."""
    waits: list[float] = []
    monkeypatch.setattr(openai_api.time, "sleep", waits.append)
    return waits


def ask(one: OpenAIModel, **options: Any) -> tuple[str, list[Piece]]:
    pieces = list(one.stream(QUESTION, options))
    return "".join(p.text for p in pieces), pieces


def finish(pieces: list[Piece]) -> str | None:
    return next((p.finish for p in reversed(pieces) if p.finish), None)


HELLO = delta("Hel") + delta("lo") + delta(finish="stop")
END = b"data: [DONE]\n\n"
GOOD = {
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
    "fields nobody knows": b"colour: red\nevent\n" + delta("Hello", "stop") + END,
}


@pytest.mark.parametrize("name", GOOD)
def test_a_reply_is_whole_and_complete_with(here: Server, name: str) -> None:
    here.answers = [OK + GOOD[name]]
    text, pieces = ask(model(here))
    assert (text, finish(pieces), len(here.requests)) == ("Hello", "complete", 1)


SKIPPED = {
    "malformed json": delta("Hel") + b"data: {oops\n\n" + delta("lo", "stop") + END,
    "json too deep": delta("Hel") + b"data: " + b"[" * 100_000 + b"\n\n" + delta("lo", "stop") + END,
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_broken_event_is_skipped_and_said(here: Server, name: str) -> None:
    here.answers = [OK + SKIPPED[name]]
    text, pieces = ask(model(here))
    assert text == "Hello" and any("1 broken events" in p.notice for p in pieces)


def test_bad_utf8_becomes_a_replacement_character(here: Server) -> None:
    here.answers = [OK + delta("Hel?lo", "stop").replace(b"?", b"\xff") + END]
    assert ask(model(here))[0] == "Hel\ufffdlo"


def test_reasoning_is_no_content(here: Server) -> None:
    here.answers = [OK + delta(None, reasoning_content="hm ") + delta(None, reasoning="so") + HELLO + END]
    text, pieces = ask(model(here))
    assert text == "Hello" and "".join(p.reasoning for p in pieces) == "hm so"


@pytest.mark.parametrize("place", ["own chunk", "with choices", "first"])
def test_usage_is_found_in_any_chunk(here: Server, place: str) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    bodies = {
        "own chunk": HELLO + event({"choices": [], "usage": usage}),
        "with choices": HELLO + event({"choices": [{"delta": {}}], "usage": usage}),
        "first": event({"choices": [], "usage": usage}) + HELLO,
    }
    here.answers = [OK + bodies[place] + END]
    assert [p.usage for p in ask(model(here))[1] if p.usage] == [Usage(9, 2, 4)]


@pytest.mark.parametrize(
    ("reason", "said"), [("length", "length"), ("content_filter", "filtered"), ("max_tokens", "length")]
)
def test_a_limit_is_no_complete_reply(here: Server, reason: str, said: str) -> None:
    here.answers = [stream("Hello", finish=reason)]
    assert finish(ask(model(here))[1]) == said


CUT = {
    "end of file in mid-reply": OK + delta("Hel"),
    "end of file in mid-event": OK + delta("Hel") + delta("lo")[:-9],
}


@pytest.mark.parametrize("name", CUT)
def test_text_without_a_finish_is_not_complete(here: Server, name: str) -> None:
    here.answers = [CUT[name]]
    text, pieces = ask(model(here))
    assert text == "Hel" and finish(pieces) is None


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN_OFF = {
    "chunked encoding cut": CHUNKED + b"%x\r\n" % len(delta("Hel")) + delta("Hel") + b"\r\n20\r\nda",
    "content length short": OK.replace(b"Connection: close", b"Content-Length: 9999") + delta("Hel"),
    "error object": OK + delta("Hel") + event({"error": {"message": "out of memory", "code": 500}}),
    "error string": OK + delta("Hel") + event({"error": "out of memory"}),
    "flat error event": OK + delta("Hel") + b'event: error\ndata: {"message": "out of memory"}\n\n',
    "error event of text": OK + delta("Hel") + b"event: error\ndata: out of memory\n\n",
    "error field": OK + delta("Hel") + b'error: {"message": "out of memory", "code": 500}\n\n',
    "finish reason error": OK + delta("Hel") + delta(finish="error"),
}


@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_reply_that_breaks_off_says_why_and_is_not_asked_for_again(here: Server, name: str) -> None:
    here.answers = [BROKEN_OFF[name]]
    texts = []
    with pytest.raises(ReplyIncomplete) as caught:
        for piece in model(here).stream(QUESTION, {}):
            texts.append(piece.text)
    assert "".join(texts) == "Hel" and len(here.requests) == 1
    assert "memory" in caught.value.message or "error" not in name or "finish" in name


def test_a_reset_in_mid_reply_is_broken_off(here: Server) -> None:
    def reset(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK + delta("Hel"))
        time.monotonic()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gate.wait(5)

    gate = threading.Event()
    here.answers = [reset]
    with pytest.raises(ReplyIncomplete):
        for piece in model(here).stream(QUESTION, {}):
            assert piece.text == "Hel"
            gate.set()


WHOLE = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


def test_json_instead_of_a_stream_is_used(here: Server) -> None:
    here.answers = [status(200, WHOLE)]
    text, pieces = ask(model(here))
    assert (text, finish(pieces)) == ("Hello", "complete")


def test_json_that_claims_to_be_a_stream_is_used(here: Server) -> None:
    here.answers = [OK + json.dumps(WHOLE).encode()]
    assert ask(model(here))[0] == "Hello"


NO_REPLY = {
    "empty body": (OK, "empty reply"),
    "only done": (OK + END, "empty reply"),
    "finish without text": (stream(), "empty reply"),
    "only thoughts": (OK + delta(None, reasoning="hm") + delta(finish="stop") + END, "It only thought"),
    "web page": (status(200, b"<html><title>Log in</title></html>", kind="text/html"), "web page titled “Log in”"),
    "web page as a stream": (OK + b"<!doctype html><html></html>", "web page"),
    "json error": (status(200, {"error": {"message": "no slots"}}), "no slots"),
    "json error string": (status(200, {"error": "no slots"}), "no slots"),
    "error first in stream": (OK + event({"error": {"message": "no slots"}}), "no slots"),
    "plain text": (status(200, b"hello", kind="text/plain"), "empty reply"),
    "other json": (status(200, {"hello": 1}), "error"),
}


@pytest.mark.parametrize("name", NO_REPLY)
def test_what_is_no_reply_is_named(here: Server, name: str) -> None:
    body, words = NO_REPLY[name]
    here.answers = [body]
    with pytest.raises(ServerFailed) as caught:
        ask(model(here))
    assert words in caught.value.message


REFUSED: dict[str, tuple[bytes, type[ChatmemError], str, int]] = {
    "400": (status(400, {"error": {"message": "bad temperature"}}), ServerFailed, "bad temperature", 1),
    "400 detail": (status(400, {"detail": "Server is pinned"}), ServerFailed, "Server is pinned", 1),
    "401": (status(401, {"error": {"message": "Incorrect key"}}), KeyRefused, "Incorrect key", 1),
    "403": (status(403, {"error": "no"}), KeyRefused, "403", 1),
    "404 model": (status(404, {"error": {"message": "The model `x` does not exist"}}), ServerFailed, "has no model", 1),
    "404 path": (status(404, b"not found", kind="text/plain"), ServerFailed, "no such address", 1),
    "408": (status(408, {}), ServerFailed, "408", 3),
    "409": (status(409, {}), ServerFailed, "409", 3),
    "413": (status(413, {}), ServerFailed, "too large", 1),
    "422": (status(422, {"error": "Unexpected fields"}), ServerFailed, "Unexpected fields", 1),
    "429": (status(429, {"error": {"message": "slow down"}}), LimitReached, "limiting requests", 3),
    "429 quota": (status(429, {"error": {"code": "insufficient_quota"}}), LimitReached, "quota", 1),
    "429 for long": (status(429, {}, "Retry-After: 300"), LimitReached, "wait 300 s", 1),
    "402": (status(402, {}), LimitReached, "quota", 1),
    "500": (status(500, {"error": {"message": "oops"}}), ServerFailed, "oops", 3),
    "502 web page": (
        status(502, b"<html><title>Bad gateway</title>", kind="text/html"),
        ServerFailed,
        "Bad gateway",
        3,
    ),
    "503 loading": (status(503, {"error": {"message": "Loading model"}}), ServerFailed, "still loading", 3),
    "529": (status(529, {"error": {"message": "overloaded"}}), ServerFailed, "overloaded", 3),
    "301": (status(301, b"", "Location: http://127.0.0.1:1/"), ServerFailed, "redirects", 1),
    "307": (status(307, b"", "Location: http://127.0.0.1:1/"), ServerFailed, "redirects", 1),
    "no http": (b"\x16\x03\x01 hello", ServerFailed, "", 3),
    "closed before an answer": (b"", ServerFailed, "", 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line_of_the_right_kind_after_the_right_number_of_tries(here: Server, name: str) -> None:
    body, kind, words, tries = REFUSED[name]
    here.answers = [body] * tries
    with pytest.raises(kind) as caught:
        ask(model(here))
    assert words in caught.value.message and "\n" not in caught.value.message
    assert len([r for r in here.requests if r.method == "POST"]) == tries and caught.value.hint


def test_retries_are_visible_and_obey_retry_after(here: Server, quick: list[float]) -> None:
    here.answers = [status(429, {}, "Retry-After: 7"), status(503, {}), stream("fine")]
    text, pieces = ask(model(here))
    notices = [p.notice for p in pieces if p.notice]
    assert text == "fine" and quick == [7.0, 2.0] and "again in 7 s" in notices[0] and len(notices) == 2


def test_a_model_that_is_not_there_gets_near_names(here: Server) -> None:
    here.answers = [status(404, {"error": {"message": "model not found"}})]
    here.models = [{"id": "test-modal"}, {"id": "other"}]
    with pytest.raises(ServerFailed) as caught:
        ask(model(here))
    assert "'test-modal'" in caught.value.hint


def test_stream_options_are_asked_for_and_dropped_for_good_when_refused(here: Server) -> None:
    here.answers = [status(400, {"error": {"message": "unknown field stream_options"}}), stream("a"), stream("b")]
    one = model(here)
    assert ask(one)[0] + ask(one)[0] == "ab"
    assert ["stream_options" in c for c in here.chats] == [True, False, False]


def test_options_are_sent_as_they_are(here: Server) -> None:
    ask(model(here), temperature=0.3, top_k=4, seed=None)
    assert here.chats[0]["temperature"] == 0.3 and here.chats[0]["top_k"] == 4 and "seed" not in here.chats[0]


@pytest.mark.parametrize("phase", ["before headers", "before text", "in the middle", "comments for ever"])
def test_silence_ends_a_request(here: Server, phase: str) -> None:
    over = threading.Event()

    def stall(request: Request, connection: socket.socket) -> None:
        if phase != "before headers":
            connection.sendall(OK)
        if phase in ("in the middle", "comments for ever"):
            connection.sendall(delta("Hel"))
        while not over.wait(0.05):
            if phase == "comments for ever":
                connection.sendall(b": ping\n\n")

    here.otherwise = lambda request: stall
    one = model(here, timeouts=Timeouts(connect=1.0, first=0.3, silence=0.3))
    kind = ReplyIncomplete if phase in ("in the middle", "comments for ever") else ServerFailed
    with pytest.raises(kind):
        ask(one)
    over.set()


def test_a_connection_refused_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ServerFailed) as caught:
        ask(OpenAIModel("m", f"http://127.0.0.1:{port}/v1"))
    assert "refused the connection" in caught.value.message and str(port) in caught.value.message


def test_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(ServerFailed, match="cannot be found"):
        ask(OpenAIModel("m", "http://nowhere.invalid/v1"))


def test_tls_to_a_plain_port_says_so(here: Server) -> None:
    here.otherwise = lambda request: b"HTTP/1.1 400 Bad\r\n\r\n"
    with pytest.raises(ServerFailed) as caught:
        ask(OpenAIModel("m", here.url.replace("http", "https"), timeouts=Timeouts(connect=1.0, first=1.0)))
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
def test_a_bad_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(WrongUse) as caught:
        OpenAIModel("m", url)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("key", ["", " ", "sk-\nx", "sk-é", "sk a"])
def test_a_bad_key_is_refused_without_being_shown_or_sent(here: Server, key: str) -> None:
    with pytest.raises(WrongUse) as caught:
        ask(model(here, key=lambda: key))
    assert not here.requests and (not key.strip() or key not in caught.value.message)


def test_nothing_of_the_environment_is_picked_up_by_surprise(here: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "surprise")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Surprise: surprise")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    ask(model(here))
    assert "surprise" not in str(here.requests[0].headers) and os.environ["OPENAI_ORG_ID"] == "surprise"


def test_a_redirect_is_not_followed_with_the_messages(here: Server) -> None:
    with Server() as other:
        here.answers = [status(307, b"", f"Location: {other.url}/chat/completions")]
        with pytest.raises(ServerFailed, match="redirects"):
            ask(model(here))
        assert other.requests == []


def test_an_endless_event_and_an_endless_reply_are_stopped(here: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless_event(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK + delta("Hel") + b"data: ")
        while True:
            connection.sendall(b"x" * 65536)

    def endless_reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(OK)
        while True:
            connection.sendall(delta("x" * 65536))

    monkeypatch.setattr(replies, "LONGEST_REPLY", 1 << 20)
    here.answers = [endless_event, endless_reply]
    for _ in range(2):
        with pytest.raises(ReplyIncomplete):
            ask(model(here))


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
    error = faults.overflow(code, body)
    assert isinstance(error, ContextExceeded) and error.limit == limit


@pytest.mark.parametrize("body", [{"error": {"message": "bad temperature"}}, {"error": "model not found"}, "", None, 7])
def test_other_errors_are_no_overflow(body: Any) -> None:
    assert faults.overflow(400, body) is None


def test_an_overflow_inside_a_stream_is_one(here: Server) -> None:
    here.answers = [OK + event(OVERFLOWS[4][1])]
    with pytest.raises(ContextExceeded):
        ask(model(here))


RECORDED = (
    b"".join(delta(t) for t in ("Hé", "llo ", "wörld 🎉", " done"))
    + delta(finish="stop")
    + event({"choices": [], "usage": {"prompt_tokens": 3}})
    + END
)


def read(chunks: list[bytes]) -> tuple[str, str | None]:
    reply = Reply("here", "m")
    return "".join(p.text for p in streamed(iter(chunks), reply)), reply.finish


def test_a_stream_cut_at_every_byte_gives_a_beginning_and_is_complete_only_when_it_is() -> None:
    whole, _ = read([RECORDED])
    said_at = RECORDED.index(b'"finish_reason": "stop"') + len(b'"finish_reason": "stop"}]}')
    for end in range(len(RECORDED) + 1):
        text, finished = read([RECORDED[:end]])
        assert whole.startswith(text)
        assert (finished == "complete") == (end >= said_at), end


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
def test_any_mutation_gives_text_or_our_own_error(data: st.DataObject) -> None:
    body = bytearray(RECORDED)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    check_mutated(bytes(body))


@given(st.binary(max_size=300))
def test_any_bytes_give_events(data: bytes) -> None:
    assert all(isinstance(e, Event) for e in events([data]))
