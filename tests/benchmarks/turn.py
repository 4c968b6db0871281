"""What one turn costs: Enter to the request on the wire, a streamed piece, a key's echo while the client is imported.

python -m tests.benchmarks.turn
"""

from __future__ import annotations

import os
import pty
import select
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from chatmem.assemble import Assembly
from chatmem.models.replies import Reply, streamed
from chatmem.records import header
from chatmem.stores.jsonl import JsonlStore
from tests.benchmarks.files import message
from tests.benchmarks.startup import environment
from tests.server import Server, delta, stream


def enter_to_wire(messages: int = 10_000, times: int = 20) -> list[float]:
    """Milliseconds from `say` to the request's arrival, in a session of so many messages, everything warm."""
    import random

    chance, found = random.Random(1), []
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        os.environ |= environment(Path(folder)) | {
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "x",
            "CHATMEM_MODEL": "m",
        }
        JsonlStore(Path(folder) / "data" / "sessions").open(
            "s", [header("s"), *(message(n, chance) for n in range(messages))]
        ).close()
        arrived: list[float] = []

        def answer(request: Any) -> bytes:
            arrived.append(time.perf_counter())
            return stream("ok", usage={"prompt_tokens": 9000, "completion_tokens": 1})

        server.otherwise = answer
        assembly = Assembly()
        chat = assembly.chat("s")
        assembly.warm(chat)
        list(chat.say("the first one warms the connection"))
        for n in range(times):
            start = time.perf_counter()
            list(chat.say(f"what was it about word{n} and word{n * 7}?"))
            found.append((arrived[-1] - start) * 1000)
    return found


def piece() -> float:
    """Microseconds of our own work for one plain event."""
    chunks = [delta(f"word{n} ") for n in range(20_000)]
    start = time.process_time()
    count = sum(1 for _ in streamed(iter(chunks), Reply("here", "m")))
    return (time.process_time() - start) * 1e6 / count


def echo(keys: int = 80) -> list[float]:
    """Milliseconds until each of so many keys shows, typed from the moment the prompt is there."""
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder)) | {
            "OPENAI_API_KEY": "x",
            "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "chatmem", "chat"], env)
        seen, found = b"", []
        try:
            while b"\x1b[?2004h" not in seen:
                seen += os.read(terminal, 65536)
            for n in range(keys):
                key = b"abcdefghij"[n % 10 : n % 10 + 1]
                start = time.perf_counter()
                os.write(terminal, key)
                data = b""
                while key not in data and select.select([terminal], [], [], 5)[0]:
                    data += os.read(terminal, 65536)
                found.append((time.perf_counter() - start) * 1000)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(terminal)
    return found


def rows() -> list[str]:
    keys = echo()
    wire = enter_to_wire()
    return [
        "| claim | figure | limit |",
        "|---|---|---|",
        f"| Enter to the wire, 10,000 messages | {statistics.median(wire):.1f} ms, worst {max(wire):.1f} | ≤ 20 ms |",
        f"| our work per streamed event | {piece():.1f} µs | ≤ 25 µs |",
        f"| key echo while the client is imported | {statistics.median(keys):.1f} ms, worst {max(keys):.1f} | ≤ 15 ms |",
    ]


if __name__ == "__main__":
    print("\n".join(rows()))
