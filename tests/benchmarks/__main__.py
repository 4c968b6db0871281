"""Run the benchmarks and print Markdown tables: claims, figures, and what they are compared to.

    python -m tests.benchmarks [--quick] [--only GROUP …] [--readme]

Peers are installed into environments of their own under `.benchmarks`; one that cannot be installed is reported as
missing. Each group runs as a process of its own, `python -m tests.benchmarks.GROUP`. With `--readme` the main rows are
written into the README between its two markers.
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
from typing import Any

from tests.benchmarks import reliability
from tests.benchmarks.rows import Row, table

ROOT = Path(__file__).parents[2]
GROUPS = (
    *("startup", "turn", "screen", "growth", "scale", "plan", "files", "stores"),
    *("memory", "summarizers", "dialogue", "reliability"),
)
PEERS = {
    "llm": ["llm"],
    "langchain": [
        *("-e", f"{ROOT}[dev,redis,postgres]"),
        *("langchain-core", "langchain-classic", "langchain-community", "langchain-postgres", "sqlalchemy"),
    ],
}
"""What is installed into the environment of each peer. chatmem is installed beside LangChain and measured with it."""
RUNS_WITH = dict.fromkeys(("plan", "memory", "dialogue", "stores"), "langchain")
"""The groups that run in the environment of a peer, if it can be created."""
HEADLINES = (
    "start to the prompt, compared to llm",
    "chatmem sessions list",
    "CPU time per streamed chunk",
    "rendering a token of a very long reply",
    "whole text, six live lines, 7,000 tokens",
    "trim_messages on 10,000 messages",
    "append at 100,000 messages",
    "redis: append a turn to a long session",
    "postgresql: append a turn to a long session",
    "summary: facts in the context",
    "summary: a fact asked for, paraphrase",
    "summary: prompt cache reuse",
    "summary: 120 facts in the context",
    "summary: 240 facts in the context",
    "22 summary models: facts in the context with the worst that says something true",
    "natural dialogue: evidence in the context at 2,000 tokens",
    "natural dialogue: evidence in the context at 4,000 tokens",
    "natural dialogue: evidence in the context at 16,000 tokens",
    *reliability.NAMES,
)
"""The claims in the README."""
BEGIN, END = "<!-- figures: python -m tests.benchmarks --readme -->", "<!-- end of figures -->"


def peer(name: str) -> Path | None:
    """The directory of a peer's programs, or None if it cannot be installed."""
    venv = ROOT / ".benchmarks" / name
    programs = venv / "bin"
    if not (venv / "complete").exists():
        _log(f"installing {name} …")
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, **quiet)
            subprocess.run([programs / "pip", "install", "-q", *PEERS[name]], check=True, timeout=900, **quiet)
        except (OSError, subprocess.SubprocessError) as error:
            _log(f"{name} cannot be installed: {type(error).__name__}")
            return None
        (venv / "complete").touch()
    return programs


def measure(group: str, quick: bool) -> list[Row]:
    """The rows of one group, measured in a process of its own."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    python = Path(sys.executable)
    if group in ("startup", "scale") and (llm := peer("llm")):
        env["CHATMEM_BENCH_LLM"] = str(llm / "llm")
    elif group in RUNS_WITH and (programs := peer(RUNS_WITH[group])):
        python = programs / "python"
    command = [
        str(python),
        "-W",
        "ignore",
        "-m",
        f"tests.benchmarks.{group}",
        "--json",
        *(["--quick"] if quick else []),
    ]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    found = [Row(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    _log(f"{group}: {len(found)} rows in {time.monotonic() - started:.0f} s")
    if done.returncode:
        found.append(Row(f"{group}: the measurement itself", "failed", how=f"exit code {done.returncode}"))
    return found


def machine() -> str:
    """The date, the machine and its load."""
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    cpu = model[1] if model else platform.processor() or platform.machine()
    python = f"Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return f"{when} · {os.cpu_count()} cores of {cpu} · {platform.system()} · {python} · {load}"


def write_readme(found: Sequence[Row], where: str) -> None:
    """Write the main rows between the two markers of the README."""
    rows = [row for name in HEADLINES for row in found if row.claim == name]
    lines = ["| claim | figure | compared to |", "|---|---|---|"]
    for row in rows:
        cases = f"{row.how}, " if "cases" in row.how else ""
        lines.append(f"| {row.claim} | {row.figure} | {cases}{row.compared_to} |")
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{where}\n\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter samples: under two minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--readme", action="store_true", help="write the main rows into the README")
    given = parser.parse_args()
    where, found = machine(), []
    print(
        f"{where}{' · quick' if given.quick else ''}\n\nRatios are of medians in the same run; the spread is the interquartile range."
    )
    for group in given.only:
        rows = measure(group, given.quick)
        found += rows
        print(f"\n### {group}\n\n{table(rows)}", flush=True)
    if given.readme:
        write_readme(found, where)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
