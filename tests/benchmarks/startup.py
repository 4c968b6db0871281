"""How long it takes until chatmem is there, as ratios to an empty Typer app with one option, in the same run.

python -m tests.benchmarks.startup [ROUNDS]
"""

from __future__ import annotations

import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

EMPTY = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def main(name: str = typer.Option("x")) -> None: ...
app()
"""
TARGETS = {"--version": 0.6, "sessions list": 1.4, "prompt that takes keys": 1.8}


def environment(home: Path) -> dict[str, str]:
    """A home without keys, where compiled bytecode is kept, as after any installation."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "CHATMEM", "PYTHONDONTWRITE"))}
    config = home / "config.toml"
    config.write_text("discover = false\n")
    return kept | {"CHATMEM_DATA_DIR": str(home / "data"), "CHATMEM_CONFIG": str(config), "TERM": "xterm-256color"}


def process(*arguments: str, env: dict[str, str]) -> Callable[[], float]:
    """Seconds of a whole process."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return time.perf_counter() - start

    return once


def prompt(*arguments: str, env: dict[str, str], shown: bytes = b"\x1b[?2004h") -> Callable[[], float]:
    """Seconds from exec in a pseudo-terminal until a typed key is echoed by the prompt."""

    def once() -> float:
        start = time.perf_counter()
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, *arguments], env)
        seen, typed = b"", False
        try:
            while True:
                if not select.select([terminal], [], [], 20)[0]:
                    raise TimeoutError(seen)
                seen += os.read(terminal, 65536)
                if b"\x1b[6n" in seen:
                    os.write(terminal, b"\x1b[1;1R")
                    seen = seen.replace(b"\x1b[6n", b"")
                if not typed and shown in seen:
                    os.write(terminal, b"~")
                    typed, seen = True, b""
                elif typed and b"~" in seen:
                    return time.perf_counter() - start
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)

    return once


def measure(rounds: int) -> dict[str, float]:
    """The median ratio of each case to the empty app, the cases taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder))
        cases = {
            "empty app": process("-c", EMPTY, env=env),
            "--version": process("-m", "chatmem", "--version", env=env),
            "sessions list": process("-m", "chatmem", "sessions", "list", env=env),
            "prompt that takes keys": prompt("-m", "chatmem", "chat", env=env),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, once in cases.items():
                seconds = once()
                if number:
                    times[name].append(seconds)
    floor = times["empty app"]
    return {
        n: statistics.median(t / f for t, f in zip(ts, floor, strict=True))
        for n, ts in times.items()
        if n != "empty app"
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    for name, ratio in measure(rounds).items():
        print(f"{name:24} {ratio:5.2f} x an empty Typer app (target {TARGETS[name]})")


if __name__ == "__main__":
    main()
