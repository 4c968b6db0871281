"""The layers of `.github/ARCHITECTURE.md` hold, and nothing heavy is imported before the prompt is ready."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatmem

PACKAGE = Path(chatmem.__file__).parent
DOCUMENT = PACKAGE.parent / ".github" / "ARCHITECTURE.md"
OUTSIDE_LAYERS = {"__init__", "__main__"}

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def layers() -> dict[str, int]:
    """From each part of the package to the number of its layer, the topmost first."""
    line = re.search(r"^    (\w+.* → .*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert line, "the document has no line of layers"
    return {part.strip(): number for number, layer in enumerate(line[1].split("→")) for part in layer.split("|")}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, at the top, inside functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found & MODULES.keys()


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_point_to_lower_layers(module: str) -> None:
    part, order = part_of(module), layers()
    if part in OUTSIDE_LAYERS:
        return
    assert part in order, f"{part} has no layer"
    for other in imports(MODULES[module]):
        if part_of(other) not in {part, *OUTSIDE_LAYERS}:
            assert order[part_of(other)] > order[part], f"{module} imports {other}"


def test_every_layer_exists() -> None:
    assert layers().keys() == {part_of(module) for module in MODULES} - OUTSIDE_LAYERS


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {module: imports(path) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def cycles(module: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if module in path:
            yield (*path[path.index(module) :], module)
        elif module not in done:
            for other in sorted(graph[module]):
                yield from cycles(other, (*path, module))
            done.add(module)

    assert [cycle for module in graph for cycle in cycles(module, ())] == []


@pytest.mark.parametrize("front_end", ["cli", "repl"])
def test_the_core_names_no_command_of_a_front_end(front_end: str) -> None:
    lowest = layers()["app"]
    pattern = re.compile(r"(?<![\w/`'])/(?:retry|pin|unpin|model|memory|recall|save|export|new|open|set|context)\b")
    if front_end == "cli":
        pattern = re.compile(r"chatmem (?:chat|ask|sessions|context) -")
    for module, path in MODULES.items():
        if layers().get(part_of(module), 0) < lowest:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not pattern.search(node.value), f"{module}: {node.value}"


def test_every_module_has_a_docstring() -> None:
    for path in MODULES.values():
        assert ast.get_docstring(ast.parse(path.read_text())), path


def loaded_after(code: str) -> set[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.split())


def test_openai_tiktoken_and_rich_are_not_imported_before_the_prompt_is_ready() -> None:
    loaded = loaded_after(
        "import chatmem.cli.main, chatmem.cli.start_chat\n"
        "from chatmem.app import App\nfrom chatmem.repl.repl import Repl\nfrom chatmem.terminal.terminal import Terminal\n"
        "app = App(offline=True)\nrepl = Repl(app.chat('x'), app, Terminal())\n"
        "repl.print_banner(); repl.prompt._make_session()"
    )
    assert "prompt_toolkit" in loaded
    assert not loaded & {
        "openai",
        "httpx2",
        "tiktoken",
        "rich.markdown",
        "rich.console",
        "pygments",
        "filelock",
        "sqlite3",
        "typer",
        "pydantic",
    }


def test_the_version_imports_neither_typer_nor_the_commands() -> None:
    loaded = loaded_after("import sys; sys.argv = ['chatmem', '--version']\nfrom chatmem.__main__ import main\nmain()")
    assert "chatmem.__main__" in loaded
    assert not loaded & {"typer", "pydantic", "rich", "prompt_toolkit", "chatmem.cli"}


def test_a_plain_list_imports_neither_rich_nor_the_prompt() -> None:
    loaded = loaded_after(
        "import sys; sys.argv = ['chatmem', 'sessions', 'list']\nimport chatmem.cli.main\n"
        "try: chatmem.cli.main.main()\nexcept SystemExit: pass"
    )
    assert "chatmem.cli" in loaded
    assert not loaded & {"rich.console", "prompt_toolkit", "openai", "tiktoken", "filelock", "pydantic"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sessions", "list", "--limit", "none"], "--limit"),
        (["sessions", "list", "--limit", "0"], "--limit"),
        (["sessions", "list", "--sort", "colour"], "--sort"),
        (["sessions", "rename", "one"], "NEW"),
    ],
)
def test_an_argument_that_is_not_valid_is_named(arguments: list[str], named: str) -> None:
    done = subprocess.run([sys.executable, "-m", "chatmem", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and named in done.stderr
