"""What a streamed reply costs on the screen, beside a live window of six lines with the whole text rendered anew.

    python -m tests.benchmarks.screen [--quick]

100 tokens a second at 12.5 frames a second: a frame every 8 tokens, as fast as they can be drawn. CPU time, not wall time.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import time

from chatmem.screen.markdown import MarkdownStream
from chatmem.screen.page import Renderer
from chatmem.screen.terminal import Terminal

PER_FRAME = 8
WORDS = "the quick **brown** fox jumps `over` a lazy dog while seven wizards brew ale for the merry crowd of 42 guests".split()


class Wide(Terminal):
    """A terminal of 100 columns and 40 lines that nobody reads."""

    def __init__(self) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self.frames: list[float] = []

    def size(self) -> os.terminal_size:
        return os.terminal_size((100, 40))

    def raw(self, text: str) -> None:
        pass


def reply(tokens: int, seed: int = 1) -> list[str]:
    """About so many pieces of 3.2 characters: prose, lists, code and a table now and then."""
    chance, text = random.Random(seed), ""
    while len(text) < tokens * 3.2:
        kind = chance.random()
        if kind < 0.6:
            text += " ".join(chance.choice(WORDS) for _ in range(chance.randrange(30, 90))) + "\n\n"
        elif kind < 0.75:
            text += "".join(f"- {' '.join(chance.choice(WORDS) for _ in range(8))}\n" for _ in range(6)) + "\n"
        elif kind < 0.92:
            text += (
                "```python\n"
                + "".join(f"def f{n}(x):\n    return x * {n}  # twice\n" for n in range(chance.randrange(4, 16)))
                + "```\n\n"
            )
        else:
            text += "| a | b | c |\n|---|---|---|\n" + "".join(f"| {n} | two | three |\n" for n in range(5)) + "\n"
    size = len(text) // tokens
    return [text[n : n + size] for n in range(0, len(text), size)][:tokens]


def ours(pieces: list[str]) -> tuple[float, float]:
    """CPU microseconds per token, and the worst frame in milliseconds."""
    terminal, worst = Wide(), 0.0
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
    """The other way: render all there is, print what is more than six lines from the end; frames adapt to their cost."""
    renderer, text, printed, due = Renderer(100), "", 0, 0.0
    start = time.process_time()
    clock, delay = 0.0, 0.05
    for piece in pieces:
        text += piece
        clock += 0.01
        if clock >= due:
            before = time.process_time()
            lines = renderer.whole(text)
            printed = max(printed, len(lines) - 6)
            delay = min(2.0, max(0.05, (time.process_time() - before) * 10))
            due = clock + delay
    renderer.whole(text)
    return (time.process_time() - start) * 1e6 / len(pieces)


def rows(sizes: tuple[int, ...] = (1_000, 7_000, 25_000)) -> list[str]:
    found = ["| tokens | CPU µs per token | worst frame ms | whole text, six lines live / ours |", "|---|---|---|---|"]
    costs = {}
    for size in sizes:
        pieces = reply(size)
        ours(pieces[:200])
        costs[size], worst = ours(pieces)
        ratio = window_of_six(pieces) / costs[size] if size <= 7_000 else None
        found.append(f"| {size:,} | {costs[size]:.0f} | {worst:.1f} | {'' if ratio is None else f'{ratio:.1f}'} |")
    if 25_000 in costs:
        found.append(f"| 25,000 / 7,000 | {costs[25_000] / costs[7_000]:.2f} | | |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    print("\n".join(rows((1_000, 7_000) if parser.parse_args().quick else (1_000, 7_000, 25_000))))


if __name__ == "__main__":
    main()
