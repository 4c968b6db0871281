"""Many sessions, long sessions and fast replies: whole processes, and how late a token reaches the screen.

    python -m tests.benchmarks.scale [--quick]

The processes that are compared alternate. The index of the sessions exists before anything is measured.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chatmem.history.records import header
from chatmem.stores.codec import encode
from chatmem.terminal.markdown_stream import MarkdownStream
from chatmem.terminal.reply import preload
from tests.benchmarks.files import message
from tests.benchmarks.rows import Claim, Row, half, measured
from tests.benchmarks.screen import WideTerminal, reply
from tests.benchmarks.startup import environment, process, prompt

SESSIONS = Claim("start among 50,000 sessions", compared_to="an empty directory", at_most=1.2)
CONTINUE = Claim("start of chat -c among 50,000 sessions", compared_to="chat in an empty directory", at_most=1.3)
RECENT = Claim("sessions list -n 5 among 50,000", " s", at_most=0.4)
LIST = Claim("sessions list of 50,000", " s", at_most=1.0)
SEARCH = Claim("sessions search among 50,000", " s", at_most=0.5)
OPEN = Claim("start in a session of 10,000 messages", compared_to="an empty one", at_most=1.2)
LONG = Claim("ask in a session of 100,000 messages", " s", at_most=3.0)
FIRST = Claim("the first token on the screen after", " ms", at_most=10.0)
HALF_LATE = Claim("half of the tokens at 30 per second on the screen within", " ms", at_most=20.0)
LATE = Claim("99 % of the tokens at 30 per second on the screen within", " ms", at_most=60.0)
FAST = Claim("the latest token at 1,000 per second", " ms", at_most=100.0)
BYTES = Claim("bytes written per token at 30 per second", "", at_most=60.0)
CLAIMS = (SESSIONS, CONTINUE, RECENT, LIST, SEARCH, OPEN, LONG, FIRST, HALF_LATE, LATE, FAST, BYTES)


class TimedTerminal(WideTerminal):
    """A terminal that knows when text was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[float, int]] = []
        self.bytes = 0

    def raw(self, text: str) -> None:
        self.bytes += len(text.encode())
        self.written.append((time.perf_counter(), self.drawn()))

    drawn: Callable[[], int] = staticmethod(lambda: 0)


def lateness(per_second: int, seconds: float) -> tuple[list[float], float, float]:
    """Milliseconds from the arrival of each token to the frame that shows it; those of the first; bytes per token.

    A frame shows what had arrived when it began.
    """
    terminal = TimedTerminal()
    arrived: list[float] = []
    pieces = reply(int(per_second * seconds))
    with MarkdownStream(terminal) as stream:
        taken = stream._take_arrived
        count = 0

        def take() -> None:
            nonlocal count
            count = len(arrived)
            taken()

        stream._take_arrived = take  # type: ignore[method-assign]
        terminal.drawn = lambda: count
        time.sleep(0.3)  # the painter waits for the first token
        start = time.perf_counter()
        for number, piece in enumerate(pieces):
            time.sleep(max(0.0, start + number / per_second - time.perf_counter()))
            arrived.append(time.perf_counter())
            stream.feed(piece)
    late, shown = [], 0
    for when, count in terminal.written:
        late += [(when - moment) * 1000 for moment in arrived[shown:count]]
        shown = max(shown, count)
    return sorted(late), late[0], terminal.bytes / len(pieces)


def streaming(quick: bool) -> Iterator[Row]:
    preload()
    late, first, size = lateness(30, 5 if quick else 30)
    how = f"{len(late)} tokens"
    yield FIRST.row(first)
    yield HALF_LATE.row(statistics.median(late), half(late, " ms"), how)
    yield LATE.row(late[int(len(late) * 0.99)], how=how)
    yield BYTES.row(size, how=how)
    late, _, _ = lateness(1_000, 2 if quick else 10)
    yield FAST.row(late[-1], half(late, " ms"), f"{len(late):,} tokens")


def write_session(path: Path, messages: int, rng: random.Random) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(encode, [header(path.stem), *(message(n, rng) for n in range(messages))])))
    path.chmod(0o600)


def alternating(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each case, in turn. The first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, once in cases.items():
            seconds = once()
            if number:
                found[name].append(seconds)
    return found


def sessions(directory: Path, quick: bool) -> Iterator[Row]:
    rng, count = random.Random(1), 2_000 if quick else 50_000
    homes = {name: directory / name for name in ("empty", "many", "short", "long", "longest")}
    for home in homes.values():
        home.mkdir()
    envs = {name: environment(home) for name, home in homes.items()}
    for number in range(count):
        write_session(homes["many"] / "data" / "sessions" / f"s{number}.jsonl", 4, rng)
    write_session(homes["short"] / "data" / "sessions" / "s.jsonl", 2, rng)
    write_session(homes["long"] / "data" / "sessions" / "s.jsonl", 10_000, rng)
    write_session(homes["longest"] / "data" / "sessions" / "s.jsonl", 10_000 if quick else 100_000, rng)
    chatmem = str(Path(sys.executable).with_name("chatmem"))
    subprocess.run([chatmem, "sessions", "search", "word7"], env=envs["many"], stdout=subprocess.DEVNULL, check=False)
    ask = ("ask", "-m", "offline", "-s", "s", "What about word17?")
    found = alternating(
        {
            "empty": prompt(chatmem, "chat", env=envs["empty"]),
            "many": prompt(chatmem, "chat", env=envs["many"]),
            "continue": prompt(chatmem, "chat", "-c", env=envs["many"]),
            "recent": process(chatmem, "sessions", "list", "-n", "5", env=envs["many"]),
            "list": process(chatmem, "sessions", "list", env=envs["many"]),
            "search": process(chatmem, "sessions", "search", "word17", env=envs["many"]),
            "short": prompt(chatmem, "chat", "-s", "s", env=envs["short"]),
            "long": prompt(chatmem, "chat", "-s", "s", env=envs["long"]),
        },
        3 if quick else 7,
    )
    how = f"{count:,} sessions"
    for claim, case, base in ((SESSIONS, "many", "empty"), (CONTINUE, "continue", "empty"), (OPEN, "long", "short")):
        ratios = [mine / other for mine, other in zip(found[case], found[base], strict=True)]
        yield claim.row(statistics.median(ratios), half(ratios, " x"), how if claim is not OPEN else "")
    for claim, case in ((RECENT, "recent"), (LIST, "list"), (SEARCH, "search")):
        yield claim.row(statistics.median(found[case]), half(found[case], " s"), how)
    asked = alternating({"ask": process(chatmem, *ask, env=envs["longest"])}, 1)["ask"]
    yield LONG.row(statistics.median(asked), how=f"{10_000 if quick else 100_000:,} messages")


def rows(quick: bool) -> Iterator[Row]:
    yield from streaming(quick)
    with tempfile.TemporaryDirectory() as directory:
        yield from sessions(Path(directory), quick)


if __name__ == "__main__":
    measured(rows)
