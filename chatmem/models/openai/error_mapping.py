"""Translation of server failures: foreign exceptions and error bodies in, a few kinds of our own errors out.

Each error is one line with the cause and a way out. Context overflow is recognised in the messages of OpenAI, Azure,
vLLM, llama.cpp, LM Studio, SGLang, LiteLLM, OpenRouter and gateways to Anthropic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from chatmem.errors import (
    Action,
    AuthenticationError,
    ChatmemError,
    ContextLengthError,
    IncompleteReplyError,
    RateLimitError,
    ServerError,
    UsageError,
)
from chatmem.text import truncate

RETRYABLE_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""The HTTP statuses after which the same request may succeed."""
MAX_MESSAGE_CHARS = 300
MAX_CAUSE_CHARS = 200

RETRY = Action("retry")
_PARTIAL_SAVED = "The part that arrived is saved."

_OVERFLOW = re.compile(
    r"context[ _]?(length|size|window)|contextwindowexceeded|maximum context|n_ctx|too many (input )?tokens"
    r"|prompt is too long|tokens to keep|exceeds? the (available|maximum) context|input is too long"
    r"|reduce the length|exceeds? context limit|maximum prompt length|input token count|must have less than \d+ tokens"
    r"|max_new_tokens` must be",
    re.IGNORECASE,
)
_LIMITS = (
    r"maximum number of tokens allowed \(?(\d[\d,_]*)",
    r"maximum prompt length is (\d[\d,_]*)",
    r"must have less than (\d[\d,_]*) tokens",
    r"max_new_tokens` must be <= (\d[\d,_]*)",
    r"n_ctx[\"']?\s*[:=]\s*(\d+)",
    r"(?:maximum )?context (?:length|window|size)(?: is| of| limit(?: is| of)?)?:?\s*(?:only )?\(?(\d[\d,_]*)",
    r"context limit: \d[\d,_]* \+ \d[\d,_]* > (\d[\d,_]*)",
    r"available context size \((\d+)",
    r">\s*(\d[\d,_]*) (?:maximum|tokens)",
    r"(?:limit|maximum)(?: is| of)?:? (\d[\d,_]*)\s*(?:input )?tokens",
    r"(\d[\d,_]*) (?:tokens? )?(?:maximum|limit|max)",
)
_NEEDS = (
    r"input token count \(?(\d[\d,_]*)",
    r"request contains (\d[\d,_]*)",
    r"Given: (\d[\d,_]*)",
    r"(\d[\d,_]*) (?:in the messages|of text input|in the prompt|input tokens)",
    r"context limit: (\d[\d,_]*) \+",
    r"n_prompt_tokens[\"']?\s*[:=]\s*(\d+)",
    r"request \((\d[\d,_]*) tokens",
    r"(?:resulted in|requested|requested about|too long:|input \() ?(\d[\d,_]*)",
)
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing|credit|payment", re.IGNORECASE)


def all_text(body: object) -> str:
    """Every string in an error body, however it is nested, and every number with its name."""
    return " ".join(_texts(body, 0))


