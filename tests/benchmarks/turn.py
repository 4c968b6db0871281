"""The cost of a turn: from Enter to the request, per streamed chunk, memory, and key echo while openai is imported.

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

from chatmem.app import App
from chatmem.history.records import header
from chatmem.models.openai.client import OpenAIModel
from chatmem.models.openai.response_parser import ReplyState, parse_stream
from chatmem.stores.file.store import FileStore
from tests.benchmarks.files import message
from tests.benchmarks.rows import Claim, Row, half, measured
from tests.benchmarks.startup import environment
from tests.server import Server, delta, stream

WIRE = Claim("Enter to the request at the server", " ms", at_most=20.0)
EVENT = Claim("parsing a streamed event", " µs", at_most=25.0)
PIECE = Claim("CPU time per streamed chunk", compared_to="the openai client alone", at_most=1.0)
ECHO = Claim("slowest key echo while openai is imported", " ms", at_most=15.0)
MEMORY = Claim("memory after turns in a long session", " MB")
CLAIMS = (WIRE, EVENT, PIECE, ECHO, MEMORY)


def enter_to_wire(messages: int = 10_000, times: int = 20) -> list[float]:
    """Milliseconds from `send` to the arrival of the request, in a session with this many messages."""
    import random

    rng, found = random.Random(1), []
    with tempfile.TemporaryDirectory() as directory, Server() as server:
        os.environ |= environment(Path(directory)) | {
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "x",
            "CHATMEM_MODEL": "m",
        }
        FileStore(Path(directory) / "data" / "sessions").open(
            "s", [header("s"), *(message(n, rng) for n in range(messages))]
        ).close()
        arrived: dict[str, float] = {}

        def answer(request: Any) -> bytes:
            arrived[request.json["messages"][-1]["content"]] = time.perf_counter()
            return stream("ok", usage={"prompt_tokens": 9000, "completion_tokens": 1})

        server.otherwise = answer
        app = App()
        chat = app.chat("s")
        app.preload(chat)
        list(chat.send("the first turn opens the connection"))
        for n in range(times):
            chat.wait_for_summary(30.0)  # people read longer than a summary takes
            question = f"what was it about word{n} and word{n * 7}?"
            start = time.perf_counter()
            list(chat.send(question))
            sent = next(text for text in reversed(arrived) if text.endswith(question))
            found.append((arrived[sent] - start) * 1000)
    return found


def piece() -> float:
    """CPU microseconds to parse one event."""
    chunks = [delta(f"word{n} ") for n in range(20_000)]
    start = time.process_time()
    count = sum(1 for _ in parse_stream(iter(chunks), ReplyState("server", "m")))
    return (time.process_time() - start) * 1e6 / count


def echo(keys: int = 80) -> list[float]:
    """Milliseconds until each key is echoed, from the first prompt on."""
    with tempfile.TemporaryDirectory() as directory:
        env = environment(Path(directory)) | {
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
    """CPU microseconds per chunk of the same stream: chatmem, and the openai client alone."""
    import openai

    data = stream(*(f"word{n} " for n in range(count)))
    with Server() as server:
        server.otherwise = lambda request: data
        model = OpenAIModel("m", server.url, lambda: "x")
        client = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        question: Any = [{"role": "user", "content": "hi"}]

        def ours() -> int:
            return sum(len(piece.text) for piece in model.stream(question, {}))

        def theirs() -> int:
            chunks: Any = client.chat.completions.create(model="m", messages=question, stream=True)
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
    yield MEMORY.row(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, how=f"{long:,} messages, whole process")
    yield EVENT.row(piece())
    ours, theirs = pieces(5_000 if quick else 20_000)
    yield PIECE.row(ours / theirs, how=f"{ours:.1f} and {theirs:.1f} µs")


if __name__ == "__main__":
    measured(rows)
