"""`show()`: nothing foreign drives the terminal."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem.errors import ServerFailed
from chatmem.screen.markdown import MarkdownStream
from chatmem.screen.page import Renderer
from chatmem.screen.safe import show
from chatmem.screen.terminal import Terminal, at_words

PAYLOADS = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x1b]52;c;aGk=\x1b\\", "\x1b]8;;https://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1bP+q544e\x1b\\", "\x1b_apc\x1b\\", "\x1b^pm\x1b\\", "\x1bc", "\x1b[2J", "\x1b[6n", "\x1b[?1049h", "\x9b31m", "\x9d0;t\x9c", "\x90q\x9c",
    "\x07", "\x08\x08", "\x0b", "\x0c", "\x0e", "\x0f", "\x05", "\x00", "\x7f", "a\rb", "\u202egnp.exe", "\u2066x\u2069", "\u200f", "\u061c",
    "\U000e0041\U000e0042", "\ud800", "\ufeff", "\u2028", "[/nope]", "[bold]x[/bold]", "[link=https://evil.example]x[/link]",
]  # fmt: skip
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[[0-9]*A|\x1b\[J|\x1b\[K|\x1b\[\?7[lh]|\r?\n|\r")
FOREIGN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize(
    "way", ["show", "answer", "note", "error", "reply", "reply split", "code", "link", "table", "heading"]
)
def test_no_byte_beyond_our_own_reaches_the_terminal(payload: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Tty()
    terminal = Terminal(out, out)
    if way == "show":
        out.write(show(payload))
    elif way == "answer":
        terminal.answer(payload)
    elif way == "note":
        terminal.note(payload)
    elif way == "error":
        terminal.error(ServerFailed(payload, payload))
    else:
        text = {
            "code": f"```{payload}\n{payload}\n```",
            "link": f"[{payload}](https://x/{payload})",
            "table": f"|a|\n|-|\n|{payload}|",
            "heading": f"# {payload}",
        }.get(way, payload)
        with MarkdownStream(terminal, frame=0) as stream:
            for piece in text if way == "reply split" else [text]:
                stream.feed(piece, piece)
                stream.draw()
    left = OURS.sub("", out.getvalue())
    assert not FOREIGN.search(left), repr(left)


@given(st.text())
def test_show_leaves_nothing_foreign_and_does_it_once(text: str) -> None:
    assert not FOREIGN.search(show(text)) and show(show(text)) == show(text)


@given(
    st.text(alphabet=st.characters(whitelist_categories=["L", "N", "P", "Zs"], whitelist_characters="\n\t👩‍👩‍👧\u200d"))
)
def test_show_leaves_ordinary_text_as_it_is(text: str) -> None:
    assert show(text) == text


@given(st.text(min_size=1), st.integers(0, 20))
def test_markdown_lets_nothing_foreign_through(text: str, at: int) -> None:
    for line in Renderer(40).whole(show(text)):
        assert not FOREIGN.search(OURS.sub("", line))


@pytest.mark.parametrize("width", [1, 8, 20, 80])
def test_a_note_breaks_between_words_and_keeps_its_length(width: int) -> None:
    text = "  Ctrl-C stops a reply and keeps what arrived; averyveryverylongword stays whole."
    fitted = at_words(text, width)
    assert fitted.replace("\n", " ") == text
    assert all(len(line) <= width or " " not in line.strip() for line in fitted.split("\n"))
