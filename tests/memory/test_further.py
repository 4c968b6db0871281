"""Lines that merging left out of the summary, for questions that no passage is found for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chatmem.history.session import Session
from chatmem.memory.budget import Limits
from chatmem.memory.further import FURTHER_CLOSE, FURTHER_OPEN
from chatmem.memory.plan import ContextPlan
from chatmem.memory.planner import plan
from chatmem.memory.strategies import parse_spec, strategy_from_mapping
from chatmem.terminal.context_view import print_why
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.memory.test_excerpts import session_of
from tests.memory.test_planner import index

NOW = datetime(2026, 5, 20, 9, tzinfo=UTC)
LOST = ("Owns a grey donkey.", "The locker has the number 4711.")
KEPT = ("Lives in Porto.", "Plays the cello.")


def merged_session(first: str = "\n".join((LOST[0], KEPT[0])), second: str = "\n".join((LOST[1], KEPT[1]))) -> Session:
    """Two segments of four turns each, merged into one that has a line of each, and two newer turns."""
    session = session_of(
        *((f"2026-05-{n:02}T10:00:00Z", f"Filler number {n} about zebras. " * 8) for n in range(1, 11))
    )
    for ident, start, end, level, text in (
        ("one", 0, 3, 0, f"2026-05-01: {first}"),
        ("two", 4, 7, 0, f"2026-05-05: {second}"),
        ("both", 0, 7, 1, "\n".join(KEPT)),
    ):
        sources = [[f"q{start + line % 4}"] for line in range(len(text.split("\n")))]
        session.apply(
            {
                "type": "summary",
                "id": ident,
                "from": f"q{start}",
                "to": f"a{end}",
                "level": level,
                "text": text,
                "model": "m",
                "sources": sources,
            }
        )
    return session


def planned(session: Session, question: str, spec: str = "summary:400,summary_tokens=60") -> ContextPlan:
    counter = Counter(None, estimate_tokens)
    strategy = strategy_from_mapping(parse_spec(spec))
    return plan(session, question, strategy, counter, Limits(100_000), now=NOW, retriever=index(session))


def further(session: Session, question: str = "Which animal waits at home?") -> str:
    text = planned(session, question).messages[-1]["content"]
    return text.partition(FURTHER_OPEN)[2].partition(FURTHER_CLOSE)[0].strip() if FURTHER_OPEN in text else ""


def test_a_question_that_nothing_is_found_for_gets_the_lines_that_merging_lost_with_their_days() -> None:
    assert further(merged_session()) == f"2026-05-01: {LOST[0]}\n2026-05-05: {LOST[1]}"


@pytest.mark.parametrize("question", ["Tell me about zebras, what are they?", "All is well at home."])
def test_a_question_with_passages_and_a_statement_get_none(question: str) -> None:
    assert not planned(merged_session(), question).further


def test_a_line_that_a_newer_one_replaces_or_repeats_is_not_shown() -> None:
    session = merged_session(
        first="The locker has the number 1200.\nPlays the cello.", second="The locker has the number 4711."
    )
    assert further(session) == "2026-05-05: The locker has the number 4711."


def test_lines_stay_within_the_space_of_the_passages_and_the_newest_come_first() -> None:
    many = [f"Item {chr(97 + n // 26)}{chr(97 + n % 26)}x weighs {n} kilos." for n in range(200)]
    session = merged_session(first="\n".join(many[:100]), second="\n".join(many[100:]))
    context = planned(session, "Which animal waits at home?")
    shown = [line.text for line in context.further]
    assert shown == many[-len(shown) :]
    assert context.tokens <= 400 and 140 <= context.token_breakdown["recalled"] <= 160


def test_the_lines_of_a_segment_that_does_not_fit_are_shown_without_those_that_the_summary_has() -> None:
    session = session_of(*((f"2026-05-{n:02}T10:00:00Z", f"Filler number {n} about zebras. " * 8) for n in range(1, 8)))
    lines = [f"Item {chr(97 + n)}x weighs {n} kilos." for n in range(12)]
    record = {"type": "summary", "id": "one", "from": "q0", "to": "a4", "text": "\n".join(lines), "model": "m"}
    session.apply(record)
    context = planned(session, "Which animal waits at home?")
    summary = context.messages[0]["content"]
    shown = [line.text for line in context.further]
    assert context.summary.clipped and shown
    assert shown == [line for line in lines if line not in summary][-len(shown) :]


def test_what_was_forgotten_or_excluded_is_not_shown() -> None:
    session = merged_session()
    session.apply({"type": "forget", "text": "donkey"})
    assert "donkey" not in further(session)
    session = merged_session()
    session.apply({"type": "mark", "message": "q1", "excluded": True})
    assert "donkey" not in further(session)


def test_a_line_cannot_close_its_block() -> None:
    session = merged_session(first=f"Owns {FURTHER_CLOSE} a donkey.\n{FURTHER_CLOSE}")
    text = planned(session, "Which animal waits at home?").messages[-1]["content"]
    assert text.count(FURTHER_CLOSE) == 1 and text.endswith(f"{FURTHER_CLOSE}\n\nWhich animal waits at home?")


def test_the_digest_and_why_name_the_turns_that_further_lines_stem_from() -> None:
    import io

    from chatmem.terminal.terminal import Terminal

    session = merged_session()
    digest = planned(session, "Which animal waits at home?").digest()
    assert digest["further"] == ["q0", "q4"]
    question = {"id": "q10", "parent": "a9", "role": "user", "content": "Which animal?", "time": "2026-05-20T09:00:00Z"}
    reply = {"id": "a10", "parent": "q10", "role": "assistant", "content": "A donkey.", "time": "2026-05-20T09:00:01Z"}
    session.apply({"type": "message", **question})
    session.apply({"type": "message", **reply, "status": "complete", "sent": digest})
    screen = io.StringIO()
    print_why(Terminal(screen, screen), session, 11)
    assert "further lines of the summary, from turns 1, 5" in screen.getvalue()
