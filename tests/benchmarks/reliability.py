"""How many attempts to lose or corrupt something were made, and how many succeeded. Runs the tests that try.

    python -m tests.benchmarks.reliability [--quick]

A test belongs to a claim by its marker `claim`. It records how many cases it tried as the property `cases`; a test
without the property is one case.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.benchmarks.rows import Claim, Row, measured

ROOT = Path(__file__).parents[2]
NAMES = (
    "kills during an append: records lost",
    "kills during a reply: records lost",
    "power losses: records lost",
    "damaged session files: intact lines not read",
    "faulty streams and servers: wrong outcomes",
    "hostile text: control sequences let through",
    "random plans: rules broken",
    "documents in chunks: rendered differently",
    "database faults: turns lost, torn or repeated",
    "unreachable databases: turns lost or repeated",
    "refusing databases: turns lost or repeated",
    "kills between any two lines: records lost or doubled",
    "errors of disks and databases: turns lost or doubled",
    "killed servers, cuts and expired leases: turns lost or doubled",
    "crowds of processes: turns lost or doubled",
)
CLAIMS = tuple(Claim(name, "", at_most=0) for name in NAMES)


class Case(NamedTuple):
    """A test that ran."""

    claim: str
    cases: int
    passed: bool


def rows(quick: bool) -> Iterator[Row]:
    results = run(quick)
    for claim in CLAIMS:
        mine = [case for case in results if case.claim == claim.name]
        cases, failed = sum(case.cases for case in mine), sum(not case.passed for case in mine)
        yield claim.row(failed, how=f"{cases:,} cases") if mine else Row(claim.name, "not measured", how="no test ran")


def run(quick: bool) -> list[Case]:
    """Run the tests that belong to a claim, the long ones too unless `quick`."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        selected = "claim and not long" if quick else "claim"
        command = [sys.executable, "-m", "pytest", "-m", selected, "--timeout", "3600", f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        tests = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    return [case for test in tests if (case := parse_case(test))]


def parse_case(test: ElementTree.Element) -> Case | None:
    """A test of the JUnit report. None if it was skipped or belongs to no claim."""
    properties = {p.get("name"): p.get("value", "") for p in test.iter("property")}
    if test.find("skipped") is not None or "claim" not in properties:
        return None
    passed = test.find("failure") is None and test.find("error") is None
    return Case(properties["claim"], int(properties.get("cases", "1")), passed)


if __name__ == "__main__":
    measured(rows)
