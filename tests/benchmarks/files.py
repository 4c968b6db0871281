"""How the file store grows: appends and opening at any length, lists and searches over many sessions.

python -m tests.benchmarks.files [--quick]
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chatmem.records import header
from chatmem.session import Session
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.lines import line_of, records_of
from chatmem.stores.search import Query
from tests.benchmarks.rows import Claim, Row, half, measured, seconds

APPEND = {
    size: Claim(f"append at {size:,} messages", beside="one at 10", most=1.5) for size in (1_000, 10_000, 100_000)
}
OPEN = {
    size: Claim(f"open a session of {size:,} messages", beside="parsing its lines") for size in (1_000, 10_000, 100_000)
}
LIST = Claim("list many sessions", beside="reading each file")
PARSED = Claim("list many sessions, of parsing each", beside="parsing each file", most=0.2)
SEARCH = Claim("search a rare word", beside="grep -rilF", most=5)
CLAIMS = (*APPEND.values(), *OPEN.values(), LIST, PARSED, SEARCH)
WORDS = [f"word{n}" for n in range(3000)]


def message(number: int, chance: random.Random) -> dict[str, object]:
    text = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(20, 120)))
    return {
        "type": "message",
        "id": f"m{number}",
        "parent": f"m{number - 1}" if number else None,
        "role": ("user", "assistant")[number % 2],
        "content": text,
        "time": "2026-05-03T10:00:00.000Z",
    }


def growth(folder: Path, sizes: tuple[int, ...]) -> Iterator[Row]:
    chance = random.Random(1)
    store = JsonlStore(folder)
    base: list[float] = []
    for size in sizes:
        store.open(f"s{size}", [header("x"), *(message(n, chance) for n in range(size))]).close()
        log = store.open(f"s{size}")
        log.read()
        counter = iter(range(10_000_000, 20_000_000))

        def append(log=log, counter=counter) -> None:  # type: ignore[no-untyped-def]
            with log.turn():
                log.read()
                log.append([message(next(counter), chance)])

        found = seconds(append, 100)
        base = base or found
        if size not in APPEND:
            continue
        ratio = statistics.median(found) / statistics.median(base)
        yield APPEND[size].row(ratio, half(found, " ms", 1000), "100 times, each synced")
        data = (folder / f"s{size}.jsonl").read_bytes().split(b"\n")
        parsing = seconds(lambda data=data: list(records_of(data)), 3)
        opening = seconds(lambda size=size: len(Session.replay("s", store.records(f"s{size}")).turns), 3)
        yield OPEN[size].row(statistics.median(opening) / statistics.median(parsing), half(opening, " ms", 1000))


def many(folder: Path, count: int) -> Iterator[Row]:
    chance = random.Random(2)
    store = JsonlStore(folder)
    store.make_folder(folder)
    for number in range(count):
        lines = [line_of(header(f"s{number}")), *(line_of(message(n, chance)) for n in range(50))]
        if number == count // 2:
            lines.append(line_of(message(50, chance) | {"content": "a zebrafish"}))
        (folder / f"s{number}.jsonl").write_bytes(b"".join(lines))

    def read_each() -> None:
        for entry in os.scandir(folder):
            if entry.name.endswith(".jsonl"):
                Path(entry.path).read_bytes()

    def parse_each() -> None:
        for name in store.names():
            store.records(name)

    def grep() -> None:
        subprocess.run(["grep", "-rilF", "zebrafish", folder], check=True, stdout=subprocess.DEVNULL)

    first = seconds(store.outlines, 1, 0)[0]
    how = f"{count:,} sessions of 50 messages; the first list {first:.1f} s"
    listing = seconds(lambda: store.outlines()[:20], 5)
    for claim, other in ((LIST, read_each), (PARSED, parse_each)):
        whole = seconds(other, 3 if claim is LIST else 1)
        yield claim.row(statistics.median(listing) / statistics.median(whole), half(listing, " ms", 1000), how)
    searching, grepping = seconds(lambda: list(store.search(Query.parse("zebrafish"))), 3), seconds(grep, 3)
    yield SEARCH.row(statistics.median(searching) / statistics.median(grepping), half(searching, " ms", 1000), how)


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        yield from growth(Path(folder, "one"), (10, 1_000) if quick else (10, 1_000, 10_000, 100_000))
        yield from many(Path(folder, "many"), 500 if quick else 10_000)


if __name__ == "__main__":
    measured(rows)
