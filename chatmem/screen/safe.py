"""`show()`: foreign text for a terminal, with nothing left in it that could drive one.

Control characters become caret notation (`^[`), C1 and bidi controls visible escapes, tag characters vanish; newline
and tab stay, and so do the joiners that emoji and many scripts need. Since no ESC and no C1 is left, no sequence can
begin: there is nothing to parse, and nothing to get wrong. See CWE-150 and Unicode TR 36 for what such text can do.
"""

from __future__ import annotations

import re

_FOREIGN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def show(text: str) -> str:
    """The text as it may reach a terminal. Apply it to whole texts, so that a split sequence cannot pass."""
    if text.isascii() and text.isprintable():
        return text
    return _FOREIGN.sub(_visible, text.replace("\r\n", "\n").replace("\r", "\n"))


def show_line(text: str) -> str:
    """The text on one line."""
    return " ".join(show(text).split())


def _visible(match: re.Match[str]) -> str:
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
