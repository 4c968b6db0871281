"""Streamed Markdown: finished output equals one whole render, and every paragraph stands once in the scrollback."""

from __future__ import annotations

import io
import os
import random
import re

import pyte
import pytest

from chatmem.screen import markdown as screen_markdown
from chatmem.screen.blocks import Blocks
from chatmem.screen.markdown import MarkdownStream
from chatmem.screen.page import Renderer
from chatmem.screen.terminal import Terminal

WORDS = "alpha beta 日本語 gamma 🎉 délta *em* **strong** `code` [link](https://a.example/x) ~~gone~~ <b>raw</b> e\u0301 👩‍👩‍👧 zeta".split()


def line(chance: random.Random, most: int = 14) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(chance.randrange(1, most)))


def block(chance: random.Random, number: int, depth: int = 0) -> str:
    kind = chance.choice(
        ["paragraph"] * 4
        + ["heading", "fence", "bullets", "numbers", "quote", "table", "rule", "indented", "setext", "reference"]
    )
    mark = f"P{number:03}"
    if kind == "heading":
        return f"{'#' * chance.randrange(1, 7)} {mark} {line(chance, 5)}\n"
    if kind == "fence":
        language = chance.choice(["python", "", "js", "nosuchlanguage"])
        fence = chance.choice(["```", "~~~", "````"])
        code = "\n".join(
            chance.choice(["def f(x):", "    return 1", "", "# comment", '"""doc', 'more"""', "日本 = 'x'", "   "])
            for _ in range(chance.randrange(0, 9))
        )
        return f"{mark}\n\n{fence}{language}\n{code}\n{fence}\n"
    if kind == "bullets":
        mark_ = chance.choice("-*+")
        items = []
        for _ in range(chance.randrange(1, 6)):
            items.append(f"{mark_} {mark} {line(chance, 6)}")
            if depth < 1 and chance.random() < 0.3:
                items.append("  - nested " + line(chance, 4))
            if chance.random() < 0.2:
                items.append("")
        return "\n".join(items) + "\n"
    if kind == "numbers":
        return (
            "\n".join(f"{n}. {mark} {line(chance, 6)}" for n in range(chance.randrange(1, 3), chance.randrange(4, 13)))
            + "\n"
        )
    if kind == "quote":
        return "\n".join(f"> {mark} {line(chance, 8)}" for _ in range(chance.randrange(1, 4))) + "\n"
    if kind == "table":
        width = chance.randrange(1, 4)
        rows = ["| " + " | ".join([mark] * width) + " |", "|" + "---|" * width]
        rows += ["| " + " | ".join(line(chance, 3) for _ in range(width)) + " |" for _ in range(chance.randrange(0, 5))]
        return "\n".join(rows) + "\n"
    if kind == "rule":
        return "---\n"
    if kind == "indented":
        return f"{mark}\n\n    indented code\n    more of it\n"
    if kind == "setext":
        return f"{mark} {line(chance, 3)}\n======\n"
    if kind == "reference":
        return f"[ref{number}]: https://ref.example/{number}\n\n{mark} see [ref{number}]\n"
    return "\n".join(f"{mark} {line(chance)}" for _ in range(chance.randrange(1, 4))) + "\n"


def document(chance: random.Random) -> str:
    text = "\n".join(block(chance, n) for n in range(chance.randrange(1, 9)))
    if chance.random() < 0.15:
        text += "\n```python\nunclosed = True\n"
    return text if chance.random() < 0.7 else text.rstrip("\n")


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;]*m", "", one) for one in lines]


def streamed(text: str, chance: random.Random, width: int) -> list[str]:
    blocks, renderer, lines, start = Blocks(), Renderer(width), [], 0
    while start < len(text):
        size = chance.choice([1, 2, 5, 17, 80])
        lines += renderer.lines(blocks.feed(text[start : start + size]))
        renderer.lines(blocks.open())
        start += size
    return lines + renderer.lines(blocks.finish())


def check(chance: random.Random, times: int) -> None:
    for _ in range(times):
        seed = chance.randrange(1 << 40)
        own = random.Random(seed)
        text, width = document(own), own.choice([20, 37, 80, 120])
        got, whole = plain(streamed(text, own, width)), plain(Renderer(width).whole(text))
        assert got == whole, f"random.Random({seed}), width {width}:\n{text}"


def test_any_chunking_of_400_documents_gives_one_whole_render(chance: random.Random) -> None:
    check(chance, 400)


@pytest.mark.long
def test_any_chunking_of_20000_documents_gives_one_whole_render(chance: random.Random) -> None:
    check(chance, 20_000)


