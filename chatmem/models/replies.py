"""From the body of a response to the pieces of a reply, whatever a server makes of the format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chatmem.errors import ReplyIncomplete, ServerFailed
from chatmem.models import faults
from chatmem.models.base import Piece
from chatmem.models.sse import events
from chatmem.records import Usage, repaired

LONGEST_REPLY = 16 << 20
"""The most characters of one reply."""

_FINISH = {"length": "length", "max_tokens": "length", "content_filter": "filtered", "safety": "filtered"}


@dataclass
class Reply:
    """What is known of a reply so far."""

    where: str
    model: str
    size: int = 0
    reasoned: bool = False
    finish: str | None = None
    done: bool = False
    skipped: int = 0
    held: str = ""
    """The first half of a surrogate pair, whose second half is still to come."""

    def joined(self, text: str) -> str:
        """The next text, with a pair that was split between two events made whole."""
        text, self.held = self.held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.held = text[:-1], text[-1]
        return repaired(text)

    @property
    def anything(self) -> bool:
        return self.size > 0

    def check(self) -> None:
        """Raise if what ended was no complete reply."""
        if self.finish or (self.done and self.anything):
            if not self.anything and self.finish == "complete":
                raise self._empty()
            return
        if not self.anything:
            raise self._empty()

    def _empty(self) -> ServerFailed:
        thought = " It only thought." if self.reasoned else ""
        noted = f" {self.skipped} broken events were skipped." if self.skipped else ""
        return ServerFailed(
            f"{self.where} sent an empty reply.{thought}{noted}", "Try again: /retry, or another model."
        )


def pieces(response: Any, reply: Reply) -> Iterator[Piece]:
    """The pieces in a response whose status was good, whatever its body turns out to be."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    chunks = response.iter_bytes()
    if kind in ("application/json", "text/html", "application/problem+json"):
        yield from _whole(b"".join(_capped(chunks)), reply)
        return
    first = b""
    for chunk in chunks:  # an event stream, unless its first byte says otherwise
        first += chunk
        if first.strip():
            break
    if first.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"{", b"<"):
        yield from _whole(first + b"".join(_capped(chunks)), reply)
        return
    yield from streamed(_joined(first, chunks), reply)


def streamed(chunks: Iterator[bytes], reply: Reply) -> Iterator[Piece]:
    for name, data in events(chunks):
        if name == "comment" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            reply.done = True
            break
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            if name == "error":
                raise faults.in_stream(data, reply.where, reply.model, reply.anything) from None
            reply.skipped += 1
            continue
        if name == "ping" or not isinstance(body, dict):
            if name == "error":
                raise faults.in_stream(body, reply.where, reply.model, reply.anything)
            continue
        yield from _event(name, body, reply)
    if reply.done and not reply.finish and reply.anything:
        reply.finish = "complete"
        yield Piece(finish="complete")
    if reply.skipped and reply.anything:
        yield Piece(notice=f"{reply.where} sent {reply.skipped} broken events: they were skipped.")


def _event(name: str, body: dict[str, Any], reply: Reply) -> Iterator[Piece]:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta = choice.get("delta") if isinstance(choice.get("delta"), dict) else choice.get("message")
    delta = delta if isinstance(delta, dict) else {}
    text = _text(delta.get("content")) or _text(delta.get("refusal")) or _text(choice.get("text"))
    thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
    if thought:
        reply.reasoned = True
        yield Piece(reasoning=thought)
    if text := reply.joined(text):
        reply.size += len(text)
        yield Piece(text=text)
        if reply.size > LONGEST_REPLY:
            raise ReplyIncomplete(f"The reply is over {LONGEST_REPLY >> 20} MB long.", "What arrived is kept.")
    if usage := _usage(body.get("usage")):
        yield Piece(usage=usage)
    if body.get("error") or (name == "error" and not choice):
        raise faults.in_stream(body, reply.where, reply.model, reply.anything)
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason:
        if reason in ("error", "insufficient_system_resource"):
            raise faults.in_stream({"error": f"finish reason {reason}"}, reply.where, reply.model, reply.anything)
        reply.finish = _FINISH.get(reason, "complete")
        yield Piece(finish=reply.finish)


def _whole(data: bytes, reply: Reply) -> Iterator[Piece]:
    """A body that is no stream: a whole completion is used, anything else is an error."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        if not text.strip():
            return
        raise ServerFailed(
            f"{reply.where} answered with no reply but {faults.said(text) or 'something else'}.",
            "Is base_url an API, not a web page? Does it need /v1 at its end? A proxy's login page?",
        ) from None
    if not isinstance(body, dict) or body.get("error") or not isinstance(body.get("choices"), list):
        raise faults.in_stream(body, reply.where, reply.model, False)
    yield from _event("message", body, reply)
    if reply.anything and not reply.finish:
        reply.finish = "complete"
        yield Piece(finish="complete")


def _text(content: object) -> str:
    """The text of a content that may be a string, null, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (p.get("text") if isinstance(p, dict) else p for p in content)
        return "".join(p for p in parts if isinstance(p, str))
    return ""


def _usage(usage: object) -> Usage | None:
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
        if size > LONGEST_REPLY:
            raise ServerFailed(f"The server sent over {LONGEST_REPLY >> 20} MB that are no stream.", "Check base_url.")
        yield chunk


def _joined(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
