"""How the cost of operations grows with their size: the exponent of CPU time over size, 1 for linear growth.

    python -m tests.benchmarks.growth [--quick] [NAME …]

Each operation runs on at least four sizes, each twice as large as the one before. The exponent is that of the best power
law through the times of all sizes (the slope in a doubly logarithmic scale); the figure is the median of three runs.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.formats import FORMATS
from chatmem.formats.importer import read_conversations
from chatmem.history.records import header
from chatmem.history.session import Session
from chatmem.memory.budget import limits_for
from chatmem.memory.compare import compare
from chatmem.memory.planner import plan
from chatmem.memory.retrieval import PassageIndex
from chatmem.memory.strategies import STRATEGIES, parse_spec, strategy_from_mapping
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summarizer import SummaryJob, SummaryModel
from chatmem.process import pause_gc
from chatmem.stores.file.store import FileStore
from chatmem.stores.search import Query
from chatmem.terminal.markdown_stream import MarkdownStream
from chatmem.terminal.tables import print_columns
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.benchmarks.files import message
from tests.benchmarks.rows import Claim, Row, measured
from tests.benchmarks.screen import WideTerminal
from tests.fakes import ScriptedModel
from tests.long_blocks import LONG_BLOCKS, long_block

AT_MOST = 1.2
DOUBLINGS = 3
RUNS = 3
WINDOW = 1 << 20

Operation = Callable[[int, Path], Callable[[], object]]
"""Prepares an operation of some size in an empty directory. What it returns is measured."""


def counter() -> Counter:
    return Counter(None, estimate_tokens)


def strategy(spec: str) -> Strategy:
    return strategy_from_mapping(parse_spec(spec))


def records(size: int) -> list[dict[str, Any]]:
    """A session of `size` messages."""
    rng = random.Random(1)
    return [header("s"), *(message(n, rng) for n in range(size))]


def session(size: int) -> Session:
    return Session.replay("s", records(size))


def chat(size: int, directory: Path) -> Chat:
    """A chat with a model that answers at once."""
    store = FileStore(directory)
    store.open("s", records(size)).close()
    model, count = ScriptedModel(window=WINDOW), counter()
    return Chat(store, "s", lambda settings: TurnConfig(model, strategy("buffer"), lambda name: count))


# Streaming


def stream_block(kind: str, size: int, directory: Path) -> Callable[[], object]:
    text = long_block(kind, size)

    def run() -> None:
        with MarkdownStream(WideTerminal(), frame=0) as stream:
            for start in range(0, len(text), 5):
                stream.feed(text[start : start + 5])
                stream.draw()

    return run


def stream_without_frames(size: int, directory: Path) -> Callable[[], object]:
    text = "".join(long_block("lines", 60) + "\n" for _ in range(size // 60))

    def run() -> None:
        with MarkdownStream(WideTerminal(), frame=0) as stream:
            for start in range(0, len(text), 5):
                stream.feed(text[start : start + 5])

    return run


# One session


def replay(size: int, directory: Path) -> Callable[[], object]:
    found = records(size)
    return lambda: Session.replay("s", found).turns


def retries(size: int, directory: Path) -> Callable[[], object]:
    conversation = chat(2, directory)

    def run() -> None:
        for _ in range(size):
            for _ in conversation.retry():
                pass

    return run


def replies_in_a_turn(size: int, directory: Path) -> Callable[[], object]:
    found = [r | {"role": "assistant"} if n > 1 else r for n, r in enumerate(records(size))]

    def run() -> object:
        replayed = Session("s")
        for record in found:
            replayed.apply(record)
        return replayed.turns[-1].reply

    return run


def pins(size: int, directory: Path) -> Callable[[], object]:
    conversation = chat(2 * size, directory)
    conversation.turn(1)

    def run() -> None:
        for number in range(1, size + 1):
            conversation.set_turn_flags(number, pinned=True)

    return run


def planned(spec: str, size: int, directory: Path) -> Callable[[], object]:
    found, chosen, count = session(size), strategy(spec), counter()
    index = PassageIndex() if spec == "summary" else None
    if index:
        index.update(found)
    question = "What did I say about word17 and word1234?"
    now = datetime.now().astimezone()
    return lambda: plan(found, question, chosen, count, limits_for(WINDOW), now=now, retriever=index)


def context(size: int, directory: Path) -> Callable[[], object]:
    found, count = session(size), counter()
    now = datetime.now().astimezone()
    return lambda: plan(found, "And?", strategy("window:6"), count, limits_for(WINDOW), now=now).decisions


def compared(size: int, directory: Path) -> Callable[[], object]:
    found, index = session(size), PassageIndex()
    index.update(found)
    strategies = [strategy(name) for name in STRATEGIES]
    now = datetime.now().astimezone()
    return lambda: compare(found, "And?", strategies, counter(), limits_for(WINDOW), index, now)


def summarised(size: int, directory: Path) -> Callable[[], object]:
    found = session(size)

    def ask(messages: Any, max_tokens: int) -> tuple[str, str]:
        return "\n".join(line[:80] for line in messages[-1]["content"].splitlines()[:12]), "stop"

    return SummaryJob.for_session(found, size // 2 - 2, 4_000, SummaryModel("m", 32_768, ask), counter()).run


def indexed(size: int, directory: Path) -> Callable[[], object]:
    found = session(size)
    return lambda: PassageIndex().update(found)


def exported(name: str, size: int, directory: Path) -> Callable[[], object]:
    found, write = records(size), FORMATS[name].write
    assert write is not None
    return lambda: write(Session.replay("s", found), found)


def imported(size: int, directory: Path) -> Callable[[], object]:
    write = FORMATS["openai"].write
    assert write is not None
    path = directory / "conversation.json"
    path.write_text(write(session(size), records(size)))
    return lambda: list(read_conversations(path, "openai"))


# Many sessions


def many(size: int, directory: Path) -> FileStore:
    """A store with `size` short sessions."""
    store = FileStore(directory / "sessions")
    for number in range(size):
        store.open(f"s{number}", [header(f"s{number}"), *records(2)[1:]]).close()
    return store


def created(size: int, directory: Path) -> Callable[[], object]:
    return partial(many, size, directory)


def listed(size: int, directory: Path) -> Callable[[], object]:
    store = many(size, directory)
    store.list_sessions()
    return store.list_sessions


def searched(size: int, directory: Path) -> Callable[[], object]:
    store = many(size, directory)
    store.list_sessions()
    return lambda: list(store.search(Query.parse("nothing")))


def checked(size: int, directory: Path) -> Callable[[], object]:
    store = many(size, directory)
    return lambda: list(store.check_all())


def renamed(size: int, directory: Path) -> Callable[[], object]:
    store = many(size, directory)

    def run() -> None:
        for number in range(size):
            store.rename(f"s{number}", f"t{number}")

    return run


def pruned(size: int, directory: Path) -> Callable[[], object]:
    store = many(size, directory)

    def run() -> None:
        for info in store.list_sessions():
            store.delete(info.name)

    return run


# The rest


def padded(size: int, directory: Path) -> Callable[[], object]:
    terminal = WideTerminal()
    terminal.out.isatty = lambda: True  # type: ignore[method-assign]
    return lambda: print_columns(terminal, ["A", "B"], [["日本é " * (size // 4), "x"]])


OPERATIONS: dict[str, tuple[int, Operation]] = {
    **{f"stream, {kind}": (500, partial(stream_block, kind)) for kind in LONG_BLOCKS},
    "pieces without a frame": (16_000, stream_without_frames),
    "replay": (1_000, replay),
    "replies to one question": (100, retries),
    "replies in one turn": (500, replies_in_a_turn),
    "pins": (100, pins),
    "plan, buffer": (500, partial(planned, "buffer")),
    "plan, summary": (500, partial(planned, "summary")),
    "context": (500, context),
    "compare": (250, compared),
    "summarise": (250, summarised),
    "retrieval index": (500, indexed),
    "export, markdown": (500, partial(exported, "markdown")),
    "export, html": (250, partial(exported, "html")),
    "import": (500, imported),
    "create sessions": (100, created),
    "list sessions": (200, listed),
    "search sessions": (200, searched),
    "check sessions": (100, checked),
    "rename sessions": (50, renamed),
    "prune sessions": (50, pruned),
    "a padded title": (4_000, padded),
}
"""The smallest size, and the operation."""
EXPONENTS = {name: Claim(f"growth: {name}", "", at_most=AT_MOST) for name in OPERATIONS}
CLAIMS = tuple(EXPONENTS.values())


def times(operation: Operation, sizes: list[int]) -> list[float]:
    """The CPU seconds of an operation at each size."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            run = operation(size, Path(directory))
            gc.collect()
            with pause_gc():
                start = time.process_time()
                run()
                found.append(time.process_time() - start)
    return found


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """The exponent of the power law through these points: the least squares line of their logarithms."""
    slope, _ = statistics.linear_regression([math.log(n) for n in sizes], [math.log(max(s, 1e-6)) for s in seconds])
    return slope


def rows(quick: bool, names: list[str] | None = None) -> Iterator[Row]:
    for name in names or OPERATIONS:
        smallest, operation = OPERATIONS[name]
        sizes = [max(1, smallest // (4 if quick else 1)) << n for n in range(DOUBLINGS + 1)]
        times(operation, sizes[:1])
        runs = [times(operation, sizes) for _ in range(1 if quick else RUNS)]
        exponents = [exponent(sizes, found) for found in runs]
        milliseconds = " ".join(f"{min(column) * 1000:,.1f}" for column in zip(*runs, strict=True))
        how = f"{sizes[0]:,} to {sizes[-1]:,}: {milliseconds} ms"
        spread = f"{min(exponents):.2f}–{max(exponents):.2f}"
        yield EXPONENTS[name].row(statistics.median(exponents), spread, how)


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv[1:] if argument in OPERATIONS]
    sys.argv = [argument for argument in sys.argv if argument not in chosen]
    measured(partial(rows, names=chosen or None))
