"""How the file store grows: appends and opening at any length, lists and searches over many sessions.

python -m tests.benchmarks.files [--quick]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chatmem.records import header
from chatmem.session import Session
from chatmem.stores.jsonl import JsonlStore
from chatmem.stores.lines import line_of
from chatmem.stores.search import Query

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


def best(once: Callable[[], object], times: int = 5) -> float:
    """The median of the seconds of so many calls, after one that does not count."""
    once()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def growth(folder: Path, sizes: tuple[int, ...]) -> list[str]:
    chance, rows = random.Random(1), []
    store = JsonlStore(folder)
    base = 0.0
    for size in sizes:
        store.open(f"s{size}", [header("x"), *(message(n, chance) for n in range(size))]).close()
        log = store.open(f"s{size}")
        log.read()
        counter = iter(range(10_000_000, 20_000_000))

        def append(log=log, counter=counter) -> None:  # type: ignore[no-untyped-def]
            with log.turn():
                log.read()
                log.append([message(next(counter), chance)])

        seconds = best(append, 100)
        base = base or seconds
        opened = best(lambda size=size: len(Session.replay("s", store.records(f"s{size}")).turns), 3)
        rows.append(f"| append at {size:,} messages | {seconds / base:.2f} x one at {sizes[0]} | ≤ 1.5 |")
        rows.append(f"| open {size:,} messages | {opened:.3f} s | ≤ 1 s |")
    return rows


def many(folder: Path, count: int) -> list[str]:
    chance = random.Random(2)
    store = JsonlStore(folder)
    store.make_folder(folder)
    for number in range(count):
        lines = [line_of(header(f"s{number}")), *(line_of(message(n, chance)) for n in range(50))]
        if number == count // 2:
            lines.append(
                line_of(
                    {
                        "type": "message",
                        "id": "z",
                        "parent": "m49",
                        "role": "user",
                        "content": "a zebrafish",
                        "time": "",
                    }
                )
            )
        (folder / f"s{number}.jsonl").write_bytes(b"".join(lines))

    def read_each() -> None:
        for entry in os.scandir(folder):
            if entry.name.endswith(".jsonl"):
                Path(entry.path).read_bytes()

    def grep() -> None:
        subprocess.run(["grep", "-rilF", "zebrafish", folder], check=True, stdout=subprocess.DEVNULL)

    first = time.perf_counter()
    store.outlines()
    built = time.perf_counter() - first
    reading, listing = best(read_each, 3), best(lambda: store.outlines()[:20], 5)
    searching, grepping = best(lambda: list(store.search(Query.parse("zebrafish"))), 3), best(grep, 3)
    return [
        f"| list of {count:,} sessions (first one, building the cache: {built:.1f} s) | {listing / reading:.2f} x reading each file ({listing * 1000:.0f} ms) | ≤ 0.20 |",
        f"| search of a rare word in {count:,} sessions | {searching / grepping:.2f} x grep -rilF ({searching * 1000:.0f} ms) | ≤ 5 |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print("| claim | figure | limit |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(growth(Path(folder, "one"), (10, 1_000) if quick else (10, 1_000, 10_000, 100_000))))
        print("\n".join(many(Path(folder, "many"), 500 if quick else 10_000)))


if __name__ == "__main__":
    main()
