"""Sanitizing foreign text, so that it cannot control the terminal.

Control characters become caret notation (`^[`), C1 and bidi controls become visible escapes, tag characters are
removed. Newlines, tabs and the joiners that emoji and many scripts need stay. Without ESC and C1 no escape sequence can
begin, so there is nothing to parse. See CWE-150 and Unicode TR 36 for what such text can do.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

MAX_ZERO_WIDTH = 8
"""The most characters without a width in a row: more make drawing slow."""
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def sanitize(text: str) -> str:
    """The text as it may be printed on a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n").replace("\r", "\n"))


def sanitize_line(text: str) -> str:
    """The text as it may be printed on one line of a terminal."""
    if text.isalnum() and text.isascii():
        return text
    return " ".join(sanitize(text).split())


@lru_cache(maxsize=4096)
def limit_zero_width(text: str) -> str:
    """The text with at most `MAX_ZERO_WIDTH` zero-width characters, such as accents, in a row."""
    if text.isascii():
        return text
    from wcwidth import wcwidth  # imported lazily: slow

    kept, run = [], 0
    for character in text:
        run = 0 if character.isascii() or wcwidth(character) else run + 1
        if run <= MAX_ZERO_WIDTH:
            kept.append(character)
    return "".join(kept)


def escape_json(text: str) -> str:
    """JSON with every unsafe character as a `\\uXXXX` escape, which means the same. Its newlines stay."""
    return _UNSAFE.sub(lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    if character == "\x7f":
        return "\\u007f"
    return json.dumps(character)[1:-1]


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return "^" + chr(code + 0x40)
    if code == 0x7F:
        return "^?"
    if code < 0xA0:
        return f"\\x{code:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return "" if code >= 0xE0000 else f"\\u{code:04x}"
