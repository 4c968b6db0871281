"""Recognition of servers that speak something other than OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WrongProtocolError(Exception):
    """A server that does not speak HTTP/1.1. The message says what it speaks."""


def protocol_of(data: bytes) -> str | None:
    """The protocol that the first bytes from a server belong to. None for HTTP/1.1 and for anything unknown.

    HTTP/2 begins with a preface or a SETTINGS frame of stream 0 (RFC 9113, section 3.4), TLS with an alert or a
    handshake record (RFC 8446, section 5.1).
    """
    if data.startswith(b"SSH-"):
        return "SSH"
    if data.startswith(b"PRI * HTTP/2") or (data[:1] == b"\0" and data[3:4] == b"\4" and data[5:9] == bytes(4)):
        return "HTTP/2 without TLS"
    if data[:2] in (b"\x15\x03", b"\x16\x03"):
        return "TLS"
    return None


def other_api(name: str, body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The API that an event or a whole response belongs to, and what to do about it. None if it is unknown.

    Anthropic's Messages API, Ollama's own API and OpenAI's Responses API are recognised.
    """
    kind = str(body.get("type") or name)
    if kind in ("message_start", "content_block_start", "content_block_delta", "message_delta") or (
        kind == "message" and isinstance(body.get("content"), list) and "stop_reason" in body
    ):
        return "Anthropic's own API", "Set base_url to Anthropic's OpenAI-compatible address, or to a gateway."
    if "done" in body and ("created_at" in body or "eval_count" in body) and ("message" in body or "response" in body):
        return "Ollama's own API", "Set base_url to Ollama's OpenAI-compatible address, which ends in /v1."
    if kind.startswith("response.") or body.get("object") == "response":
        return "OpenAI's Responses API", "Set base_url to an address that serves /chat/completions."
    return None
