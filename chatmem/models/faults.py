"""What a server's failure means: a few kinds, one line each, with the cause and the way out.

Foreign exceptions and error bodies come in here, and leave as ours. Context overflow is recognised in the words
of OpenAI, Azure, vLLM, llama.cpp, LM Studio, SGLang, LiteLLM, OpenRouter and Anthropic-style gateways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from chatmem.errors import (
    ChatmemError,
    ContextExceeded,
    KeyRefused,
    LimitReached,
    ReplyIncomplete,
    ServerFailed,
    WrongUse,
)

RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""The HTTP statuses after which the same request may succeed."""

_OVERFLOW = re.compile(
    r"context[ _]?(length|size|window)|contextwindowexceeded|maximum context|n_ctx|too many (input )?tokens"
    r"|prompt is too long|tokens to keep|exceeds? the (available|maximum) context|input is too long"
    r"|reduce the length|exceeds? context limit",
    re.IGNORECASE,
)
_LIMITS = (
    r"n_ctx[\"']?\s*[:=]\s*(\d+)",
    r"(?:maximum )?context (?:length|window|size)(?: is| of| limit(?: is| of)?)?:?\s*(?:only )?\(?(\d[\d,_]*)",
    r"context limit: \d[\d,_]* \+ \d[\d,_]* > (\d[\d,_]*)",
    r"available context size \((\d+)",
    r">\s*(\d[\d,_]*) (?:maximum|tokens)",
    r"(?:limit|maximum)(?: is| of)?:? (\d[\d,_]*)\s*(?:input )?tokens",
    r"context limit: \d[\d,_]* \+ \d[\d,_]* > (\d[\d,_]*)",
    r"(\d[\d,_]*) (?:tokens? )?(?:maximum|limit|max)",
)
_NEEDS = (
    r"(\d[\d,_]*) (?:in the messages|of text input|in the prompt|input tokens)",
    r"context limit: (\d[\d,_]*) \+",
    r"n_prompt_tokens[\"']?\s*[:=]\s*(\d+)",
    r"request \((\d[\d,_]*) tokens",
    r"(?:resulted in|requested|requested about|too long:|input \() ?(\d[\d,_]*)",
)
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing|credit|payment", re.IGNORECASE)


def _number(patterns: tuple[str, ...], text: str) -> int | None:
    """The number that the first fitting pattern finds."""
    found = next((m for pattern in patterns if (m := re.search(pattern, text, re.IGNORECASE))), None)
    return int(re.sub(r"[,_]", "", found[1])) if found else None


def words_of(body: object) -> str:
    """Every text in an error body, however it is wrapped."""
    return " ".join(_texts(body, 0))


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


