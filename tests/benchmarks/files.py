"""How the file store scales: appending to and opening long sessions, listing and searching many sessions.

python -m tests.benchmarks.files [--quick]
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from chatmem.history.records import header
from chatmem.stores.base import SessionLog
from chatmem.stores.codec import decode_all, encode
from chatmem.stores.file.store import FileStore
from chatmem.stores.search import Query
from tests.benchmarks.rows import Claim, Row, half, measured, seconds

APPEND = {
    size: Claim(f"append at {size:,} messages", compared_to="one at 10", at_most=1.5)
    for size in (1_000, 10_000, 100_000)
}
OPEN = {
    size: Claim(f"open a session of {size:,} messages", compared_to="parsing its lines")
    for size in (1_000, 10_000, 100_000)
}
LIST = Claim("list many sessions", compared_to="reading each file")
PARSED = Claim("list many sessions, of parsing each", compared_to="parsing each file", at_most=0.2)
SEARCH = Claim("search a rare word", compared_to="grep -rilF", at_most=5)
CLAIMS = (*APPEND.values(), *OPEN.values(), LIST, PARSED, SEARCH)
WORDS = [f"word{n}" for n in range(3000)]


def message(number: int, rng: random.Random) -> dict[str, object]:
    text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(20, 120)))
    return {
        "type": "message",
        "id": f"m{number}",
        "parent": f"m{number - 1}" if number else None,
        "role": ("user", "assistant")[number % 2],
        "content": text,
        "time": "2026-05-03T10:00:00.000Z",
    }


def append(log: SessionLog, counter: Iterator[int], rng: random.Random) -> None:
    with log.exclusive():
        log.read()
        log.append([message(next(counter), rng)])


def decode_lines(lines: list[bytes]) -> int:
    return len(list(decode_all(lines)))


def reopen(store: FileStore, name: str) -> int:
    return len(store.session(name).turns)


def growth(directory: Path, sizes: tuple[int, ...]) -> Iterator[Row]:
    rng = random.Random(1)
    store = FileStore(directory)
    base: list[float] = []
    for size in sizes:
        store.open(f"s{size}", [header("x"), *(message(n, rng) for n in range(size))]).close()
        log = store.open(f"s{size}")
        log.read()
        counter = iter(range(10_000_000, 20_000_000))

        found = seconds(partial(append, log, counter, rng), 100)
        base = base or found
        if size not in APPEND:
            continue
        ratio = statistics.median(found) / statistics.median(base)
        yield APPEND[size].row(ratio, half(found, " ms", 1000), "100 times, each synced")
        data = (directory / f"s{size}.jsonl").read_bytes().split(b"\n")
        parsing = seconds(partial(decode_lines, data), 3)
        opening = seconds(partial(reopen, store, f"s{size}"), 3)
        yield OPEN[size].row(statistics.median(opening) / statistics.median(parsing), half(opening, " ms", 1000))


def many(directory: Path, count: int) -> Iterator[Row]:
    rng = random.Random(2)
    store = FileStore(directory)
    store.directory.make_dir(directory)
    for number in range(count):
        lines = [encode(header(f"s{number}")), *(encode(message(n, rng)) for n in range(50))]
        if number == count // 2:
            lines.append(encode(message(50, rng) | {"content": "a zebrafish"}))
        (directory / f"s{number}.jsonl").write_bytes(b"".join(lines))

    def read_each() -> None:
        for entry in os.scandir(directory):
            if entry.name.endswith(".jsonl"):
                Path(entry.path).read_bytes()

    def parse_each() -> None:
        for name in store.names():
            store.records(name)

    def grep() -> None:
        subprocess.run(["grep", "-rilF", "zebrafish", directory], check=True, stdout=subprocess.DEVNULL)

    first = seconds(store.list_sessions, 1, 0)[0]
    how = f"{count:,} sessions of 50 messages; the first list {first:.1f} s"
    listing = seconds(lambda: store.list_sessions()[:20], 5)
    for claim, other in ((LIST, read_each), (PARSED, parse_each)):
        whole = seconds(other, 3 if claim is LIST else 1)
        yield claim.row(statistics.median(listing) / statistics.median(whole), half(listing, " ms", 1000), how)
    searching, grepping = seconds(lambda: list(store.search(Query.parse("zebrafish"))), 3), seconds(grep, 3)
    yield SEARCH.row(statistics.median(searching) / statistics.median(grepping), half(searching, " ms", 1000), how)


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as directory:
        yield from growth(Path(directory, "one"), (10, 1_000) if quick else (10, 1_000, 10_000, 100_000))
        yield from many(Path(directory, "many"), 500 if quick else 10_000)


if __name__ == "__main__":
    measured(rows)
