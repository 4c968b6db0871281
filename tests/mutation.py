"""Small changes to the source, one at a time, and whether the tests notice them.

    python -m tests.mutation [--per-module N] [--seed N]

Each mutant is one change to a copy of the package: a comparison or an arithmetic operator replaced, a condition negated,
`and` and `or` exchanged, a number changed by one, a statement removed. The tests of the module are run on the copy. A
mutant that no test notices is printed: it is a missing test, or the change makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import copy
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
DATABASE_TESTS = ["tests/stores/test_contract.py", "tests/stores/test_databases.py", "tests/stores/test_outbox.py"]
MEMORY_TESTS = ["tests/memory", "-k", "not 25000"]
RETRIEVAL_TESTS = ["tests/memory/test_retrieval.py", "tests/memory/test_excerpts.py"]
SUMMARY_TESTS = [
    "tests/memory/test_summarizer.py",
    "tests/memory/test_verification.py",
    "tests/memory/test_forgetting.py",
]
TARGETS = {
    "chatmem/history/session.py": ["tests/history", "tests/chat", "tests/memory/test_summarizer.py"],
    "chatmem/stores/file/log.py": ["tests/stores/test_file.py", "tests/stores/test_contract.py", "tests/chat"],
    "chatmem/stores/database/log.py": [*DATABASE_TESTS, "-k", "not mongodb and not postgresql"],
    "chatmem/stores/database/remote_log.py": [*DATABASE_TESTS, "-k", "not mongodb and not postgresql"],
    "chatmem/models/openai/error_mapping.py": ["tests/models/test_error_mapping.py", "tests/models/test_openai.py"],
    "chatmem/models/openai/sse.py": ["tests/models/test_sse.py", "tests/models/test_openai.py"],
    "chatmem/memory/planner.py": MEMORY_TESTS,
    "chatmem/memory/plan.py": MEMORY_TESTS,
    "chatmem/memory/budget.py": MEMORY_TESTS,
    "chatmem/memory/shortening.py": MEMORY_TESTS,
    "chatmem/memory/summaries.py": MEMORY_TESTS,
    "chatmem/memory/strategies/base.py": MEMORY_TESTS,
    "chatmem/memory/strategies/summary.py": MEMORY_TESTS,
    "chatmem/memory/strategies/window.py": MEMORY_TESTS,
    "chatmem/memory/retrieval.py": RETRIEVAL_TESTS,
    "chatmem/memory/passages.py": RETRIEVAL_TESTS,
    "chatmem/memory/excerpts.py": RETRIEVAL_TESTS,
    "chatmem/memory/dates.py": ["tests/memory/test_dates.py", *RETRIEVAL_TESTS],
    "chatmem/memory/forgetting.py": ["tests/memory/test_forgetting.py"],
    "chatmem/memory/summarizer.py": SUMMARY_TESTS,
    "chatmem/memory/verification.py": SUMMARY_TESTS,
    "chatmem/memory/values.py": SUMMARY_TESTS,
    "chatmem/memory/further.py": ["tests/memory/test_further.py"],
    "chatmem/templates.py": ["tests/cli/test_templates.py"],
    "chatmem/models/spending.py": ["tests/models/test_spending.py"],
    "chatmem/chat/background_title.py": ["tests/chat/test_title.py"],
    "chatmem/api.py": ["tests/api", "-k", "not postgresql and not redis"],
    "chatmem/memory/user_facts.py": ["tests/chat/test_facts.py", "-k", "fact and not postgresql and not redis"],
    "chatmem/history/facts.py": ["tests/chat/test_facts.py", "-k", "fact and not postgresql and not redis"],
    "chatmem/repl/typed_ahead.py": ["tests/repl/test_pty.py"],
    "chatmem/terminal/sanitize.py": ["tests/terminal/test_sanitize.py", "tests/terminal/test_markdown.py"],
}
"""The modules that are mutated, and the tests that should notice."""

OPPOSITES: dict[type[ast.AST], Any] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}

MUTABLE = (ast.Compare, ast.BoolOp, ast.BinOp, ast.If, ast.While, ast.IfExp, ast.Constant, ast.Expr, ast.Return)
"""The nodes that can be changed."""


class Mutant(NamedTuple):
    """A changed module: its path, the line, what was changed, and the new source."""

    path: str
    line: int
    change: str
    source: str


class Result(NamedTuple):
    """Whether the tests noticed a mutant."""

    mutant: Mutant
    killed: bool


def mutants(path: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    tree = ast.parse((ROOT / path).read_text())
    for number, original in enumerate(ast.walk(tree)):
        if not isinstance(original, MUTABLE):
            continue
        changed = copy.deepcopy(tree)
        node = next(itertools.islice(ast.walk(changed), number, None))
        if change := _mutate(node):
            ast.fix_missing_locations(changed)
            yield Mutant(path, getattr(node, "lineno", 0), change, ast.unparse(changed))


def _mutate(node: ast.AST) -> str:
    """Change a node in place. Returns a description, empty if there is nothing to change."""
    if isinstance(node, ast.Compare):
        old = type(node.ops[0]).__name__
        node.ops[0] = OPPOSITES[type(node.ops[0])]()
        return f"{old} to {type(node.ops[0]).__name__}"
    if isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in OPPOSITES:
        old = type(node.op).__name__
        node.op = OPPOSITES[type(node.op)]()
        return f"{old} to {type(node.op).__name__}"
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return ""
        node.test = ast.UnaryOp(ast.Not(), node.test)
        return "condition negated"
    if isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += 1
        return f"{node.value - 1} to {node.value}"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        description = f"removed {ast.unparse(node)[:60]}"
        node.value = ast.Constant(None)
        return description
    if isinstance(node, ast.Return) and node.value is not None:
        if isinstance(node.value, ast.Constant):
            return ""
        description = f"return None instead of {ast.unparse(node.value)[:60]}"
        node.value = ast.Constant(None)
        return description
    return ""


def is_killed(mutant: Mutant, timeout: float = 300) -> bool:
    """Whether the tests fail on a copy of the project with this mutant."""
    with tempfile.TemporaryDirectory() as directory:
        copy_root = Path(directory)
        for name in ("chatmem", "tests", ".github"):
            shutil.copytree(ROOT / name, copy_root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "config.example.toml"):
            shutil.copy(ROOT / name, copy_root / name)
        (copy_root / mutant.path).write_text(mutant.source)
        options = ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-m", "not long"]
        command = [sys.executable, "-m", "pytest", *TARGETS[mutant.path], *options, "--timeout", "60"]
        env = {**os.environ, "PYTHONPATH": directory, "PYTHONDONTWRITEBYTECODE": "1", "CHATMEM_TEST_SEED": "1"}
        try:
            done = subprocess.run(command, cwd=copy_root, env=env, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return True
        return done.returncode != 0


def run(per_module: int, seed: int) -> list[Result]:
    """Try a random sample of the mutants of every target."""
    rng = random.Random(seed)
    chosen: list[Mutant] = []
    for path in TARGETS:
        found = list(mutants(path))
        chosen += rng.sample(found, min(per_module, len(found)))
    results = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, killed in zip(chosen, pool.map(is_killed, chosen), strict=True):
            results.append(Result(mutant, killed))
            if not killed:
                print(f"survived: {mutant.path}:{mutant.line}: {mutant.change}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-module", type=int, default=40, help="mutants tried per module")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    given = parser.parse_args()
    results = run(given.per_module, given.seed)
    for path in TARGETS:
        mine = [r.killed for r in results if r.mutant.path == path]
        print(f"{path}: {sum(mine)} of {len(mine)} killed")
    print(f"{sum(r.killed for r in results) / len(results):.0%} of {len(results)} mutants killed (seed {given.seed})")


if __name__ == "__main__":
    main()
