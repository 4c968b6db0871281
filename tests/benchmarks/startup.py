"""How long chatmem takes to start: whole processes, and a pseudo-terminal that waits until a key is echoed.

    python -m tests.benchmarks.startup [--quick]

The cases alternate. The peer is llm, in an environment of its own (CHATMEM_BENCH_LLM is the path of its program).
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
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.rows import Claim, Row, half, measured

EMPTY = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def main(name: str = typer.Option("x")) -> None: ...
app()
"""
TYPER = "an empty Typer app with one option"
VERSION = Claim("chatmem --version", compared_to=TYPER, at_most=0.6)
NOTHING = Claim("chatmem --version, compared to Python", compared_to="python -c pass")
LIST = Claim("chatmem sessions list", compared_to=TYPER, at_most=1.4)
PROMPT = Claim("start to the prompt", compared_to=TYPER, at_most=1.8)
LLM = Claim("start to the prompt, compared to llm", compared_to="llm chat", at_most=0.5)
MEMORY = Claim("memory at the prompt", compared_to="llm chat")
CLAIMS = (VERSION, NOTHING, LIST, PROMPT, LLM, MEMORY)


def environment(home: Path) -> dict[str, str]:
    """A home without keys. Bytecode is cached, as after any installation."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "CHATMEM", "PYTHONDONTWRITE"))}
    config = home / "config.toml"
    config.write_text("discover = false\n")
    ours = {"CHATMEM_DATA_DIR": str(home / "data"), "CHATMEM_CONFIG": str(config), "LLM_USER_PATH": str(home / "llm")}
    return others | ours | {"TERM": "xterm-256color"}


def process(*command: str, env: dict[str, str]) -> Callable[[], float]:
    """Seconds of a whole process."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - start

    return once


class PromptProcess:
    """A program at its prompt in a pseudo-terminal: the seconds until a key was echoed, and its memory."""

    def __init__(self, command: list[str], env: dict[str, str], shown: bytes) -> None:
        start = time.perf_counter()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, env)
        seen, typed = b"", False
        while not (typed and b"~" in seen):
            if not select.select([self.terminal], [], [], 20)[0]:
                raise TimeoutError(seen)
            seen += os.read(self.terminal, 65536)
            if b"\x1b[6n" in seen:
                os.write(self.terminal, b"\x1b[1;1R")
                seen = seen.replace(b"\x1b[6n", b"")
            if not typed and shown in seen:
                os.write(self.terminal, b"~")
                seen, typed = b"", True
        self.seconds = time.perf_counter() - start

    @property
    def kilobytes(self) -> int:
        """Resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def prompt(
    *command: str, env: dict[str, str], shown: bytes = b"\x1b[?2004h", sizes: list[int] | None = None
) -> Callable[[], float]:
    """Seconds from exec until a typed key is echoed by the prompt."""

    def once() -> float:
        running = PromptProcess(list(command), env, shown)
        if sizes is not None:
            sizes.append(running.kilobytes)
        running.close()
        return running.seconds

    return once


def rows(quick: bool) -> Iterator[Row]:
    """The median ratio of each case, round by round."""
    rounds = 5 if quick else 15
    chatmem, llm = str(Path(sys.executable).with_name("chatmem")), os.environ.get("CHATMEM_BENCH_LLM")
    our_size: list[int] = []
    their_size: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        env = environment(Path(directory))
        cases = {
            "empty": process(sys.executable, "-c", EMPTY, env=env),
            "pass": process(sys.executable, "-c", "pass", env=env),
            "version": process(chatmem, "--version", env=env),
            "list": process(chatmem, "sessions", "list", env=env),
            "prompt": prompt(chatmem, "chat", env=env, sizes=our_size),
        }
        if llm:
            cases["llm"] = prompt(llm, "chat", env=env | {"OPENAI_API_KEY": "x"}, shown=b"> ", sizes=their_size)
        times: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, once in cases.items():
                seconds = once()
                if number:
                    times[name].append(seconds)
    for claim, case, floor in (
        (VERSION, "version", "empty"),
        (NOTHING, "version", "pass"),
        (LIST, "list", "empty"),
        (PROMPT, "prompt", "empty"),
        (LLM, "prompt", "llm"),
    ):
        if floor not in times:
            yield claim.missing("llm")
            continue
        ratios = [mine / theirs for mine, theirs in zip(times[case], times[floor], strict=True)]
        yield claim.row(statistics.median(ratios), half(ratios, " x"), f"{rounds} rounds")
    if llm:
        yield MEMORY.row(statistics.median(our_size) / statistics.median(their_size), half(our_size, " MB", 1 / 1024))
    else:
        yield MEMORY.missing("llm")


if __name__ == "__main__":
    measured(rows)