def error_message(body: object) -> str:
    """The message in an error body, on one line of at most 300 characters. Empty if there is none."""
    text = body if isinstance(body, str) else ""
    if isinstance(body, Mapping):
        error = body.get("error", body)
        inner = error if isinstance(error, Mapping) else {}
        choices = (
            error,
            *(inner.get(k) for k in ("message", "detail", "msg", "type", "code")),
            body.get("detail"),
            body.get("message"),
        )
        text = next((c for c in choices if isinstance(c, str) and c.strip()), "") or all_text(body)
    elif isinstance(body, list):
        text = all_text(body)
    if re.match(r"\s*<(!doctype|html|head|body)", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = f"a web page{f' titled “{title[1].strip()}”' if title else ''}"
    return truncate(" ".join(text.split()), MAX_MESSAGE_CHARS)


def context_overflow(status: int | None, body: object) -> ContextLengthError | None:
    """The error for messages that exceed the server's context window, if the body says so."""
    text = all_text(body)
    if status not in (None, 200, 400, 413, 422, 500) or not _OVERFLOW.search(text):
        return None
    limit, needed = _find_number(_LIMITS, text), _find_number(_NEEDS, text)
    if limit is not None and not 64 <= limit <= 100_000_000:
        limit = None
    if limit is None or needed is None or needed <= limit:
        needed = None
    size = f" of {limit:,} tokens" if limit else ""
    return ContextLengthError(
        f"The messages exceed the model's context window{size}.",
        "Shorten the question, or use a memory strategy with a smaller budget.",
        Action("change_memory", "token-trim"),
        limit=limit,
        needed=needed,
    )


def error_for_status(
    status: int, body: object, host: str, model: str, retry_after: float | None = None
) -> ChatmemError:
    """The error for an HTTP status of 300 or more."""
    message = error_message(body)
    reason = f": {message}" if message else "."
    if exceeded := context_overflow(status, body):
        return exceeded
    if status in (401, 403):
        what = "refused the API key" if status == 401 else "denied access"
        return AuthenticationError(
            f"{host} {what} ({status}){reason}", "Check OPENAI_API_KEY or the profile's api_key_env."
        )
    if status == 402 or (status == 429 and _QUOTA.search(all_text(body))):
        return RateLimitError(
            f"{host}: the quota is used up ({status}){reason}",
            "Add credit to the account, or use another model or profile.",
        )
    if status == 429:
        wait = f" Retry after {retry_after:.0f} s." if retry_after else ""
        return RateLimitError(f"{host} is limiting requests (429){reason}{wait}", "Wait a moment.", RETRY)
    if 300 <= status < 400:
        return ServerError(
            f"{host} redirects to another address ({status}); nothing was sent there.",
            "Set base_url to the final address.",
        )
    if status == 404:
        if re.search(r"model|deployment", all_text(body), re.IGNORECASE):
            return ServerError(f"{host} has no model {model!r} (404){reason}", action=Action("list_models"))
        return ServerError(f"{host} has no such path (404){reason}", "Does base_url need /v1 at its end?")
    if status == 413:
        return ServerError(
            f"{host}: the request is too large (413){reason}",
            "Shorten the question, or use a memory strategy with a smaller budget.",
        )
    if status == 503 and "loading" in message.lower():
        return ServerError(f"{host} is still loading the model (503).", "Wait a moment.", RETRY)
    if status >= 500:
        return ServerError(f"{host} failed ({status}){reason}", "If it keeps failing, check the server's log.", RETRY)
    return ServerError(
        f"{host} rejected the request ({status}){reason}",
        "Check the model name and the options.",
        Action("set_option"),
    )


def error_for_event(body: object, host: str, model: str, has_text: bool) -> ChatmemError:
    """The error for an error object inside a stream, or in place of one, with status 200."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    code = error.get("code") if isinstance(error, Mapping) else None
    if not has_text and (exceeded := context_overflow(None, body)):
        return exceeded
    if isinstance(code, int) and 400 <= code < 600 and not has_text:
        return error_for_status(code, body, host, model)
    if isinstance(code, str) and not has_text and (code == "insufficient_quota" or "rate_limit" in code):
        return error_for_status(429, body, host, model)
    message = error_message(body) or "an error without a message"
    if has_text:
        return IncompleteReplyError(f"{host} aborted the reply: {message}", _PARTIAL_SAVED, RETRY)
    return ServerError(f"{host} answered with an error: {message}", action=RETRY)


def error_for_connection(error: BaseException, host: str) -> ChatmemError:
    """The error for a connection that failed before any reply, by its deepest cause."""
    causes = list(_chain(error))
    names = " ".join(type(c).__name__ for c in causes)
    text = " ".join(str(c) for c in causes)
    cause = _deepest_message(causes)
    if re.search(r"InvalidURL|UnsupportedProtocol|LocalProtocolError|UnicodeEncodeError|UnicodeError", names):
        return UsageError(f"Cannot send a request to {host}: {cause}.", "Check base_url and the key for typos.")
    if "WrongProtocolError" in names:
        return ServerError(
            f"{host} {cause}.", "Does base_url need https?" if cause.endswith("TLS") else "Check the port in base_url."
        )
    if "ProxyError" in names or "proxy" in text.lower():
        return ServerError(f"{host}: the proxy refused the connection: {cause}.", "Check HTTPS_PROXY and NO_PROXY.")
    if "gaierror" in names or "Name or service" in text:
        return ServerError(f"Cannot resolve the host name of {host}.", "Check base_url and the network.")
    if re.search(r"SSL|CERTIFICATE|TLS", names + text):
        return ServerError(
            f"{host}: no secure connection: {cause}.", "Check the certificate. Does the server speak https?"
        )
    if "Timeout" in names:
        return ServerError(
            f"{host} did not answer in time.",
            "Is it overloaded or still loading a model? The setting timeouts.first_token raises the limit.",
            RETRY,
        )
    if "refused" in text.lower():
        return ServerError(f"{host} refused the connection.", "Is the server running? Check base_url.")
    return ServerError(f"Cannot reach {host}: {cause}.", "Check base_url and the network.", RETRY)


def error_for_disconnect(error: BaseException, host: str) -> IncompleteReplyError:
    """The error for a connection that failed in the middle of a reply."""
    cause = _deepest_message(list(_chain(error)))
    return IncompleteReplyError(f"{host} closed the connection: {cause}.", _PARTIAL_SAVED, RETRY)


def _find_number(patterns: tuple[str, ...], text: str) -> int | None:
    """The number that the first matching pattern finds."""
    found = next((m for pattern in patterns if (m := re.search(pattern, text, re.IGNORECASE))), None)
    return int(re.sub(r"[,_]", "", found[1])) if found else None


def _texts(body: object, depth: int) -> Iterator[str]:
    if depth > 6:
        return
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for key, value in body.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{key}: {value}"
            else:
                yield from _texts(value, depth + 1)
    elif isinstance(body, list):
        for value in body[:20]:
            yield from _texts(value, depth + 1)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and its causes, the outermost first."""
    depth = 0
    while error is not None and depth < 12:
        yield error
        error, depth = error.__cause__ or error.__context__, depth + 1


def _deepest_message(causes: list[BaseException]) -> str:
    """The message of the deepest cause that has one."""
    for cause in reversed(causes):
        text = " ".join((getattr(cause, "strerror", None) or str(cause)).split()).rstrip(".")
        if text:
            return truncate(text, MAX_CAUSE_CHARS)
    return type(causes[0]).__name__
