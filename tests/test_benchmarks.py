"""The numbers in the README are of claims that are measured."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BEGIN, END, GROUPS, HEADLINES, into_readme
from tests.benchmarks.rows import Claim, Row, half, table

README = Path(__file__).parents[1] / "README.md"
CLAIMS = [claim for group in GROUPS for claim in importlib.import_module(f"tests.benchmarks.{group}").CLAIMS]


def test_no_two_claims_have_one_name() -> None:
    names = [claim.name for claim in CLAIMS]
    assert len(names) == len(set(names))


def test_every_row_of_the_readme_is_a_claim_that_is_measured() -> None:
    part = README.read_text().split(BEGIN)[1].split(END)[0]
    shown = [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| ")][1:]
    assert shown == [name for name in HEADLINES if name in shown] and len(shown) >= 10
    assert set(HEADLINES) <= {claim.name for claim in CLAIMS}


def test_a_figure_is_held_to_its_limit_and_a_missing_peer_is_said() -> None:
    most, least = Claim("a", " ms", "b", most=2.0), Claim("c", "", least=0.9)
    assert most.row(1.5).good and most.row(2.5).good is False and Claim("d").row(9).good is None
    assert least.row(0.95).good and least.row(0.5).good is False
    assert most.missing("llm") == Row("a", "not measured", "llm could not be installed")
    assert "| a | 1.50 ms | b, ≤ 2 | 1–3 ms |  | ✓ |" in table([most.row(1.5, half([1, 2, 3], " ms"))])


def test_the_readme_is_written_between_its_markers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    monkeypatch.setattr("tests.benchmarks.__main__.ROOT", tmp_path)
    into_readme([Claim(HEADLINES[0]).row(0.5)], "a machine")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\na machine") and text.endswith(f"{END}\nafter\n")
    assert "old" not in text and f"| {HEADLINES[0]} | 0.50 x |" in text
