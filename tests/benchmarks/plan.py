"""How long a plan takes, beside langchain-core's trim_messages with the same counts.

python -m tests.benchmarks.plan
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import time
from collections.abc import Callable

from chatmem import memory, tokens
from chatmem.memory.plan import plan
from chatmem.memory.recall import FullText
from chatmem.session import Session

SIZES = (100, 1_000, 10_000)
SPECS = ("buffer", "window:10", "token-trim:8000", "token-trim,max_tokens=8000", "summary:8000,recall_tokens=0")
WORDS = [f"word{n}" for n in range(2000)]


def history(messages: int, seed: int = 1) -> Session:
    """A session of so many messages of 15 to 75 words."""
    chance = random.Random(seed)
    session, head = Session("bench", prompt="You are brief."), None
    for n in range(messages):
        text = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(15, 75)))
        session.apply(
            {
                "type": "message",
                "id": f"m{n}",
                "parent": head,
                "role": ("user", "assistant")[n % 2],
                "content": text,
                "time": "",
            }
        )
        head = f"m{n}"
    return session


def timed(once: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each of so many calls, after one that does not count."""
    once()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        once()
        found.append((time.perf_counter() - start) * 1000)
    return sorted(found)


def trim_messages(session: Session, count: Callable[[str], int], budget: int) -> Callable[[], object] | None:
    """The same history through langchain-core, its best configuration for a chat; None where it is not installed."""
    if importlib.util.find_spec("langchain_core") is None:
        return None
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
    from langchain_core.messages import trim_messages as trim

    talk: list[BaseMessage] = [SystemMessage(session.system)]
    talk += [(HumanMessage if m.role == "user" else AIMessage)(m.content) for m in session.path]
    talk.append(HumanMessage("and now?"))

    def counter(messages: list[BaseMessage]) -> int:
        return 3 + sum(4 + count(str(m.content)) for m in messages)

    return lambda: trim(
        talk, max_tokens=budget, token_counter=counter, strategy="last", include_system=True, start_on="human"
    )


def rows(times: int = 200) -> list[str]:
    counter = tokens.counter("gpt-4o")
    found = [
        f"counted: {counter.how}",
        "| messages | strategy | median ms | p99 ms | trim_messages / plan |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        session = history(size)
        for spec in SPECS:
            strategy = memory.from_table(memory.table_of(spec))
            ours = timed(
                lambda session=session, strategy=strategy: plan(session, "and now?", strategy, counter, 1_000_000),
                times,
            )
            ratio = ""
            if spec == "token-trim:8000":
                theirs = trim_messages(session, counter.count, 8000)
                ratio = (
                    f"{statistics.median(timed(theirs, 3)) / statistics.median(ours):.0f}"
                    if theirs
                    else "langchain-core is not installed"
                )
            found.append(
                f"| {size} | {spec} | {statistics.median(ours):.3f} | {ours[int(len(ours) * 0.99)]:.3f} | {ratio} |"
            )
    session, index = history(10_000), FullText()
    start = time.perf_counter()
    index.update(session)
    built = (time.perf_counter() - start) * 1000
    asked = timed(lambda: index.find("what was it about word17 and word1234 and word99?", lambda ident: True), times)
    found.append(
        f"| 10000 | recall alone (index built in {built:.0f} ms) | {statistics.median(asked):.3f} | {asked[int(len(asked) * 0.99)]:.3f} | |"
    )
    return found


if __name__ == "__main__":
    print("\n".join(rows()))
