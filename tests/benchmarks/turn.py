"""What one turn costs: Enter to the request on the wire, a streamed piece, memory, a key's echo while openai is imported.

python -m tests.benchmarks.turn [--quick]
"""

from __future__ import annotations

import os
import pty
import resource
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatmem.assemble import Assembly
from chatmem.models.openai_api import OpenAIModel
from chatmem.models.replies import Reply, streamed
from chatmem.records import header
from chatmem.stores.jsonl import JsonlStore
from tests.benchmarks.files import message
from tests.benchmarks.rows import Claim, Row, half, measured
from tests.benchmarks.startup import environment
from tests.server import Server, delta, stream

WIRE = Claim("Enter to the request on the wire", " ms", most=20.0)
EVENT = Claim("our work for a streamed event", " µs", most=25.0)
PIECE = Claim("a streamed piece, from the socket to the reader", beside="the openai client alone", most=1.0)
ECHO = Claim("worst key echo while openai is imported", " ms", most=15.0)
ROOM = Claim("memory after turns in a long session", " MB")
CLAIMS = (WIRE, EVENT, PIECE, ECHO, ROOM)


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
        arrived: dict[str, float] = {}

        def answer(request: Any) -> bytes:
            arrived[request.json["messages"][-1]["content"]] = time.perf_counter()
            return stream("ok", usage={"prompt_tokens": 9000, "completion_tokens": 1})

        server.otherwise = answer
        assembly = Assembly()
        chat = assembly.chat("s")
        assembly.warm(chat)
        list(chat.say("the first one warms the connection"))
        for n in range(times):
            chat.finish_fold(30.0)  # a person takes longer to read than notes take
            question = f"what was it about word{n} and word{n * 7}?"
            start = time.perf_counter()
            list(chat.say(question))
            sent = next(text for text in reversed(arrived) if text.endswith(question))
            found.append((arrived[sent] - start) * 1000)
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


def pieces(count: int = 20_000) -> tuple[float, float]:
    """CPU microseconds for a streamed piece, ours and the openai client's alone, of the same stream in turns."""
    import openai

    data = stream(*(f"word{n} " for n in range(count)))
    with Server() as server:
        server.otherwise = lambda request: data
        model = OpenAIModel("m", server.url, lambda: "x")
        client = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        question = [{"role": "user", "content": "hi"}]

        def ours() -> int:
            return sum(len(piece.text) for piece in model.stream(question, {}))

        def theirs() -> int:
            chunks = client.chat.completions.create(model="m", messages=question, stream=True)  # type: ignore[call-overload]
            return sum(len(chunk.choices[0].delta.content or "") for chunk in chunks if chunk.choices)

        spent: dict[Any, list[float]] = {ours: [], theirs: []}
        for _ in range(4):
            for method, found in spent.items():
                before = time.thread_time()
                method()
                found.append((time.thread_time() - before) * 1e6 / count)
    return statistics.median(spent[ours][1:]), statistics.median(spent[theirs][1:])


def rows(quick: bool) -> Iterator[Row]:
    keys = sorted(echo(40 if quick else 80))
    yield ECHO.row(keys[-1], half(keys, " ms"), f"{len(keys)} keys")
    long = 2_000 if quick else 10_000
    wire = sorted(enter_to_wire(long))
    yield WIRE.row(statistics.median(wire), half(wire, " ms"), f"{long:,} messages")
    yield ROOM.row(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, how=f"{long:,} messages, whole process")
    yield EVENT.row(piece())
    ours, theirs = pieces(5_000 if quick else 20_000)
    yield PIECE.row(ours / theirs, how=f"{ours:.1f} and {theirs:.1f} µs")


if __name__ == "__main__":
    measured(rows)
