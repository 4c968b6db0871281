"""Text from elsewhere cannot control the terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem.errors import ServerError
from chatmem.terminal.markdown_renderer import MarkdownRenderer
from chatmem.terminal.markdown_stream import MarkdownStream
from chatmem.terminal.sanitize import MAX_ZERO_WIDTH, escape_json, limit_zero_width, sanitize, sanitize_line
from chatmem.terminal.terminal import Terminal, wrap

PAYLOADS = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x1b]52;c;aGk=\x1b\\", "\x1b]8;;https://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\", "\x1b_apc\x1b\\", "\x1b^pm\x1b\\", "\x1bc", "\x1b[2J", "\x1b[6n", "\x1b[?1049h", "\x9b31m", "\x9d0;t\x9c", "\x90q\x9c",
    "\x07", "\x08\x08", "\x0b", "\x0c", "\x0e", "\x0f", "\x05", "\x00", "\x7f", "a\rb", "\u202egnp.exe", "\u2066x\u2069", "\u200f", "\u061c",
    "\U000e0041\U000e0042", "\ud800", "\ufeff", "\u2028", "\u2029", "\x84", "\x1bZ", "\x1b[>0c", "[/nope]", "[bold]x[/bold]", "[link=https://evil.example]x[/link]",
]  # fmt: skip
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[[0-9]*A|\x1b\[J|\x1b\[K|\x1b\[\?7[lh]|\r?\n|\r")
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.claim("hostile text: control sequences let through")
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "channel", ["sanitize", "write", "info", "error", "reply", "reply split", "code", "link", "table", "heading"]
)
def test_only_our_own_control_sequences_reach_the_terminal(
    payload: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Tty()
    terminal = Terminal(out, out)
    if channel == "sanitize":
        out.write(sanitize(payload))
    elif channel == "write":
        terminal.write(payload)
    elif channel == "info":
        terminal.info(payload)
    elif channel == "error":
        terminal.error(ServerError(payload, payload))
    else:
        text = {
            "code": f"```{payload}\n{payload}\n```",
            "link": f"[{payload}](https://x/{payload})",
            "table": f"|a|\n|-|\n|{payload}|",
            "heading": f"# {payload}",
        }.get(channel, payload)
        with MarkdownStream(terminal, frame=0) as stream:
            for piece in text if channel == "reply split" else [text]:
                stream.feed(piece, piece)
                stream.draw()
    rest = OURS.sub("", out.getvalue())
    assert not CONTROL.search(rest), repr(rest)


@given(st.text())
def test_sanitize_removes_control_characters_and_is_idempotent(text: str) -> None:
    assert not CONTROL.search(sanitize(text)) and sanitize(sanitize(text)) == sanitize(text)


@given(
    st.text(alphabet=st.characters(whitelist_categories=["L", "N", "P", "Zs"], whitelist_characters="\n\t👩‍👩‍👧\u200d"))
)
def test_sanitize_leaves_ordinary_text_unchanged(text: str) -> None:
    assert sanitize(text) == text


@given(st.text(min_size=1), st.integers(0, 20))
def test_rendered_markdown_contains_no_control_characters(text: str, at: int) -> None:
    for line in MarkdownRenderer(40).render(sanitize(text)):
        assert not CONTROL.search(OURS.sub("", line))


@pytest.mark.parametrize("width", [1, 8, 20, 80])
def test_a_notice_wraps_between_words_and_keeps_all_of_them(width: int) -> None:
    text = "  Ctrl-C stops a reply and keeps what arrived; averyveryverylongword stays whole."
    wrapped = wrap(text, width)
    assert wrapped.replace("\n", " ") == text
    assert all(len(line) <= width or " " not in line.strip() for line in wrapped.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x00\x1b\x1f", "^@^[^_"),
        ("\x7f", "^?"),
        ("\x80\x9b\x9f", r"\x80\x9b\x9f"),
        ("\u061c\u200e\u2028\u202e\u2066\ufeff\ufff9", r"\u061c\u200e\u2028\u202e\u2066\ufeff\ufff9"),
        ("\ud800\udfff", "\ufffd\ufffd"),
        ("a\U000e0041\U000e007fb", "ab"),
        ("one\r\ntwo\rthree\n\tfour", "one\ntwo\nthree\n\tfour"),
        ("\xa0 \u200d é 漢 👩‍👧", "\xa0 \u200d é 漢 👩‍👧"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_each_unsafe_character_has_a_visible_form_and_all_others_stay(text: str, shown: str) -> None:
    assert sanitize(text) == shown


def test_a_sanitized_line_is_one_line() -> None:
    assert sanitize_line(" one\n two\x1b[2J\r\n\tthree ") == "one two^[[2J three"


@pytest.mark.parametrize(
    "text",
    ["plain", "\x7f", "\x9b31m é 漢", "\u202e\u2066\ufeff\u2028", "\U000e0041", "\ud800", "a\n\t\x1b", '"\\', ""],
)
def test_escaped_json_has_no_unsafe_character_and_the_same_value(text: str) -> None:
    escaped = escape_json(json.dumps({"text": text}, ensure_ascii=False, indent=1))
    assert json.loads(escaped) == {"text": text}
    assert sanitize(escaped) == escaped and escaped.startswith("{\n") and ("é" in escaped) == ("é" in text)


@pytest.mark.parametrize("mark", ["\u0301", "\u0e47", "\U000e0100", "\u05b0", "\u2060", "\ufe20", "\u064b"])
def test_a_long_run_of_characters_without_width_is_cut_and_text_is_kept(mark: str) -> None:
    assert limit_zero_width("a" + mark * 1000 + "b") == "a" + mark * MAX_ZERO_WIDTH + "b"
    assert limit_zero_width("Ã©" + "e\u0301" * 100 + "日本") == "Ã©" + "e\u0301" * 100 + "日本"
