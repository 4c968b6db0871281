"""The tests of the core notice most small changes to it."""

from __future__ import annotations

import ast
import itertools

import pytest

from tests import mutation


@pytest.mark.long
@pytest.mark.timeout(14_400)
def test_at_least_85_percent_of_the_mutants_are_killed() -> None:
    results = mutation.run(per_module=40, seed=1)
    assert sum(result.killed for result in results) >= 0.85 * len(results)


@pytest.mark.long
@pytest.mark.parametrize("path", mutation.TARGETS)
def test_every_mutant_is_valid_source_that_differs(path: str) -> None:
    original = ast.unparse(ast.parse((mutation.ROOT / path).read_text()))
    found = list(itertools.islice(mutation.mutants(path), 4))
    assert len(found) == 4
    for mutant in found:
        compile(mutant.source, path, "exec")
        assert mutant.source != original
