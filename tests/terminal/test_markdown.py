"""Streamed Markdown: the finished output equals one render of the whole text, with every paragraph once."""

from __future__ import annotations

import io
import os
import random
import re
import threading
import time
from collections.abc import Generator

import pyte
import pytest
from markdown_it.token import Token

from chatmem.models.base import StreamChunk
from chatmem.terminal import incremental_markdown, markdown_stream
from chatmem.terminal.colors import THEMES
from chatmem.terminal.incremental_markdown import IncrementalMarkdown
from chatmem.terminal.markdown_renderer import MarkdownRenderer, visible_width
from chatmem.terminal.markdown_stream import SPINNER, MarkdownStream
from chatmem.terminal.open_block import OpenBlock
from chatmem.terminal.reply import print_reply
from chatmem.terminal.terminal import Terminal
from tests.conftest import RecordProperty
from tests.long_blocks import LONG_BLOCKS, long_block

WORDS = "alpha beta 日本語 gamma 🎉 délta *em* **strong** `code` [link](https://a.example/x) ~~gone~~ <b>raw</b> e\u0301 👩‍👩‍👧 zeta".split()


def line(rng: random.Random, limit: int = 14) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, limit)))


def block(rng: random.Random, number: int, depth: int = 0) -> str:
    kind = rng.choice(
        ["paragraph"] * 4
        + ["heading", "fence", "bullets", "numbers", "quote", "table", "rule", "indented", "setext", "reference"]
    )
    mark = f"P{number:03}"
    if kind == "heading":
        return f"{'#' * rng.randrange(1, 7)} {mark} {line(rng, 5)}\n"
    if kind == "fence":
        language = rng.choice(["python", "", "js", "nosuchlanguage"])
        indent = " " * rng.choice([0, 0, 0, 1, 3])
        fence = rng.choice(["```", "~~~", "````"])
        code = "\n".join(
            rng.choice(
                [
                    "def f(x):",
                    "    return 1",
                    "",
                    "# comment",
                    '"""doc',
                    'more"""',
                    "日本 = 'x'",
                    "   ",
                    "\tx",
                    " \t~~~",
                    "\t" + fence,
                ]
            )
            for _ in range(rng.randrange(0, 9))
        )
        return f"{mark}\n\n{indent}{fence}{language}\n{code}\n{fence}\n"
    if kind == "bullets":
        bullet = rng.choice("-*+")
        items = []
        for _ in range(rng.randrange(1, 6)):
            items.append(f"{bullet} {mark} {line(rng, 6)}")
            if depth < 1 and rng.random() < 0.3:
                items.append("  - nested " + line(rng, 4))
            if rng.random() < 0.2:
                items.append("")
            if rng.random() < 0.1:
                items += ["", "  | a | b |", "  |---|---|", *["  | 1 | 2 |"] * rng.randrange(2)]
        return "\n".join(items) + "\n"
    if kind == "numbers":
        return "\n".join(f"{n}. {mark} {line(rng, 6)}" for n in range(rng.randrange(1, 3), rng.randrange(4, 13))) + "\n"
    if kind == "quote":
        return "\n".join(f"> {mark} {line(rng, 8)}" for _ in range(rng.randrange(1, 4))) + "\n"
    if kind == "table":
        width = rng.randrange(1, 4)
        rows = ["| " + " | ".join([mark] * width) + " |", "|" + "---|" * width]
        rows += ["| " + " | ".join(line(rng, 3) for _ in range(width)) + " |" for _ in range(rng.randrange(0, 5))]
        return "\n".join(rows) + "\n"
    if kind == "rule":
        return "---\n"
    if kind == "indented":
        return f"{mark}\n\n    indented code\n    more of it\n"
    if kind == "setext":
        return f"{mark} {line(rng, 3)}\n======\n"
    if kind == "reference":
        return f"[ref{number}]: https://ref.example/{number}\n\n{mark} see [ref{number}]\n"
    return "\n".join(f"{mark} {line(rng)}" for _ in range(rng.randrange(1, 4))) + "\n"


def document(rng: random.Random) -> str:
    text = "\n".join(block(rng, n) for n in range(rng.randrange(1, 9)))
    if rng.random() < 0.15:
        text += "\n```python\nunclosed = True\n"
    return text if rng.random() < 0.7 else text.rstrip("\n")


