"""How long planning takes, compared to trim_messages of langchain-core with the same token counts.

python -m tests.benchmarks.plan [--quick]
"""

from __future__ import annotations

import importlib.util
import random
import statistics
from collections.abc import Callable, Iterator
from functools import partial

from chatmem.history.session import Session
from chatmem.memory import strategies
from chatmem.memory.budget import Limits
from chatmem.memory.planner import plan
from chatmem.memory.retrieval import PassageIndex
from chatmem.tokens.counter import counter_for_model
from tests.benchmarks.rows import Claim, Row, half, measured, seconds

SIZES = (100, 1_000, 10_000)
SPECS = ("buffer", "window:10", "token-trim:8000", "token-trim:8000,low_water=1", "summary:8000,recall_tokens=0")
TIME = {
    (spec, size): Claim(f"plan of {size:,} messages, {spec}", " ms", at_most=1.0 if spec != "buffer" else None)
    for size in SIZES
    for spec in SPECS
}
TRIM = {size: Claim(f"trim_messages on {size:,} messages", compared_to="our plan", at_least=1.0) for size in SIZES}
RECALL = Claim("retrieval from 10,000 messages", " ms", at_most=5.0)
CLAIMS = (*TIME.values(), *TRIM.values(), RECALL)
WORDS = [f"word{n}" for n in range(2000)]


def history(messages: int, seed: int = 1) -> Session:
    """A session of so many messages of 15 to 75 words."""
    rng = random.Random(seed)
    session, head = Session("bench", system_override="You are brief."), None
    for n in range(messages):
        text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(15, 75)))
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


def trim_messages(session: Session, count: Callable[[str], int], budget: int) -> Callable[[], object] | None:
    """The same history through langchain-core, in its best configuration for a chat. None if it is not installed."""
    if importlib.util.find_spec("langchain_core") is None:
        return None
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
    from langchain_core.messages import trim_messages as trim

    conversation: list[BaseMessage] = [SystemMessage(session.system)]
    conversation += [(HumanMessage if m.role == "user" else AIMessage)(m.content) for m in session.path]
    conversation.append(HumanMessage("and now?"))

    def counter(messages: list[BaseMessage]) -> int:
        return 3 + sum(4 + count(str(m.content)) for m in messages)

    return lambda: trim(
        conversation, max_tokens=budget, token_counter=counter, strategy="last", include_system=True, start_on="human"
    )


def rows(quick: bool) -> Iterator[Row]:
    counter = counter_for_model("gpt-4o")
    times, how = (50 if quick else 200), f"counted: {counter.method}"
    for size in SIZES[:2] if quick else SIZES:
        session = history(size)
        ours: dict[str, list[float]] = {}
        for spec in SPECS:
            strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec))
            ours[spec] = seconds(partial(plan, session, "and now?", strategy, counter, Limits(1_000_000)), times)
            yield TIME[spec, size].row(statistics.median(ours[spec]) * 1000, half(ours[spec], " ms", 1000), how)
        theirs = trim_messages(session, counter.tokenize, 8000)
        if theirs is None:
            yield TRIM[size].missing("langchain-core")
            continue
        slower = statistics.median(seconds(theirs, 3)) / statistics.median(ours["token-trim:8000"])
        yield TRIM[size].row(slower, how=how)
    session, index = history(10_000), PassageIndex()
    built = seconds(lambda: index.update(session), 1, 0)[0]
    asked = seconds(
        lambda: index.retrieve("what was it about word17 and word1234 and word99?", lambda ident: True), times
    )
    yield RECALL.row(statistics.median(asked) * 1000, half(asked, " ms", 1000), f"index built in {built * 1000:.0f} ms")


if __name__ == "__main__":
    measured(rows)