def said(body: object) -> str:
    """What the server itself says in an error body, on one line of at most 300 characters; empty for nothing."""
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
        text = next((c for c in choices if isinstance(c, str) and c.strip()), "") or words_of(body)
    elif isinstance(body, list):
        text = words_of(body)
    if re.match(r"\s*<(!doctype|html|head|body)", text, re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = f"a web page{f' titled “{title[1].strip()}”' if title else ''}"
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def overflow(status: int | None, body: object) -> ContextExceeded | None:
    """The error for messages that exceed the server's window, if this body says so."""
    text = words_of(body)
    if status not in (None, 200, 400, 413, 422, 500) or not _OVERFLOW.search(text):
        return None
    limit, needed = _number(_LIMITS, text), _number(_NEEDS, text)
    if limit is not None and not 64 <= limit <= 100_000_000:
        limit = None
    if limit is None or needed is None or needed <= limit:
        needed = None
    size = f" of {limit:,} tokens" if limit else ""
    return ContextExceeded(
        f"The messages exceed the model's context window{size}.",
        "Shorten the memory (/memory token-trim:N) or the question.",
        limit,
        needed,
    )


def refused(status: int, body: object, where: str, model: str, retry_after: float | None = None) -> ChatmemError:
    """The error for an HTTP status of 300 or more."""
    words = said(body)
    quoted = f": {words}" if words else "."
    if exceeded := overflow(status, body):
        return exceeded
    if status in (401, 403):
        what = "refused the API key" if status == 401 else "does not allow this"
        return KeyRefused(f"{where} {what} ({status}){quoted}", "Check OPENAI_API_KEY or the profile's api_key_env.")
    if status == 402 or (status == 429 and _QUOTA.search(words_of(body))):
        return LimitReached(
            f"{where}: the quota is used up ({status}){quoted}",
            "Top up the account, or choose another model or profile.",
        )
    if status == 429:
        wait = f" It asks to wait {retry_after:.0f} s." if retry_after else ""
        return LimitReached(f"{where} is limiting requests (429){quoted}{wait}", "Wait a moment, then /retry.")
    if 300 <= status < 400:
        return ServerFailed(
            f"{where} redirects elsewhere ({status}); nothing was sent there.",
            "Set base_url to the final address.",
        )
    if status == 404:
        if re.search(r"model|deployment", words_of(body), re.IGNORECASE):
            return ServerFailed(f"{where} has no model {model!r} (404){quoted}", "See: chatmem models")
        return ServerFailed(f"{where} knows no such address (404){quoted}", "Does base_url need /v1 at its end?")
    if status == 413:
        return ServerFailed(f"{where}: the request is too large (413){quoted}", "Shorten the memory or the question.")
    if status == 503 and "loading" in words.lower():
        return ServerFailed(f"{where} is still loading the model (503).", "Wait a moment, then /retry.")
    if status >= 500:
        return ServerFailed(
            f"{where} failed ({status}){quoted}",
            "Try again: /retry. If it lasts, the server's own log says why.",
        )
    return ServerFailed(
        f"{where} did not accept the request ({status}){quoted}",
        "Check the model's name and the options (/set).",
    )


def in_stream(body: object, where: str, model: str, anything: bool) -> ChatmemError:
    """The error for an error object that arrived inside a stream, or in place of one, with status 200."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    code = error.get("code") if isinstance(error, Mapping) else None
    if not anything and (exceeded := overflow(None, body)):
        return exceeded
    if isinstance(code, int) and 400 <= code < 600 and not anything:
        return refused(code, body, where, model)
    if isinstance(code, str) and not anything and (code == "insufficient_quota" or "rate_limit" in code):
        return refused(429, body, where, model)
    words = said(body) or "an error without words"
    if anything:
        return ReplyIncomplete(f"{where} broke the reply off: {words}", "What arrived is kept. /retry asks again.")
    return ServerFailed(f"{where} answered with an error: {words}", "Try again: /retry.")


def unreachable(error: BaseException, where: str) -> ChatmemError:
    """The error for a connection that failed before any reply, by its deepest cause."""
    causes = list(_chain(error))
    names = " ".join(type(c).__name__ for c in causes)
    text = " ".join(str(c) for c in causes)
    if re.search(r"InvalidURL|UnsupportedProtocol|LocalProtocolError|UnicodeEncodeError|UnicodeError", names):
        return WrongUse(
            f"{where} cannot be asked: {_deepest(causes)}.",
            "Check base_url and the key for stray characters.",
        )
    if "ProxyError" in names or "proxy" in text.lower():
        return ServerFailed(
            f"{where}: the proxy does not let us through: {_deepest(causes)}.",
            "Check HTTPS_PROXY and NO_PROXY.",
        )
    if "gaierror" in names or "Name or service" in text:
        return ServerFailed(f"{where} cannot be found: its name does not resolve.", "Check base_url and the network.")
    if re.search(r"SSL|CERTIFICATE|TLS", names + text):
        return ServerFailed(
            f"{where}: no secure connection: {_deepest(causes)}.",
            "Is it https on both sides? Check the certificate.",
        )
    if "Timeout" in names:
        return ServerFailed(
            f"{where} did not answer in time.",
            "Is it overloaded, or loading a model? /retry, or raise timeouts.first.",
        )
    if "refused" in text.lower():
        return ServerFailed(f"{where} refused the connection.", "Is the server running? Check base_url.")
    return ServerFailed(
        f"{where} cannot be reached: {_deepest(causes)}.", "Check base_url and the network, then /retry."
    )


def broken_off(error: BaseException, where: str) -> ReplyIncomplete:
    """The error for a connection that failed in the middle of a reply."""
    return ReplyIncomplete(
        f"{where} broke the reply off: {_deepest(list(_chain(error)))}.",
        "What arrived is kept. /retry asks again.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 12:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _deepest(causes: list[BaseException]) -> str:
    """The words of the deepest cause that has any."""
    for cause in reversed(causes):
        text = " ".join((getattr(cause, "strerror", None) or str(cause)).split()).rstrip(".")
        if text:
            return text if len(text) <= 200 else text[:199] + "…"
    return type(causes[0]).__name__
