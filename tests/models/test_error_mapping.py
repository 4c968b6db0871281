"""What the failures of servers mean: status codes, error objects, connections."""

from __future__ import annotations

import socket
import ssl
from itertools import pairwise
from typing import Any

import pytest

from chatmem.errors import (
    AuthenticationError,
    ChatmemError,
    ContextLengthError,
    IncompleteReplyError,
    RateLimitError,
    ServerError,
    UsageError,
)
from chatmem.models.openai import error_mapping

HOST = "api.example"


@pytest.mark.parametrize(
    ("status", "body", "kind", "text", "action"),
    [
        (401, {"error": {"message": "bad key"}}, AuthenticationError, "refused the API key (401): bad key", None),
        (403, {"error": "not yours"}, AuthenticationError, "denied access (403): not yours", None),
        (402, {}, RateLimitError, "the quota is used up (402)", None),
        (429, {"error": {"code": "insufficient_quota"}}, RateLimitError, "the quota is used up (429)", None),
        (429, {"error": {"message": "slow down"}}, RateLimitError, "is limiting requests (429): slow down Retry after 7 s.", "retry"),
        (301, "", ServerError, "redirects to another address (301)", None),
        (399, "", ServerError, "redirects to another address (399)", None),
        (404, {"error": "The model `x` does not exist"}, ServerError, "has no model 'm' (404)", "list_models"),
        (404, {"error": "DeploymentNotFound"}, ServerError, "has no model 'm' (404)", "list_models"),
        (404, "nothing here", ServerError, "has no such path (404): nothing here", None),
        (413, "", ServerError, "the request is too large (413).", None),
        (503, {"error": {"message": "Loading model"}}, ServerError, "is still loading the model (503).", "retry"),
        (503, {"error": {"message": "overloaded"}}, ServerError, "failed (503): overloaded", "retry"),
        (500, {"error": {"message": "loading the weights failed"}}, ServerError, "failed (500)", "retry"),
        (500, "", ServerError, "failed (500).", "retry"),
        (499, "", ServerError, "rejected the request (499).", "set_option"),
        (400, {"detail": [{"msg": "no such field"}]}, ServerError, "rejected the request (400)", "set_option"),
    ],
)  # fmt: skip
def test_a_status_and_its_body_lead_to_an_error(
    status: int, body: object, kind: type[ChatmemError], text: str, action: str | None
) -> None:
    error = error_mapping.error_for_status(status, body, HOST, "m", 7.0)
    assert type(error) is kind and text in error.message, error.message
    assert HOST in error.message and (error.action.kind if error.action else None) == action
    assert error.hint or error.action


def test_a_rate_limit_without_a_time_names_none() -> None:
    assert "Retry after" not in error_mapping.error_for_status(429, {}, HOST, "m").message


def test_exactly_the_statuses_of_temporary_failures_are_retried() -> None:
    assert sorted(error_mapping.RETRYABLE_STATUSES) == [408, 409, 429, 500, 502, 503, 504, 520, 522, 524, 529]


@pytest.mark.parametrize(
    ("body", "has_text", "kind", "text"),
    [
        ({"error": {"message": "boom"}}, False, ServerError, "answered with an error: boom"),
        ({"error": {"message": "boom"}}, True, IncompleteReplyError, "aborted the reply: boom"),
        ({"error": {}}, False, ServerError, "an error without a message"),
        ({"error": {"code": 401, "message": "key"}}, False, AuthenticationError, "(401)"),
        ({"error": {"code": 401, "message": "key"}}, True, IncompleteReplyError, "aborted the reply"),
        ({"error": {"code": 399, "message": "odd"}}, False, ServerError, "answered with an error"),
        ({"error": {"code": 600, "message": "odd"}}, False, ServerError, "answered with an error"),
        ({"error": {"code": "rate_limit_exceeded"}}, False, RateLimitError, "(429)"),
        ({"error": {"code": "insufficient_quota"}}, False, RateLimitError, "quota"),
        ({"error": {"code": "insufficient_quota"}}, True, IncompleteReplyError, "aborted the reply"),
        ({"error": {"message": "maximum context length is 900 tokens"}}, False, ContextLengthError, "900 tokens"),
        ({"error": {"message": "maximum context length is 900 tokens"}}, True, IncompleteReplyError, "aborted"),
        ("a string", False, ServerError, "a string"),
        (["a", "list"], False, ServerError, "a list"),
    ],
)
def test_an_error_inside_a_stream_is_named(body: object, has_text: bool, kind: type[ChatmemError], text: str) -> None:
    error = error_mapping.error_for_event(body, HOST, "m", has_text)
    assert type(error) is kind and text in error.message, error.message


def chained(*errors: BaseException) -> BaseException:
    """An exception with its causes, the outermost first."""
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


class InvalidURL(Exception):
    """Named like the client's error."""


class ProxyError(Exception):
    """Named like the client's error."""