class Screen(Terminal):
    """A terminal whose every byte goes through an emulator with scrollback."""

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
def test_scrollback_and_screen_equal_one_whole_render(chance: random.Random, height: int) -> None:
    for _ in range(12):
        text, width = document(chance).replace("👩‍👩‍👧", "").replace("e\u0301", "é"), 60
        screen = Screen(width, height)
        with MarkdownStream(screen, frame=0) as stream:
            start = 0
            while start < len(text):
                size = chance.choice([1, 3, 9, 40])
                stream.feed(text[start : start + size])
                stream.draw()
                start += size
        expected = [one.rstrip() for one in plain(Renderer(width).whole(text))]
        got = list(screen.everything)
        while got and not got[-1]:
            got.pop()
        while expected and not expected[-1]:
            expected.pop()
        assert got == expected, text


@pytest.mark.parametrize("to", [40, 100])
def test_a_resize_in_the_middle_shows_every_paragraph_once(chance: random.Random, to: int) -> None:
    screen = Screen(70, 12)
    text = "\n\n".join(f"P{n:03} " + " ".join("word" for _ in range(8)) for n in range(60)) + "\n"
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), 7):
            if start // 7 == len(text) // 14:
                screen.emulator.resize(12, to)
            stream.feed(text[start : start + 7])
            stream.draw()
    everything = "\n".join(screen.everything)
    assert [everything.count(f"P{n:03}") for n in range(60)] == [1] * 60


def test_a_block_taller_than_the_screen_is_not_repeated(chance: random.Random) -> None:
    screen = Screen(60, 10)
    text = "".join(f"{n}. item number {n} of many\n" for n in range(1, 61))
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), 11):
            stream.feed(text[start : start + 11])
            stream.draw()
    everything = "\n".join(screen.everything)
    assert [everything.count(f"item number {n} of") for n in range(1, 61)] == [1] * 60


def test_the_screen_is_never_cleared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some terminals push what is cleared from the top row into the scrollback."""
    screen, written = Screen(40, 5), []
    monkeypatch.setattr(screen, "raw", lambda text: written.append(text))
    with MarkdownStream(screen, frame=0) as stream:
        for n in range(40):
            stream.feed(f"{n + 1}. item\n")
            stream.draw()
    assert not any(re.search(r"A\r?\x1b\[J", text) for text in written)


def test_thoughts_are_shown_dimmed_before_the_reply() -> None:
    screen = Screen(60, 24)
    screen.out.isatty = lambda: True  # type: ignore[method-assign]
    with MarkdownStream(screen, frame=0) as stream:
        for thought in ("Let me ", "think.\nSo: ", "yes."):
            stream.feed("", thought)
            stream.draw()
        stream.feed("The answer.")
        stream.draw()
    assert [row for row in screen.everything if row] == ["Let me think.", "So: yes.", "The answer."]
    assert stream.text == "The answer."


def test_links_show_their_target() -> None:
    assert "(https://evil.example/x)" in " ".join(
        plain(Renderer(80).whole("[https://good.example](https://evil.example/x)"))
    )


@pytest.mark.parametrize("width", range(20, 24))
def test_narrow_terminals_are_no_crash(chance: random.Random, width: int) -> None:
    for _ in range(10):
        streamed(document(chance), chance, width)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = "\n".join(Renderer(40, ascii_only=True).whole("- a\n\n> b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"))
    assert text.isascii()


def test_no_colour_keeps_the_weight_and_drops_the_colour() -> None:
    text = "\n".join(Renderer(60, colour=False).whole("**bold** `code`\n\n```python\nx = 'y'\n```\n"))
    assert "\x1b[1m" in text and not re.search(r"\x1b\[[0-9;]*3\dm", text)


def test_frames_are_limited_and_the_last_one_is_never_missing() -> None:
    screen = Screen(60, 24)
    with MarkdownStream(screen, frame=screen_markdown.FRAME) as stream:
        for n in range(2000):
            stream.feed(f"word{n} ")
    assert any("word1999" in row for row in screen.everything) and screen.bytes < 400_000


def shown_of(text: str, columns: int = 40, step: int = 7) -> list[str]:
    """The lines on the screen, and in the scrollback, after a text came in pieces."""
    screen = Screen(columns, 40)
    with MarkdownStream(screen, frame=0) as stream:
        for start in range(0, len(text), step):
            stream.feed(text[start : start + step])
            stream.draw()
    return [line.rstrip() for line in screen.everything]


def test_a_link_whose_definition_comes_late_still_shows_its_target() -> None:
    lines = shown_of(
        "See [the docs][1] or [here].\n\nMore.\n\n[1]: https://a.example/x\n[here]: https://b.example\n[c]: d\n"
    )
    assert [line for line in lines if line][-2:] == ["[1]: https://a.example/x", "[here]: https://b.example"]


def test_a_long_line_of_code_is_written_as_one_line_and_no_word_of_it_is_lost() -> None:
    code = "x = [" + ", ".join(f"item_{n:02}" for n in range(20)) + "]"
    everything = "".join(shown_of(f"```python\n{code}\n```\n\nafter\n"))
    assert code.replace(" ", "") in everything.replace(" ", "")
    in_list = " ".join(shown_of(f"- an item\n\n  ```python\n  {code}\n  ```\n\nafter\n"))
    assert all(f"item_{n:02}" in in_list for n in range(20))
