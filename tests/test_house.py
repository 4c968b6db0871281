"""The house keeps its plan: imports run down the stairs, and nothing heavy comes in before the prompt."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import chatmem

HOUSE = Path(chatmem.__file__).parent
STAIRS = (
    "cli, langchain → checkup, repl → screen → assemble → config, paths → chat → keeping → memory, models, stores, formats "
    "→ tokens → names → session → records → settings → errors"
)
"""Who may import whom: only from a step to one further right. Neighbours on one step do not know one another,
but for what stands on `ALLOWED`. `paths` and `settings` are plain tools for what lies above them."""
ALLOWED = {("stores", "paths"), ("models", "paths"), ("config", "paths"), ("assemble", "config"), ("formats", "screen")}

STEPS = {room: number for number, step in enumerate(STAIRS.split("→")) for room in (r.strip() for r in step.split(","))}


def imports(path: Path) -> set[str]:
    """The rooms of ours that a file imports, at the top or inside a function; not those for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("chatmem.")}


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_run_down_the_stairs(path: Path) -> None:
    room = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    if room.startswith("__"):
        return
    assert room in STEPS, f"{room} has no place on the stairs"
    for other in imports(path) - {room, "__version__"}:
        assert STEPS[other] > STEPS[room] or (room, other) in ALLOWED, f"{room} imports {other}"


def test_every_module_greets_its_reader() -> None:
    for path in HOUSE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_openai_tiktoken_and_rich_are_not_imported_before_the_prompt_is_ready() -> None:
    loaded = loaded_after(
        "import chatmem.cli, chatmem.repl.loop\n"
        "from chatmem.assemble import Assembly\nfrom chatmem.screen.terminal import Terminal\n"
        "assembly = Assembly(offline=True)\nroom = chatmem.repl.loop.Room(assembly.chat('x'), assembly, Terminal())\n"
        "room.greet(); room.prompt._make()"
    )
    assert not loaded & {
        "openai",
        "httpx2",
        "tiktoken",
        "rich.markdown",
        "rich.console",
        "pygments",
        "filelock",
        "sqlite3",
    }


def test_the_version_needs_nothing_but_itself() -> None:
    loaded = loaded_after("import sys; sys.argv = ['chatmem', '--version']\nfrom chatmem.__main__ import main\nmain()")
    assert not loaded & {"typer", "pydantic", "rich", "prompt_toolkit", "chatmem.cli"}


def test_a_list_for_a_program_needs_no_rich_and_no_prompt() -> None:
    loaded = loaded_after(
        "import sys; sys.argv = ['chatmem', 'sessions', 'list']\nimport chatmem.cli\n"
        "try: chatmem.cli.main()\nexcept SystemExit: pass"
    )
    assert not loaded & {"rich.console", "prompt_toolkit", "openai", "tiktoken", "filelock", "pydantic"}


def test_what_is_not_plain_text_still_goes_typers_way() -> None:
    for words, said in (
        (["sessions", "list", "--limit", "none"], "--limit"),
        (["sessions", "list", "--limit", "0"], "--limit"),
        (["sessions", "list", "--sort", "colour"], "--sort"),
        (["sessions", "rename", "one"], "NEW"),
    ):
        done = subprocess.run([sys.executable, "-m", "chatmem", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2 and said in done.stderr, words
