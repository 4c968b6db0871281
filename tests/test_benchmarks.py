"""The figures in the README belong to claims that are measured."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks import reliability
from tests.benchmarks.__main__ import BEGIN, END, GROUPS, HEADLINES, write_readme
from tests.benchmarks.rows import Claim, Row, half, table

README = Path(__file__).parents[1] / "README.md"
CLAIMS = [claim for group in GROUPS for claim in importlib.import_module(f"tests.benchmarks.{group}").CLAIMS]


def test_no_two_claims_have_the_same_name() -> None:
    names = [claim.name for claim in CLAIMS]
    assert len(names) == len(set(names))


def test_every_row_of_the_readme_is_a_measured_claim() -> None:
    part = README.read_text().split(BEGIN)[1].split(END)[0]
    shown = [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| ")][1:]
    assert shown == [name for name in HEADLINES if name in shown] and len(shown) >= 10
    assert set(HEADLINES) <= {claim.name for claim in CLAIMS}


def test_a_figure_is_compared_to_its_limit_and_a_missing_peer_is_reported() -> None:
    upper, lower = Claim("a", " ms", "b", at_most=2.0), Claim("c", "", at_least=0.9)
    assert upper.row(1.5).good and upper.row(2.5).good is False and Claim("d").row(9).good is None
    assert lower.row(0.95).good and lower.row(0.5).good is False
    assert upper.missing("llm") == Row("a", "not measured", "llm cannot be installed")
    assert "| a | 1.50 ms | b, ≤ 2 | 1–3 ms |  | ✓ |" in table([upper.row(1.5, half([1, 2, 3], " ms"))])


def test_only_the_part_of_the_readme_between_its_markers_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr("tests.benchmarks.__main__.ROOT", tmp_path)
    write_readme([Claim(HEADLINES[0]).row(0.5)], "a machine")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\na machine") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text and f"| {HEADLINES[0]} | 0.50 x |" in text


def test_every_marked_test_belongs_to_a_claim_and_every_claim_has_a_test() -> None:
    marked = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        marked |= set(re.findall(r'mark\.claim\(\s*"([^"]+)"', path.read_text()))
    assert marked == set(reliability.NAMES)


def test_the_number_of_cases_is_what_a_test_recorded() -> None:
    test = ElementTree.fromstring(
        '<testcase name="test_7_kills"><properties><property name="claim" value="c"/>'
        '<property name="cases" value="20"/></properties></testcase>'
    )
    assert reliability.parse_case(test) == ("c", 20, True)
    ElementTree.SubElement(test, "failure")
    assert reliability.parse_case(test) == ("c", 20, False)
    ElementTree.SubElement(test, "skipped")
    assert reliability.parse_case(test) is None
