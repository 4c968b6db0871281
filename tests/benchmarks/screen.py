"""The cost of rendering a streamed reply, compared to two other methods. CPU time, not wall time.

    python -m tests.benchmarks.screen [--quick]

100 tokens per second at 12.5 frames per second are a frame every 8 tokens. The other methods render the whole text for
each frame: one shows only the last six lines live and adapts its frame rate, the other draws everything.
"""

from __future__ import annotations

import gc
import io
import os
import random
import time
from collections.abc import Iterator

from chatmem.terminal.markdown_renderer import MarkdownRenderer
from chatmem.terminal.markdown_stream import MarkdownStream
from chatmem.terminal.reply import preload
from chatmem.terminal.terminal import Terminal
from tests.benchmarks.rows import Claim, Row, measured

SIZES = (1_000, 7_000, 25_000)
TOKEN = {size: Claim(f"rendering a token of {size:,}", " µs") for size in SIZES}
FRAME = {size: Claim(f"slowest frame of {size:,} tokens", " ms", at_most=10.0) for size in SIZES}
GROWTH = Claim("rendering a token of a very long reply", compared_to="one of 7,000 tokens", at_most=1.6)
WINDOW = {
    size: Claim(
        f"whole text, six live lines, {size:,} tokens", compared_to="ours", at_least=10.0 if size == 7_000 else None
    )
    for size in SIZES[:2]
}
WHOLE = {size: Claim(f"whole text for every frame, {size:,} tokens", compared_to="ours") for size in SIZES[:2]}
CLAIMS = (*TOKEN.values(), *FRAME.values(), GROWTH, *WINDOW.values(), *WHOLE.values())
PER_FRAME = 8
WORDS = "the quick **brown** fox jumps `over` a lazy dog while seven wizards brew ale for the merry crowd of 42 guests".split()


class WideTerminal(Terminal):
    """A terminal of 100 columns and 40 lines whose output is dropped."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self.frames: list[float] = []

    def size(self) -> os.terminal_size:
        return os.terminal_size((100, 40))

    def raw(self, text: str) -> None:
        pass


def reply(tokens: int, seed: int = 1) -> list[str]:
    """About so many pieces of 3.2 characters: prose, lists, code and a table now and then."""
    rng, text = random.Random(seed), ""
    while len(text) < tokens * 3.2:
        kind = rng.random()
        if kind < 0.6:
            text += " ".join(rng.choice(WORDS) for _ in range(rng.randrange(30, 90))) + "\n\n"
        elif kind < 0.75:
            text += "".join(f"- {' '.join(rng.choice(WORDS) for _ in range(8))}\n" for _ in range(6)) + "\n"
        elif kind < 0.92:
            text += (
                "```python\n"
                + "".join(f"def f{n}(x):\n    return x * {n}  # twice\n" for n in range(rng.randrange(4, 16)))
                + "```\n\n"
            )
        else:
            text += "| a | b | c |\n|---|---|---|\n" + "".join(f"| {n} | two | three |\n" for n in range(5)) + "\n"
    size = len(text) // tokens
    return [text[n : n + size] for n in range(0, len(text), size)][:tokens]


def ours(pieces: list[str]) -> tuple[float, float]:
    """CPU microseconds per token, and the worst frame in milliseconds."""
    terminal, worst = WideTerminal(), 0.0
    start = time.process_time()
    with MarkdownStream(terminal, frame=0) as stream:
        for number, piece in enumerate(pieces):
            stream.feed(piece)
            if number % PER_FRAME == 0:
                before = time.process_time()
                stream.draw()
                worst = max(worst, time.process_time() - before)
    return (time.process_time() - start) * 1e6 / len(pieces), worst * 1000


def window_of_six(pieces: list[str]) -> float:
    """Render the whole text, print all but the last six lines. The frame rate adapts to the cost."""
    renderer, text, printed, due = MarkdownRenderer(100), "", 0, 0.0
    start = time.process_time()
    clock, delay = 0.0, 0.05
    for piece in pieces:
        text += piece
        clock += 0.01
        if clock >= due:
            before = time.process_time()
            lines = renderer.render(text)
            printed = max(printed, len(lines) - 6)
            delay = min(2.0, max(0.05, (time.process_time() - before) * 10))
            due = clock + delay
    renderer.render(text)
    return (time.process_time() - start) * 1e6 / len(pieces)


def every_frame(pieces: list[str]) -> float:
    """Render the whole text for every frame. Measured on every tenth frame, since the cost is quadratic."""
    renderer, text, spent = MarkdownRenderer(100), "", 0.0
    for number, piece in enumerate(pieces):
        text += piece
        if number % (PER_FRAME * 10) == 0:
            before = time.process_time()
            renderer.render(text)
            spent += (time.process_time() - before) * 10
    return spent * 1e6 / len(pieces)


def rows(quick: bool) -> Iterator[Row]:
    costs = {}
    preload()
    gc.freeze()  # as the program does
    for size in SIZES[:2] if quick else SIZES:
        pieces = reply(size)
        ours(pieces[:200])
        costs[size], worst = ours(pieces)
        yield TOKEN[size].row(costs[size], how="seed 1")
        yield FRAME[size].row(worst, how="seed 1")
        if size in WINDOW:
            yield WINDOW[size].row(window_of_six(pieces) / costs[size])
            yield WHOLE[size].row(every_frame(pieces) / costs[size])
    if 25_000 in costs:
        yield GROWTH.row(costs[25_000] / costs[7_000], how="25,000 tokens")


if __name__ == "__main__":
    measured(rows)
