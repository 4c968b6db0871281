"""The wheel that users install."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.long
def test_the_wheel_starts_in_an_empty_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("chatmem_cli-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True)
    chatmem = tmp_path / "venv" / "bin" / "chatmem"
    done = subprocess.run(
        [chatmem, "chat", "-s", "t"], input="My name is Nemo.\nWhat is my name?\n", capture_output=True, text=True
    )
    assert done.returncode == 0 and "Nemo" in done.stdout.splitlines()[1], done.stderr
    assert subprocess.run([chatmem, "--help"], capture_output=True).returncode == 0
    assert subprocess.run([chatmem, "sessions", "list"], capture_output=True, text=True).stdout.startswith("t\t")


def test_the_top_level_has_only_the_agreed_files() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    top_level = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "chatmem", "tests", "config.example.toml", "CHANGELOG.md", "LICENSE"}
    assert {top for top in top_level if not top.startswith(".")} <= allowed
