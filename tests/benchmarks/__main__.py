"""All that is measured, as one Markdown table: each row a claim, its figure, and what stands beside it.

    python -m tests.benchmarks [--quick] [--only GROUP …] [--readme]

Peers get venvs of their own under `.benchmarks`, which are made when they are missing; what cannot be installed is
reported as missing. Each group is a process of its own, `python -m tests.benchmarks.GROUP`. With `--readme` the short
form of the table is written into the README, between its two markers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.rows import Row, table

ROOT = Path(__file__).parents[2]
GROUPS = ("startup", "turn", "screen", "plan", "files", "stores", "memory", "reliability")
PEERS = {
    "llm": ["llm"],
    "langchain": [
        *("-e", f"{ROOT}[dev,redis,postgres]"),
        *("langchain-core", "langchain-classic", "langchain-community", "langchain-postgres", "sqlalchemy"),
    ],
}
"""What is installed into each peer's venv; chatmem itself stands beside LangChain, to be measured in one process."""
BESIDE = {"plan": "langchain", "memory": "langchain", "stores": "langchain"}
"""The groups that run in a peer's venv, if it could be made."""
HEADLINES = (
    "prompt that takes keys, of llm's",
    "chatmem sessions list",
    "a streamed piece, from the socket to the reader",
    "screen, a token of a very long reply",
    "six live lines, whole text anew, 7,000 tokens",
    "trim_messages on 10,000 messages",
    "append at 100,000 messages",
    "redis: append a turn to a long session",
    "postgres: append a turn to a long session",
    "summary: facts in the context",
    "summary: a fact asked for, paraphrase",
    "summary: prompt cache reuse",
    "kills in the middle of a reply: lost",
    "images of a power loss: lost",
    "hostile texts on the screen: escapes",
)
"""The claims that the README shows."""
BEGIN, END = "<!-- numbers: python -m tests.benchmarks --readme -->", "<!-- end of numbers -->"


def peer(name: str) -> Path | None:
    """The folder with a peer's programs, or None if it cannot be installed."""
    venv = ROOT / ".benchmarks" / name
    programs = venv / "bin"
    if not (venv / "complete").exists():
        _say(f"installing {name} …")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, **quiet)  # type: ignore[call-overload]
            subprocess.run([programs / "pip", "install", "-q", *PEERS[name]], check=True, timeout=900, **quiet)  # type: ignore[call-overload]
        except (OSError, subprocess.SubprocessError) as error:
            _say(f"{name} could not be installed: {type(error).__name__}")
            return None
        (venv / "complete").touch()
    return programs


def measure(group: str, quick: bool) -> list[Row]:
    """The rows of one group, from a process of its own."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    python = Path(sys.executable)
    if group == "startup" and (llm := peer("llm")):
        env["CHATMEM_BENCH_LLM"] = str(llm / "llm")
    elif group in BESIDE and (programs := peer(BESIDE[group])):
        python = programs / "python"
    words = [str(python), "-W", "ignore", "-m", f"tests.benchmarks.{group}", "--json", *(["--quick"] if quick else [])]
    begun = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    found = [Row(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    _say(f"{group}: {len(found)} rows in {time.monotonic() - begun:.0f} s")
    if done.returncode:
        found.append(Row(f"{group}: the measurement itself", "failed", how=f"exit code {done.returncode}"))
    return found


def machine() -> str:
    """What it was measured on, and how busy that was."""
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    cpu = model[1] if model else platform.processor() or platform.machine()
    python = f"Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return f"{when} · {os.cpu_count()} cores of {cpu} · {platform.system()} · {python} · {load}"


def into_readme(found: Sequence[Row], where: str) -> None:
    """Write the short form of the table between the README's two markers."""
    rows = [row for name in HEADLINES for row in found if row.claim == name]
    lines = ["| claim | figure | beside |", "|---|---|---|"]
    for row in rows:
        tried = f"{row.how}, " if "tried" in row.how else ""
        lines.append(f"| {row.claim} | {row.figure} | {tried}{row.beside} |")
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{where}\n\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples: under two minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--readme", action="store_true", help="write the short form into the README")
    given = parser.parse_args()
    where, found = machine(), []
    print(
        f"{where}{' · quick' if given.quick else ''}\n\nRatios are of medians in the same run; the spread is the middle half."
    )
    for group in given.only:
        rows = measure(group, given.quick)
        found += rows
        print(f"\n### {group}\n\n{table(rows)}", flush=True)
    if given.readme:
        into_readme(found, where)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