def without_color(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", one) for one in lines]


def stream_lines(text: str, rng: random.Random, width: int) -> list[str]:
    blocks, renderer, lines, start = IncrementalMarkdown(), MarkdownRenderer(width), [], 0
    open_block = OpenBlock(blocks, renderer)
    while start < len(text):
        size = rng.choice([1, 2, 5, 17, 80])
        lines += renderer.lines(blocks.feed(text[start : start + size]))
        open_block.rows(24)
        start += size
    return lines + renderer.lines(blocks.finish())


def check(rng: random.Random, times: int) -> None:
    for _ in range(times):
        seed = rng.randrange(1 << 40)
        own = random.Random(seed)
        text, width = document(own), own.choice([20, 37, 80, 120])
        streamed, whole = (
            without_color(stream_lines(text, own, width)),
            without_color(MarkdownRenderer(width).render(text)),
        )
        assert streamed == whole, f"random.Random({seed}), width {width}:\n{text}"


@pytest.mark.no_cover
@pytest.mark.claim("documents in chunks: rendered differently")
def test_any_chunking_of_30_documents_gives_the_same_lines_as_one_render(
    rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 30)
    check(rng, 30)


@pytest.mark.claim("documents in chunks: rendered differently")
@pytest.mark.long
def test_any_chunking_of_20000_documents_gives_the_same_lines_as_one_render(
    rng: random.Random, record_property: RecordProperty
) -> None:
    record_property("cases", 20_000)
    check(rng, 20_000)


class EmulatedTerminal(Terminal):
    """A terminal whose output goes through an emulator with scrollback."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self.emulator = pyte.HistoryScreen(columns, lines, history=100_000, ratio=0.5)
        self.feeder = pyte.Stream(self.emulator)
        self.bytes = 0

    def raw(self, text: str) -> None:
        self.bytes += len(text)
        self.feeder.feed(text.replace("\n", "\r\n"))

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.emulator.columns, self.emulator.lines))

    @property
    def everything(self) -> list[str]:
        width = self.emulator.columns
        history = ["".join(row[x].data for x in range(width)) for row in self.emulator.history.top]
        return [row.rstrip() for row in [*history, *self.emulator.display]]


@pytest.mark.parametrize("height", [10, 24, 40])
def test_scrollback_and_screen_equal_one_render(rng: random.Random, height: int) -> None:
    for _ in range(12):
        text, width = document(rng).replace("👩‍👩‍👧", "").replace("e\u0301", "é"), 60
        screen = EmulatedTerminal(width, height)
        with MarkdownStream(screen, frame=0) as stream:
            start = 0
            while start < len(text):
                size = rng.choice([1, 3, 9, 40])
                stream.feed(text[start : start + size])
                stream.draw()
                start += size
        expected = [one.rstrip() for one in without_color(MarkdownRenderer(width).render(text))]
        got = list(screen.everything)
        while got and not got[-1]:
            got.pop()
        while expected and not expected[-1]:
            expected.pop()
        assert got == expected, text


@pytest.mark.parametrize("to", [40, 100])
def test_a_resize_in_the_middle_shows_every_paragraph_once(rng: random.Random, to: int) -> None:
    screen = EmulatedTerminal(70, 12)
    text = "\n\n".join(f"P{n:03} " + " ".join("word" for _ in range(8)) for n in range(60)) + "\n"
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), 7):
            if start // 7 == len(text) // 14:
                screen.emulator.resize(12, to)
            stream.feed(text[start : start + 7])
            stream.draw()
    everything = "\n".join(screen.everything)
    assert [everything.count(f"P{n:03}") for n in range(60)] == [1] * 60


def test_a_block_taller_than_the_screen_is_not_repeated(rng: random.Random) -> None:
    screen = EmulatedTerminal(60, 10)
    text = "".join(f"{n}. item number {n} of many\n" for n in range(1, 61))
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), 11):
            stream.feed(text[start : start + 11])
            stream.draw()
    everything = "\n".join(screen.everything)
    assert [everything.count(f"item number {n} of") for n in range(1, 61)] == [1] * 60


def test_the_screen_is_never_cleared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some terminals move lines that are cleared from the top row into the scrollback."""
    screen, written = EmulatedTerminal(40, 5), []
    monkeypatch.setattr(screen, "raw", lambda text: written.append(text))
    with MarkdownStream(screen, frame=0) as stream:
        for n in range(40):
            stream.feed(f"{n + 1}. item\n")
            stream.draw()
    assert not any(re.search(r"A\r?\x1b\[J", text) for text in written)


def test_the_last_line_of_reasoning_is_shown_until_it_collapses_to_its_seconds() -> None:
    screen = EmulatedTerminal(60, 24)
    with MarkdownStream(screen, frame=0) as stream:
        for reasoning in ("Let me ", "think.\nSo: ", "yes."):
            stream.feed("", reasoning)
            stream.draw()
        (shown,) = [row for row in screen.everything if row]
        assert re.fullmatch(rf"[{SPINNER}] thinking, 0 s: So: yes\.", shown)
        stream._thinking_since = time.monotonic() - 12
        stream.feed("Yes, it is.")
        stream.draw()
    assert [row for row in screen.everything if row] == ["Thought for 12 s.", "Yes, it is."]


def test_reasoning_wider_than_the_screen_takes_one_row() -> None:
    screen = EmulatedTerminal(40, 24)
    with MarkdownStream(screen, frame=0) as stream:
        stream.feed("", "漢字" * 200 + "\x1b[31m the end")
        stream.draw()
        rows = [row for row in screen.everything if row]
        assert len(rows) == 1 and rows[0].endswith("the end")


def test_code_blocks_are_numbered_in_order_wherever_they_stand() -> None:
    text = "- a\n\n  ```py\n  x\n  ```\n\n```\ny\n```\n\n    z\n\n> ```sh\n> q\n> ```\n"
    rows = without_color(MarkdownRenderer(40).render(text))
    heads = [row.strip("▌ ").rstrip("─ ") for row in rows if re.search(r"── \d", row)]
    assert heads == ["── 1 · py", "── 2", "── 3", "── 4 · sh"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("before ![alt](http://x/y.png) after", ["before alt (http://x/y.png) after"]),
        ("- one\n- two ![a](b) tail", [" • one", " • two a (b) tail"]),
        ("[![badge](b.svg)](http://l)", ["badge (b.svg) (http://l)"]),
        ("![](u)", ["image (u)"]),
        ("#####\n\ntext", ["text"]),
        ("> \n\ntext", ["text"]),
        ("a\n\n#####\n\nb", ["a", "", "b"]),
        ("``` js\nx\n```", ["── 1 · js " + "─" * 50, "x", "─" * 60]),
    ],
)
def test_images_are_shown_where_they_stand_and_empty_blocks_not_at_all(
    rng: random.Random, text: str, lines: list[str]
) -> None:
    assert without_color(MarkdownRenderer(80).render(text)) == lines == without_color(stream_lines(text, rng, 80))


