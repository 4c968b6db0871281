"""The newest turn is always sent, and budgets follow the context window: the contract's sizes, one by one."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from chatmem.errors import ContextBudgetError
from chatmem.history.session import Session
from chatmem.memory import strategies
from chatmem.memory.budget import Limits, limits_for, proven_window
from chatmem.memory.plan import ContextPlan
from chatmem.memory.planner import MIN_DATE_SPACE, plan
from chatmem.memory.summaries import COPY_OPEN
from chatmem.tokens.counter import Counter
from tests.memory.test_planner import NOW, add_summary, index, numbers


def make_session(*sizes: int, system: str = "") -> Session:
    """A session of turns with these numbers of words, two thirds of them in the reply."""
    session = Session("s", system_override=system)
    for number, size in enumerate(sizes, 1):
        add_turn(session, number, size)
    return session


def add_turn(session: Session, number: int, size: int, context: ContextPlan | None = None) -> None:
    asked, replied = f"q{number} " * max(1, size // 3), f"a{number} " * max(1, size - size // 3)
    question = {"type": "message", "id": f"q{number}", "parent": session.head, "role": "user", "content": asked.strip()}
    session.apply(question)
    reply = {
        "type": "message",
        "id": f"a{number}",
        "parent": f"q{number}",
        "role": "assistant",
        "content": replied.strip(),
    }
    session.apply(reply | ({"sent": context.digest()} if context else {}))


def plan_with(session: Session, spec: str, limits: Limits, question: str = "and now shorter") -> ContextPlan:
    """A plan that counts words, so that sizes in these tests can be read off."""
    strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec))
    counter = Counter(None, lambda text: len(text.split()))
    return plan(session, question, strategy, counter, limits, retriever=index(session))


LARGE = limits_for(128_000)


@pytest.mark.parametrize("spec", ["summary", "token-trim", "buffer", "window:6"])
@pytest.mark.parametrize("size", [13_500, 29_649, 70_000])
def test_a_long_newest_turn_is_sent_whole_if_the_model_takes_it(spec: str, size: int) -> None:
    context = plan_with(make_session(100, 100, size), spec, LARGE)
    assert context.newest_turn == "whole" and 3 in numbers(context) and context.notices == ()


@pytest.mark.parametrize("spec", ["summary", "token-trim", "buffer", "window:6", "summary:3000", "token-trim:3000"])
def test_a_newest_turn_that_is_too_long_is_shortened_with_a_notice(spec: str) -> None:
    context = plan_with(make_session(100, 12_000), spec, limits_for(None, is_local=True))
    assert context.newest_turn == "shortened" and context.shortened.keys() == {"q2", "a2"}
    asked, replied = context.messages[-3]["content"], context.messages[-2]["content"]
    assert asked.startswith("q2 q2") and asked.endswith("q2") and "tokens left out …]" in asked
    assert replied.startswith("a2 a2") and replied.endswith("a2") and "tokens left out …]" in replied
    (notice,) = (n for n in context.notices if n.code.startswith("shortened"))
    assert notice.text.startswith("Turn 2 is too long to be sent whole") and context.tokens <= context.budget
    decisions = {d.id: (d.decision, d.reason) for d in context.decisions()}
    assert decisions["q2"][0] == decisions["a2"][0] == "shortened" and "tokens left out" in decisions["a2"][1]
    assert context.digest()["shortened"] == context.shortened


def test_only_the_message_that_loses_text_is_shortened() -> None:
    session = Session("s")
    for ident, parent, role, text in (("q1", None, "user", "why? " * 5000), ("a1", "q1", "assistant", "because")):
        session.apply({"type": "message", "id": ident, "parent": parent, "role": role, "content": text})
    context = plan_with(session, "token-trim:1000", LARGE)
    assert context.shortened.keys() == {"q1"} and context.messages[1] == {"role": "assistant", "content": "because"}
    assert {d.id: d.decision for d in context.decisions()} == {"q1": "shortened", "a1": "sent"}


def test_half_of_a_hard_budget_of_4000_stays_for_a_shortened_turn() -> None:
    context = plan_with(make_session(1000, 9000), "summary:4000", LARGE)
    tail = context.token_breakdown["tail"]
    assert context.newest_turn == "shortened" and 1800 < tail < 2600 and context.tokens <= 4000


def test_the_shares_give_way_before_the_newest_turn_is_left_out() -> None:
    context = plan_with(make_session(1000, 9000), "summary:130", LARGE, "short?")
    assert context.newest_turn == "shortened" and context.tokens <= 130


def test_a_newest_turn_without_any_space_is_left_out_with_a_notice() -> None:
    context = plan_with(make_session(10, 900), "summary:60", LARGE, "word " * 40)
    assert context.newest_turn == "missing" and [n.code for n in context.notices] == ["newest 2"]


@pytest.mark.parametrize("spec", ["window:0", "window,max_messages=1"])
def test_a_window_of_no_turns_sends_none(spec: str) -> None:
    context = plan_with(make_session(10, 10), spec, LARGE)
    assert numbers(context) == [] and context.notices == ()


def test_under_a_soft_budget_the_last_eight_turns_stay() -> None:
    session = make_session(*[5000] * 20)
    context = plan_with(session, "token-trim", Limits(100_000, soft_budget=16_384))
    assert numbers(context) == list(range(13, 21)) and context.tokens > context.budget
    assert numbers(plan_with(session, "token-trim:16384", LARGE)) == [19, 20], "a hard budget has no floor"


def test_the_floor_takes_at_most_four_fifths_of_the_limit() -> None:
    context = plan_with(make_session(*[5000] * 20), "token-trim", Limits(30_000, soft_budget=16_384))
    assert numbers(context) == [17, 18, 19, 20]


def test_the_cut_moves_only_over_the_ceiling_which_is_one_and_a_half_times_the_floor() -> None:
    limits, session = Limits(100_000, soft_budget=16_384), make_session(*[2000] * 4)
    starts = []
    for number in range(5, 40):
        context = plan_with(session, "token-trim", limits)
        starts.append(context.start)
        assert context.tokens <= 1.5 * 8 * 2008 + 100
        add_turn(session, number, 2000, context)
    assert starts == sorted(starts) and len(set(starts)) <= 9


def test_the_previous_cut_no_longer_counts_once_everything_fits_again() -> None:
    session = make_session(*[400] * 10)
    context = plan_with(session, "token-trim:2000", LARGE)
    assert context.start > 0
    add_turn(session, 11, 400, context)
    session.apply({"type": "head", "message": "a3"})
    add_turn(session, 12, 3, context)
    assert plan_with(session, "token-trim:2000", LARGE).start == 0


def test_a_cut_that_was_made_for_less_than_half_of_the_budget_does_not_count() -> None:
    session = make_session(*[400] * 10)
    context = plan_with(session, "token-trim", limits_for(2600))
    add_turn(session, 11, 400, context)
    assert context.start > 0
    assert plan_with(session, "token-trim", limits_for(4000)).start >= context.start
    assert plan_with(session, "token-trim", limits_for(128_000)).start == 0


def test_an_assumed_window_never_refuses_a_question() -> None:
    context = plan_with(make_session(10, 10, system="Be brief."), "summary", limits_for(None), "word " * 40_000)
    assert [m["role"] for m in context.messages] == ["system", "user"]
    assert [n.code for n in context.notices] == ["assumed_window"] and "Set context_window" in context.notices[0].text


def test_a_known_window_and_a_hard_budget_refuse_and_name_what_to_change() -> None:
    with pytest.raises(ContextBudgetError, match="The model takes 6,144 tokens") as caught:
        plan_with(make_session(10), "summary", limits_for(8192), "word " * 40_000)
    assert "larger context window" in caught.value.hint
    with pytest.raises(ContextBudgetError, match="budget of 4,000") as caught:
        plan_with(make_session(10), "summary:4000", limits_for(None), "word " * 40_000)
    assert "or raise max_tokens of the memory strategy (summary:4000)" in caught.value.hint


def test_pins_are_tried_from_the_newest_and_leave_a_quarter_to_the_newest_turn() -> None:
    session = make_session(50, 300, 60, 500)
    for ident in ("q1", "q2", "q3"):
        session.apply({"type": "mark", "message": ident, "pinned": True})
    context = plan_with(session, "token-trim:400", LARGE, "short?")
    assert [turn.number for turn in context.pins] == [1, 3] and context.newest_turn == "shortened"
    (notice,) = (n for n in context.notices if n.code.startswith("pins"))
    assert notice.text == "Pinned turns that do not fit are not sent: 2."


def test_a_turn_stands_in_the_summary_as_a_copy_until_it_is_summarised() -> None:
    session = make_session(*[300] * 12)
    add_summary(session, 1, 4, "what was said first")
    context = plan_with(session, "summary:2000", LARGE)
    system = context.messages[0]["content"]
    assert system.count(COPY_OPEN) == len(context.summary.copies) > 0
    assert max(context.summary.copies) == context.start - 1, "the newest turns first"
    assert "what was said first" in system and system.index("what was said first") < system.index(COPY_OPEN)
    reasons = {d.turn: (d.decision, d.reason) for d in context.decisions()}
    assert reasons[context.start][0] == "shortened" and "summary pending" in reasons[context.start][1]
    add_summary(session, 5, context.start, "what was said then")
    later = plan_with(session, "summary:2000", LARGE)
    assert not later.summary.copies and "what was said then" in later.messages[0]["content"]


def test_the_summary_does_not_depend_on_the_question() -> None:
    session = make_session(*[300] * 12)
    add_summary(session, 1, 4, "first line\n" * 30)
    systems = {plan_with(session, "summary:2000", LARGE, q).messages[0]["content"] for q in ("a?", "b? " * 60)}
    assert len(systems) == 1


def test_a_summary_is_clipped_to_its_share_and_never_dropped_while_there_is_space() -> None:
    session = make_session(*[40] * 12)
    add_summary(session, 1, 10, "\n".join(f"line {n} of the summary" for n in range(60)))
    context = plan_with(session, "summary:220", LARGE)
    system = context.messages[0]["content"]
    assert "line 59 of" in system and "line 0 of" not in system and context.tokens <= 220
    (notice,) = (n for n in context.notices if n.code.startswith("summary"))
    assert notice.text == "The oldest part of the summary does not fit: turns 1 to 10."


def test_a_segment_of_one_long_line_is_shortened() -> None:
    session = make_session(*[40] * 12)
    add_summary(session, 1, 10, "word " * 600)
    context = plan_with(session, "summary:300", LARGE)
    assert "tokens left out …]" in context.messages[0]["content"] and context.tokens <= 300


@pytest.mark.parametrize("sizes", [[3700, 400], [400, 3700], [3700, 3700, 400], [1200] * 5])
@pytest.mark.parametrize("question", [1, 3700, 3900])
def test_a_hard_budget_is_never_exceeded(sizes: list[int], question: int) -> None:
    session = make_session(*sizes)
    first = plan_with(session, "summary:4000", LARGE, "ok")
    add_turn(session, 9, 1, first)
    add_summary(session, 1, 1, "line of the summary\n" * 200)
    context = plan_with(session, "summary:4000", LARGE, "word " * question)
    assert context.tokens <= 4000


def test_the_tail_never_grows_into_the_reserve_of_retrieval() -> None:
    session = make_session(*[100] * 60)
    for number in range(61, 90):
        context = plan_with(session, "token-trim:4000,recall_tokens=auto", LARGE, "plain words")
        assert context.start == 0 or context.tokens <= 4000 - 500
        add_turn(session, number, 100, context)


def test_a_buffer_that_should_not_trim_is_an_error_for_a_long_newest_turn_too() -> None:
    with pytest.raises(ContextBudgetError, match="The conversation takes"):
        plan_with(make_session(12_000), "buffer,on_overflow=error", limits_for(8192))


def test_a_summary_with_the_id_of_a_message_does_not_change_what_the_message_costs() -> None:
    session = make_session(100, 100, 2000, 100)
    record = {"type": "summary", "id": "q3", "from": "q1", "to": "a2", "level": 0, "text": "tiny", "without": []}
    session.apply(record)
    context = plan_with(session, "summary:1500", LARGE)
    add_turn(session, 5, 100, context)
    context = plan_with(session, "summary:1500", LARGE)
    assert 3 + sum(4 + len(m["content"].split()) for m in context.messages) == context.tokens <= 1500


def test_the_work_for_decisions_is_linear_in_the_segments_that_do_not_fit() -> None:
    def calls(turns: int) -> int:
        session = make_session(*[3] * turns)
        for number in range(1, turns - 20):
            add_summary(session, number, number, "line " * 30)
        context, count = plan_with(session, "summary:800", LARGE), 0
        index = session.turn_index

        class Counting(dict[str, int]):
            def __getitem__(self, key: str) -> int:
                nonlocal count
                count += 1
                return index[key]

        session._turn_index = Counting(index)
        list(context.decisions())
        return count

    assert calls(800) < 5 * calls(200)


def test_the_parts_of_a_context_add_up_to_its_tokens() -> None:
    session = make_session(*[300] * 12, system="Be brief.")
    add_summary(session, 1, 4, "what was said first")
    session.apply({"type": "mark", "message": "q1", "pinned": True})
    for question in ("and now?", None):
        strategy = strategies.strategy_from_mapping(strategies.parse_spec("summary:2000"))
        counter = Counter(None, lambda text: len(text.split()))
        context = plan(session, question, strategy, counter, LARGE)
        parts = context.token_breakdown
        assert sum(parts.values()) - parts["free"] + counter.request_overhead == context.tokens
        assert (parts["question"] == 0) == (question is None) and parts["system"] == 6 and parts["pins"] == 308


def test_a_turn_whose_summary_is_clipped_says_so() -> None:
    session = make_session(*[40] * 12)
    add_summary(session, 1, 2, "an old segment")
    add_summary(session, 3, 10, "\n".join(f"line {n} of the summary" for n in range(60)))
    reasons = {d.turn: d.reason for d in plan_with(session, "summary:220", LARGE).decisions()}
    assert reasons[1] == "not sent; its summary does not fit"
    assert reasons[3] == "in the summary, whose oldest lines do not fit"


def test_nothing_older_is_shown_once_a_segment_is_clipped() -> None:
    session = make_session(*[40] * 12)
    add_summary(session, 1, 2, "tiny")
    add_summary(session, 3, 10, "\n".join(f"line {n} of the summary" for n in range(60)))
    assert "tiny" not in plan_with(session, "summary:220", LARGE).messages[0]["content"]


@pytest.mark.parametrize("count", [3, 20, 60, 200])
def test_the_newest_turns_are_copied_however_many_wait_to_be_summarised(count: int) -> None:
    session = make_session(*[100] * count)
    context = plan_with(session, "summary:1200", LARGE)
    left_out = [turn.number - 1 for turn in context.evicted]
    copied = sorted(context.summary.copies)
    assert copied == left_out[len(left_out) - len(copied) :]
    assert len(copied) >= min(len(left_out), 5)


def test_copies_and_segments_together_stay_within_the_share() -> None:
    for size in range(200, 2000, 100):
        session = make_session(*[300] * 12)
        add_summary(session, 1, 4, "line of the summary\n" * 40)
        context = plan_with(session, f"summary:{size}", LARGE)
        assert context.token_breakdown["summary"] <= context.strategy.summary_share(size) and context.tokens <= size


def plan_at(
    session: Session, spec: str, limits: Limits, now: datetime | None = NOW, question: str = "Which day?"
) -> ContextPlan:
    strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec))
    counter = Counter(None, lambda text: len(text.split()))
    return plan(session, question, strategy, counter, limits, now=now, retriever=index(session))


def test_the_model_is_told_the_date_at_the_end_of_the_system_message() -> None:
    for system, start in (("Be brief.", "Be brief.\n\n"), ("", "")):
        session = make_session(10, 10, system=system)
        context, plain = plan_at(session, "summary", LARGE), plan_at(session, "summary", LARGE, now=None)
        assert context.messages[0] == {"role": "system", "content": f"{start}[Today is Sunday, 2026-05-03.]"}
        assert context.messages[1:] == plain.messages[bool(system) :]
        breakdown = context.token_breakdown
        assert breakdown["date"] == context.tokens - plain.tokens == (4 if system else 8)
        assert breakdown["summary"] == 0 and breakdown["question"] == plain.token_breakdown["question"]
        assert context.digest()["now"] == "2026-05-03T14:30:00+00:00" and "now" not in plain.digest()


@pytest.mark.parametrize(
    "spec, is_told",
    [("summary", True), ("summary,dates=false", False), ("buffer", False), ("buffer,dates=true", True), ("window:6", False),
     ("window:6,dates=on", True), ("token-trim:4000", False), ("token-trim:4000,dates=yes", True)],
)  # fmt: skip
def test_only_the_summary_strategy_tells_the_date_unless_set(spec: str, is_told: bool) -> None:
    assert plan_at(make_session(10), spec, LARGE).messages[0]["content"].startswith("[Today is") == is_told


def test_the_date_follows_the_summary_and_changes_nothing_but_itself() -> None:
    session = make_session(*[200] * 30, system="Be brief.")
    add_summary(session, 1, 20, "User: likes walruses.")
    context = plan_at(session, "summary:2000", LARGE)
    system = context.messages[0]["content"]
    assert system.startswith("Be brief.\n\n[") and system.endswith("\n\n[Today is Sunday, 2026-05-03.]")
    assert "User: likes walruses." in system
    assert context.tokens == sum(context.counter.count_message(m["content"]) for m in context.messages) + 3
    tomorrow = plan_at(session, "summary:2000", LARGE, now=NOW + timedelta(days=1))
    assert tomorrow.messages[0]["content"] == system.replace("Sunday, 2026-05-03", "Monday, 2026-05-04")
    assert tomorrow.messages[1:] == context.messages[1:]


@pytest.mark.parametrize("free, is_told", [(MIN_DATE_SPACE - 1, False), (MIN_DATE_SPACE, True)])
def test_the_date_takes_nothing_from_the_newest_turn(free: int, is_told: bool) -> None:
    session = make_session(300)
    whole = plan_at(session, "summary", LARGE, now=None).tokens
    context = plan_at(session, f"summary:{whole + free},recall_tokens=0", LARGE)
    assert context.newest_turn == "whole"
    assert context.messages[0]["content"].startswith("[Today is") == is_told


def test_the_limits_of_known_and_unknown_windows() -> None:
    assert limits_for(1_000_000) == Limits(995_904, 1_000_000, False, 65_536)
    assert limits_for(8_000, is_local=True) == Limits(6_000, 8_000, False, 16_384)
    assert limits_for(8_000, 1) == Limits(7_999, 8_000) and limits_for(8_000, 8_000) == Limits(6_000, 8_000)
    assert limits_for(8_000, 0) == limits_for(8_000, "many") == Limits(6_000, 8_000)
    assert limits_for(None) == Limits(28_672, 32_768, True, 65_536)
    assert limits_for(None, is_local=True) == Limits(6_144, 8_192, True, 16_384)
    assert limits_for(None, 30_000) == Limits(16_384, 32_768, True), "a reply takes at most half of an assumed window"
    assert limits_for(None, assumed=1_000) == Limits(750, 1_000, True)
    assert Limits(5) == (5, 0, False, 65_536)


def test_a_proven_window_is_the_smallest_doubling_that_holds_the_proof_and_a_quarter() -> None:
    assumed = limits_for(None)
    assert proven_window(assumed, None, int(28_672 / 1.25)) is None
    assert proven_window(assumed, None, int(28_672 / 1.25) + 1) == 65_536
    assert proven_window(assumed, None, 110_000) == 262_144
    assert proven_window(limits_for(None, 30_000), 30_000, 16_384) == 65_536, "half of the window is for the reply"


def test_passages_are_retrieved_from_a_single_turn_that_is_left_out() -> None:
    session = make_session()
    session.apply({"type": "message", "id": "z", "parent": None, "role": "user", "content": "The walrus sings."})
    session.apply(
        {"type": "message", "id": "y", "parent": "z", "role": "assistant", "content": "Noted. " + "word " * 700}
    )
    for number in range(2, 32):
        add_turn(session, number, 6)
    context = plan_with(session, "token-trim:700,low_water=1,recall_tokens=auto", LARGE, "Where is the walrus?")
    assert numbers(context) == list(range(2, 32)) and context.retrieved[0].message.id == "z"


def test_the_cut_of_a_summary_falls_where_a_segment_ends() -> None:
    session = make_session(*[100] * 20)
    for first in (1, 8, 11):
        add_summary(session, first, {1: 7, 8: 10, 11: 15}[first], "User: likes tea.")
    context = plan_with(session, "summary:2000,recall_tokens=0,summary_tokens=200", LARGE)
    assert numbers(context)[0] in (11, 16)


def test_many_pins_that_do_not_fit_are_counted_after_the_first_ten() -> None:
    session = make_session(*[100] * 14)
    for number in range(1, 13):
        session.apply({"type": "mark", "message": f"q{number}", "pinned": True})
    context = plan_with(session, "window:1", Limits(90))
    (notice,) = (n for n in context.notices if "Pinned turns" in n.text)
    assert notice.text.endswith(": 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more.")


def test_the_floor_leaves_a_fifth_of_the_limit_beside_everything_else_that_is_sent() -> None:
    limits = Limits(10_000, 12_000, soft_budget=2_000)
    session = make_session(*[1_000] * 12, system="rule " * 4_000)
    context = plan_with(session, "token-trim", limits)
    assert numbers(context) == [10, 11, 12] and context.tokens < 0.8 * 10_000
    assert numbers(plan_with(make_session(*[1_000] * 12), "token-trim", limits)) == list(range(6, 13))


def test_several_turns_that_are_left_out_together_are_counted() -> None:
    session = make_session(400, 400, 100)
    first = plan_with(session, "token-trim:300", LARGE)
    (notice,) = [n for n in first.new_notices() if "left out of the context" in n.text]
    assert notice.text == "2 turns are now left out of the context, from turn 1 (“" + ("q1 " * 13).strip() + "…”) on."
    add_turn(session, 4, 10, first)
    assert not [n for n in plan_with(session, "token-trim:300", LARGE).new_notices() if "left out of" in n.text]


def test_a_turn_whose_shortened_copy_is_sent_is_not_called_left_out() -> None:
    context = plan_with(make_session(3_000, 900, 300), "summary:2000,recall_tokens=0", LARGE)
    assert context.summary.copies and not [n for n in context.new_notices() if "left out of the context" in n.text]


def test_the_date_is_told_beside_a_newest_turn_that_is_shortened_anyway() -> None:
    context = plan_at(make_session(10, 12_000), "summary", limits_for(None, is_local=True))
    assert context.newest_turn == "shortened" and "[Today is Sunday" in context.messages[0]["content"]
    assert context.tokens <= context.limits.limit


def test_a_clipped_summary_keeps_the_day_of_its_first_line() -> None:
    session = make_session(*[100] * 20)
    lines = [f"thing number {n} of the day" for n in range(40)]
    add_summary(
        session, 1, 19, "\n".join([f"2026-05-02: {lines[0]}", *lines[1:20], f"2026-05-03: {lines[20]}", *lines[21:]])
    )
    days = set()
    for share in range(60, 400, 10):
        context = plan_with(session, f"summary:1000,recall_tokens=0,summary_tokens={share}", LARGE)
        shown = context.messages[0]["content"].split("\n\n")[1].split("\n")
        first = next(line for line in shown if "thing" in line)
        number = int(first.split(" number ")[1].split()[0])
        assert first == f"2026-05-0{2 if number < 20 else 3}: {lines[number]}" or shown == [first], first
        days.add(first[:10])
        assert context.token_breakdown["summary"] <= share
    assert days == {"2026-05-02", "2026-05-03"}