class ConnectTimeout(Exception):
    """Named like the client's error."""


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (chained(Exception("outer"), InvalidURL("bad port")), UsageError, "Cannot send a request to api.example: bad port."),
        (chained(Exception("outer"), UnicodeEncodeError("ascii", "é", 0, 1, "x")), UsageError, "Cannot send a request"),
        (ProxyError("403 Forbidden"), ServerError, "the proxy refused the connection: 403 Forbidden."),
        (chained(Exception("outer"), socket.gaierror(-2, "Name or service not known")), ServerError, "Cannot resolve the host name"),
        (Exception("Name or service not known"), ServerError, "Cannot resolve the host name"),
        (ssl.SSLError(1, "certificate verify failed"), ServerError, "no secure connection: certificate verify failed."),
        (ConnectTimeout("timed out"), ServerError, "did not answer in time."),
        (chained(Exception("outer"), ConnectionRefusedError(111, "Connection refused")), ServerError, "refused the connection."),
        (chained(Exception("outer"), OSError(113, "No route to host")), ServerError, "Cannot reach api.example: No route to host."),
        (Exception(""), ServerError, "Cannot reach api.example: Exception."),
        (chained(Exception("outer. "), ValueError("")), ServerError, "Cannot reach api.example: outer."),
        (Exception("x" * 1000), ServerError, "x" * 100),
    ],
)  # fmt: skip
def test_a_connection_that_fails_is_explained_by_its_deepest_cause(
    error: Any, kind: type[ChatmemError], text: str
) -> None:
    found = error_mapping.error_for_connection(error, HOST)
    assert type(found) is kind and text in found.message, found.message
    assert HOST in found.message and len(found.message) < 300 and found.hint


def test_the_chain_of_causes_is_followed_to_its_end_but_not_for_ever() -> None:
    deep = chained(*(Exception(f"cause {n}") for n in range(12)))
    assert "cause 11" in error_mapping.error_for_connection(deep, HOST).message
    deeper = chained(*(Exception(f"cause {n}") for n in range(30)))
    assert "cause 11" in error_mapping.error_for_connection(deeper, HOST).message
    first, second = Exception("first"), Exception("second")
    first.__context__, second.__context__ = second, first
    assert "Cannot reach" in error_mapping.error_for_connection(first, HOST).message


def test_a_connection_that_ends_during_a_reply_keeps_what_arrived() -> None:
    error = error_mapping.error_for_disconnect(chained(Exception("outer"), Exception("peer closed")), HOST)
    assert type(error) is IncompleteReplyError and "closed the connection: peer closed." in error.message
    assert error.hint == "The part that arrived is saved." and error.action == error_mapping.RETRY


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m", "type": "t"}}, "m"),
        ({"error": {"message": " ", "type": "t"}}, "t"),
        ({"error": {"detail": "d"}}, "d"),
        ({"error": {"code": "c"}}, "c"),
        ({"error": "e"}, "e"),
        ({"detail": "d"}, "d"),
        ({"message": "m"}, "m"),
        ({"other": {"deep": ["x", {"n": 3, "yes": True}]}}, "x n: 3"),
        ("plain  text\n", "plain text"),
        (["a", "b"], "a b"),
        ("<html><head><TITLE>502 Bad\nGateway</title></head>", "a web page titled “502 Bad Gateway”"),
        ("  <!DOCTYPE html><body>x</body>", "a web page"),
        (None, ""),
        (7, ""),
    ],
)
def test_the_message_of_an_error_body_is_found_wherever_it_is(body: object, message: str) -> None:
    assert error_mapping.error_message(body) == message


def test_a_long_message_is_cut_and_nested_texts_are_followed_to_a_limit() -> None:
    assert len(error_mapping.error_message("x" * 1000)) == error_mapping.MAX_MESSAGE_CHARS
    body: object = "deep"
    for _ in range(6):
        body = [body]
    assert error_mapping.all_text(body) == "deep" and error_mapping.all_text([body]) == ""
    assert error_mapping.all_text(["a"] * 30) == " ".join(["a"] * 20)


@pytest.mark.parametrize("status", [None, 200, 400, 413, 422, 500])
def test_a_context_that_is_too_long_is_recognised_with_the_status_of_any_server(status: int | None) -> None:
    error = error_mapping.context_overflow(
        status, {"error": {"message": "maximum context length is 900 tokens, requested 2785"}}
    )
    assert error and (error.limit, error.needed) == (900, 2785)


def test_other_statuses_and_implausible_numbers_are_not_believed() -> None:
    text = "maximum context length is {} tokens, requested {}"
    assert error_mapping.context_overflow(404, text.format(900, 1000)) is None
    for limit, needed, expected in (
        (64, 100, (64, 100)),
        (63, 100, (None, None)),
        (100_000_000, 100_000_001, (100_000_000, 100_000_001)),
        (100_000_001, 100_000_002, (None, None)),
        (900, 900, (900, None)),
        (900, 901, (900, 901)),
        ("32,768", "40_000", (32_768, 40_000)),
    ):
        error = error_mapping.context_overflow(400, text.format(limit, needed))
        assert error and (error.limit, error.needed) == expected
        assert ("of" in error.message.partition("window")[2]) == (error.limit is not None)


@pytest.mark.parametrize(
    ("text", "limit", "needed"),
    [
        ("The input token count (2785) exceeds the maximum number of tokens allowed (900).", 900, 2785),
        ("This model's maximum prompt length is 900 but the request contains 2785 tokens.", 900, 2785),
        ("Input validation error: `inputs` must have less than 900 tokens. Given: 2785", 900, 2785),
        ("`inputs` tokens + `max_new_tokens` must be <= 900. Given: 2785 `inputs` tokens and 1 `max_new_tokens`", 900, 2785),
        ("Input is too long for requested model.", None, None),
        ("Please reduce the length of the messages or completion.", None, None),
    ],
)  # fmt: skip
def test_the_refusals_of_other_vendors_are_recognised(text: str, limit: int | None, needed: int | None) -> None:
    error = error_mapping.context_overflow(422, {"error": {"message": text}})
    assert error and (error.limit, error.needed) == (limit, needed)