def test_links_show_their_target() -> None:
    assert "(https://evil.example/x)" in " ".join(
        without_color(MarkdownRenderer(80).render("[https://good.example](https://evil.example/x)"))
    )


@pytest.mark.parametrize("width", range(20, 24))
def test_narrow_terminals_are_supported(rng: random.Random, width: int) -> None:
    for _ in range(10):
        stream_lines(document(rng), rng, width)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = "\n".join(MarkdownRenderer(40, ascii_only=True).render("- a\n\n> b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"))
    assert text.isascii()


def test_without_color_bold_text_stays_bold() -> None:
    text = "\n".join(MarkdownRenderer(60, THEMES["plain"]).render("**bold** `code`\n\n```python\nx = 'y'\n```\n"))
    assert "\x1b[1m" in text and not re.search(r"\x1b\[[0-9;]*3\dm", text)


def test_frames_are_limited_and_the_last_one_is_always_drawn() -> None:
    screen = EmulatedTerminal(60, 24)
    with MarkdownStream(screen, frame=markdown_stream.FRAME_SECONDS) as stream:
        for n in range(2000):
            stream.feed(f"word{n} ")
    assert any("word1999" in row for row in screen.everything) and screen.bytes < 400_000


def lines_after_streaming(text: str, columns: int = 40, step: int = 7) -> list[str]:
    """The lines of the scrollback and the screen after a text arrived in pieces."""
    screen = EmulatedTerminal(columns, 40)
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), step):
            stream.feed(text[start : start + step])
            stream.draw()
    return [line.rstrip() for line in screen.everything]


APPROXIMATE = {"table", "numbers", "loose numbers", "code", "code line", "quoted code line", "table row", "entities"}
"""Blocks whose preview depends on the whole block, and those that are split anywhere."""


class CountingParser:
    """Counts the characters that are parsed."""

    def __init__(self) -> None:
        self.parser, self.characters = incremental_markdown.parser(), 0

    def parse(self, source: str, env: dict[str, object]) -> list[Token]:
        self.characters += len(source)
        return self.parser.parse(source, env)


