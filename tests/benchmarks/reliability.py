"""How often it was tried to lose something, and how often that worked: the tests that count, run as they are.

    python -m tests.benchmarks.reliability [--quick]

A test says in its name how many cases it tries (`test_1000_kills_…`); one without a number is one case.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.rows import Claim, Row, measured

ROOT = Path(__file__).parents[2]
TRIED = {
    Claim("kills in the middle of an append: lost", "", most=0): ("stores.test_durability", "points_of_appends"),
    Claim("kills in the middle of a reply: lost", "", most=0): ("stores.test_durability", "in_mid_reply"),
    Claim("images of a power loss: lost", "", most=0): ("stores.test_durability", "power_losses"),
    Claim("mutated session files: whole lines not read", "", most=0): ("stores.test_jsonl", "mutated_files"),
    Claim("stream and server faults: wrong endings", "", most=0): ("models.test_openai_api", ""),
    Claim("hostile texts on the screen: escapes", "", most=0): ("screen.test_safe", "no_byte_beyond"),
    Claim("random views: wrong ones", "", most=0): ("memory.test_plan", "random_views"),
    Claim("documents in pieces: not as in one go", "", most=0): ("screen.test_markdown", "any_chunking"),
    Claim("databases: turns lost, torn or doubled", "", most=0): (
        "stores.test_databases",
        "processes|killed|again|whole",
    ),
    Claim("databases that go away: turns lost or doubled", "", most=0): ("stores.test_away", ""),
}
"""Each claim, the module of its tests and what their names hold."""
CLAIMS = tuple(TRIED)


def rows(quick: bool) -> Iterator[Row]:
    cases = run(quick)
    for claim, (module, wanted) in TRIED.items():
        mine = [(name, good) for where, name, good in cases if where == f"tests.{module}" and re.search(wanted, name)]
        tried = sum(int(number[1]) if (number := re.search(r"_(\d{2,})_", name)) else 1 for name, _ in mine)
        lost = sum(not good for _, good in mine)
        yield claim.row(lost, how=f"{tried:,} tried") if mine else Row(claim.name, "not measured", how="no test ran")


def run(quick: bool) -> list[tuple[str, str, bool]]:
    """Module, name and outcome of every test that ran; the long ones too, unless `quick`."""
    modules = {module for module, _ in TRIED.values()}
    wanted = " or ".join(part for _, names in TRIED.values() for part in names.split("|") if part)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = [
            sys.executable,
            "-m",
            "pytest",
            *(f"tests/{module.replace('.', '/')}.py" for module in sorted(modules)),
        ]
        words += ["-k", f"{wanted} or test_openai_api or test_away", "-m", "not long" if quick else "long or not long"]
        subprocess.run([*words, f"--junitxml={report}"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    return [
        (one.get("classname", ""), one.get("name", ""), one.find("failure") is None and one.find("error") is None)
        for one in cases
        if one.find("skipped") is None
    ]


if __name__ == "__main__":
    measured(rows)
