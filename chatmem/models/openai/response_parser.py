"""From the body of a response to the chunks of a reply, tolerant of what servers make of the format."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chatmem.errors import IncompleteReplyError, Notice, ServerError
from chatmem.history.records import Usage
from chatmem.models.base import StreamChunk
from chatmem.models.openai.error_mapping import RETRY, error_for_event, error_message
from chatmem.models.openai.other_protocols import other_api
from chatmem.models.openai.sse import parse_events
from chatmem.text import fix_surrogates

MAX_REPLY_CHARS = 16 << 20
"""The most characters of one reply, and the most bytes of a body that is not a stream."""

_LENGTH_REASONS = ("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit")
_FILTER_REASONS = (
    "blocklist",
    "content_filter",
    "content_filtered",
    "guardrail_intervened",
    "prohibited_content",
    "recitation",
    "refusal",
    "safety",
    "sensitive",
    "spii",
)
_STATUS_BY_REASON = dict.fromkeys(_LENGTH_REASONS, "length") | dict.fromkeys(_FILTER_REASONS, "filtered")
"""The status for the finish reasons of several vendors, in lower case. Any other one means complete."""
_ERROR_REASONS = ("error", "insufficient_system_resource", "malformed_function_call", "network_error")


@dataclass
class ReplyState:
    """What is known of a reply so far."""

    host: str
    model: str
    size: int = 0
    is_blank: bool = True
    """Whether nothing but white space arrived."""
    reasoning_seen: bool = False
    status: str | None = None
    done: bool = False
    skipped: int = 0
    pending_surrogate: str = ""
    """The first half of a surrogate pair whose second half has not arrived yet."""

    @property
    def has_text(self) -> bool:
        return self.size > 0

    def join_surrogates(self, text: str) -> str:
        """The next text, with surrogate pairs that were split between two events joined."""
        text, self.pending_surrogate = self.pending_surrogate + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.pending_surrogate = text[:-1], text[-1]
        return fix_surrogates(text)

    def error(self, body: object) -> Exception:
        """The error for an error object at this point of the reply."""
        return error_for_event(body, self.host, self.model, self.has_text)

    def check(self) -> None:
        """Raise ServerError if the reply ended without visible text. A truncated one with text is not an error here."""
        is_empty_but_legal = self.status in ("length", "filtered")
        if self.is_blank and not is_empty_but_legal:
            reasoning = " It only sent reasoning." if self.reasoning_seen else ""
            skipped = f" {self.skipped} malformed events were skipped." if self.skipped else ""
            raise ServerError(f"{self.host} sent an empty reply.{reasoning}{skipped}", action=RETRY)


def parse_response(response: Any, reply: ReplyState) -> Iterator[StreamChunk]:
    """The chunks in a response with a good status, whatever its body turns out to be."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    chunks = response.iter_bytes()
    if kind in ("application/json", "text/html", "application/problem+json"):
        yield from _parse_whole(b"".join(_capped(chunks)), reply)
        return
    first = b""
    for chunk in chunks:  # an event stream, unless its first byte says otherwise
        first += chunk
        if first.strip():
            break
    if first.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"<"):
        yield from _parse_whole(first + b"".join(_capped(chunks)), reply)
        return
    yield from parse_stream(_prepend(first, chunks), reply)


def parse_stream(chunks: Iterator[bytes], reply: ReplyState) -> Iterator[StreamChunk]:
    """The chunks in an event stream. Malformed events are skipped and counted."""
    for name, data in parse_events(chunks):
        if name == "comment" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            reply.done = True
            break
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            if name == "error":
                raise reply.error(data) from None
            reply.skipped += 1
            continue
        if name == "ping" or not isinstance(body, dict):
            if name == "error":
                raise reply.error(body)
            continue
        yield from _parse_event(name, body, reply)
    if reply.done and not reply.status and reply.has_text:
        reply.status = "complete"
        yield StreamChunk(status="complete")
    if reply.skipped and reply.has_text:
        yield StreamChunk(notice=Notice(f"Skipped {reply.skipped} malformed events from {reply.host}."))


def _parse_event(name: str, body: dict[str, Any], reply: ReplyState) -> Iterator[StreamChunk]:
    choices = body.get("choices")
    if choices is None and not reply.has_text:
        _check_api(name, body, reply)
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else choice.get("message")
    delta = delta if isinstance(delta, dict) else {}
    text = (
        _content_text(delta.get("content")) or _content_text(delta.get("refusal")) or _content_text(choice.get("text"))
    )
    reasoning = _content_text(delta.get("reasoning_content")) or _content_text(delta.get("reasoning"))
    if reasoning:
        reply.reasoning_seen = True
        yield StreamChunk(reasoning=reasoning)
    if text := reply.join_surrogates(text):
        reply.size += len(text)
        reply.is_blank = reply.is_blank and text.isspace()
        yield StreamChunk(text=text)
        if reply.size > MAX_REPLY_CHARS:
            raise IncompleteReplyError(
                f"The reply is longer than {MAX_REPLY_CHARS >> 20} MB.", "The part that arrived is saved."
            )
    if usage := _parse_usage(body.get("usage")):
        yield StreamChunk(usage=usage)
    if body.get("error") or (name == "error" and not choice):
        raise reply.error(body)
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason:
        if reason.lower() in _ERROR_REASONS:
            raise reply.error({"error": f"finish reason {reason}"})
        reply.status = _STATUS_BY_REASON.get(reason.lower(), "complete")
        yield StreamChunk(status=reply.status)


def _parse_whole(data: bytes, reply: ReplyState) -> Iterator[StreamChunk]:
    """The chunks in a body that is not a stream: a whole completion is used, anything else is an error."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        if not text.strip():
            return
        with contextlib.suppress(ValueError, RecursionError):  # lines of JSON
            _check_api("", json.loads(text.lstrip().partition("\n")[0]), reply)
        raise ServerError(
            f"{reply.host} answered with {error_message(text) or 'an unknown format'} instead of a reply.",
            "Is base_url an API and not a web page? Does it need /v1 at its end? Is there a proxy with a login page?",
        ) from None
    if isinstance(body, dict) and body.get("choices") is None:
        _check_api("", body, reply)
    if not isinstance(body, dict) or body.get("error") or not isinstance(body.get("choices"), list):
        raise error_for_event(body, reply.host, reply.model, False)
    yield from _parse_event("message", body, reply)
    if reply.has_text and not reply.status:
        reply.status = "complete"
        yield StreamChunk(status="complete")


def _check_api(name: str, body: object, reply: ReplyState) -> None:
    """Raise ServerError if a response belongs to another API."""
    if isinstance(body, dict) and (found := other_api(name, body)):
        api, hint = found
        raise ServerError(f"{reply.host} answered with {api} instead of chat completions.", hint)


def _content_text(content: object) -> str:
    """The text of a content that may be a string, null, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (p.get("text") if isinstance(p, dict) else p for p in content)
        return "".join(p for p in parts if isinstance(p, str))
    return ""


def _parse_usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    return Usage.from_record(
        {"prompt": usage.get("prompt_tokens"), "completion": usage.get("completion_tokens"), "cached": cached}
    )


def _capped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_REPLY_CHARS:
            raise ServerError(
                f"The server sent more than {MAX_REPLY_CHARS >> 20} MB that are not a stream.", "Check base_url."
            )
        yield chunk


def _prepend(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