@pytest.mark.parametrize("kind", LONG_BLOCKS)
def test_work_and_output_grow_linearly_with_a_block(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, written = [], []
    for words in (600, 1_200):
        counting = CountingParser()
        monkeypatch.setattr(incremental_markdown, "parser", lambda counting=counting: counting)
        screen = EmulatedTerminal(80, 24)
        monkeypatch.setattr(screen, "raw", lambda text, out=screen.out: out.write(text))
        text = long_block(kind, words)
        with MarkdownStream(screen, frame=0) as stream:
            for start in range(0, len(text), 5):
                stream.feed(text[start : start + 5])
                stream.draw()
        parsed.append(counting.characters)
        written.append(screen.out.tell())
    assert parsed[1] <= 2.4 * parsed[0] + 5_000
    assert written[1] <= 2.4 * written[0] + 2_000
    if kind not in ("emphasis", "chinese"):  # rows change with each word; characters have three bytes
        assert written[1] <= 60 * len(text) / 5


@pytest.mark.parametrize("kind", [kind for kind in LONG_BLOCKS if kind not in APPROXIMATE])
def test_the_preview_of_a_long_block_equals_its_last_rows(kind: str) -> None:
    renderer, blocks, text = MarkdownRenderer(60), IncrementalMarkdown(), long_block(kind, 600)
    preview = OpenBlock(blocks, renderer)
    for start in range(0, len(text), 7):
        list(blocks.feed(text[start : start + 7]))
        whole = renderer.render_open(blocks.parse_open(blocks.rest), 0)
        whole = [""] * (blocks.blank_before_rest and bool(whole)) + whole
        assert without_color(preview.rows(24)) == without_color(whole[-24:])


@pytest.mark.parametrize("kind", ["table", "numbers"])
def test_the_preview_of_a_table_or_of_numbers_shows_the_last_complete_rows(kind: str) -> None:
    renderer, blocks, text = MarkdownRenderer(60), IncrementalMarkdown(), long_block(kind, 600)
    preview = OpenBlock(blocks, renderer)
    for start in range(0, len(text), 7):
        list(blocks.feed(text[start : start + 7]))
        preview.rows(24)
    whole = renderer.render(text)
    assert [row.split() for row in without_color(preview.rows(24))] == [
        row.split() for row in without_color(whole[-24:])
    ]


def test_text_is_taken_while_the_terminal_is_stuck() -> None:
    screen, stuck, may_go_on = EmulatedTerminal(60, 24), threading.Event(), threading.Event()
    write = screen.raw

    def wait_and_write(text: str) -> None:
        stuck.set()
        may_go_on.wait(60)
        write(text)

    screen.raw = wait_and_write  # type: ignore[method-assign]
    with MarkdownStream(screen) as stream:
        stream.feed("first ")
        assert stuck.wait(60)
        for n in range(1000):
            stream.feed(f"word{n} ")
        may_go_on.set()
    assert any("word999" in row for row in screen.everything)


def test_a_stall_in_the_middle_of_a_reply_is_shown_until_text_arrives() -> None:
    screen = EmulatedTerminal(60, 24)
    with MarkdownStream(screen, frame=0) as stream:
        stream.feed("Some text")
        stream.draw()
        assert not any("no new text" in row for row in screen.everything)
        stream._last_arrival -= 7
        stream.draw()
        text, notice = (row for row in screen.everything if row)
        assert (text, notice.lstrip(SPINNER + " ")) == ("Some text", "no new text for 7 s, Ctrl-C stops")
        stream.feed(" and more")
        stream.draw()
    assert [row for row in screen.everything if row] == ["Some text and more"]


def test_an_interrupted_reply_is_closed_before_its_last_frame_is_drawn() -> None:
    screen, order = EmulatedTerminal(60, 24), []
    screen.out.isatty = lambda: True  # type: ignore[method-assign]

    def chunks() -> Generator[StreamChunk]:
        try:
            yield StreamChunk("some text")
            raise KeyboardInterrupt
        finally:
            order.append("stored")

    write = screen.raw

    def note_and_write(text: str) -> None:
        order.append(text)
        write(text)

    screen.raw = note_and_write  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        print_reply(screen, chunks())
    assert order.index("stored") < len(order) - 1 and any("some text" in row for row in screen.everything)


def test_a_link_defined_later_still_shows_its_target() -> None:
    lines = lines_after_streaming(
        "See [the docs][1] or [here].\n\nMore.\n\n[1]: https://a.example/x\n[here]: https://b.example\n[c]: d\n"
    )
    assert [line for line in lines if line][-2:] == ["[1]: https://a.example/x", "[here]: https://b.example"]


def test_a_long_line_of_code_is_written_as_one_line() -> None:
    code = "x = [" + ", ".join(f"item_{n:02}" for n in range(20)) + "]"
    everything = "".join(lines_after_streaming(f"```python\n{code}\n```\n\nafter\n"))
    assert code.replace(" ", "") in everything.replace(" ", "")
    in_list = " ".join(lines_after_streaming(f"- an item\n\n  ```python\n  {code}\n  ```\n\nafter\n"))
    assert all(f"item_{n:02}" in in_list for n in range(20))


@pytest.mark.parametrize("language", ["日本語" * 20, "a" * 500, "e" + "\u0301" * 200, "x\u202e\x1b[31m"])
def test_the_rule_above_code_is_as_wide_as_the_one_below_whatever_the_language(language: str) -> None:
    for width in (20, 80):
        head, _, foot = without_color(MarkdownRenderer(width).render(f"```{language}\nx\n```\n"))
        assert visible_width(head) == visible_width(foot) == min(width, 60) and head.startswith("── 1 ")
        assert "\u202e" not in head and "\x1b" not in head
