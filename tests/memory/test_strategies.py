"""What each strategy makes of the sizes it sees: where the tail begins, and the shares of summary and retrieval."""

from __future__ import annotations

from typing import Any

import pytest

from chatmem.memory.budget import Budget, Limits
from chatmem.memory.strategies import parse_spec, strategy_from_mapping
from chatmem.memory.strategies.base import LARGE_BUDGET, Strategy, TailContext, resolve_low_water


def strategy(spec: str) -> Strategy:
    return strategy_from_mapping(parse_spec(spec))


def tail_of(*sizes: int | None, budget: int = 1000, space: int = 650, target: int = 650, **more: Any) -> TailContext:
    """Turns of these sizes. None: a turn that cannot be sent."""
    turns: Any = list(enumerate(sizes))
    return TailContext(turns, lambda turn: turn[1], budget, space, target, **{"floor": len(sizes) - 1} | more)  # type: ignore[index]


TEN = (100,) * 10


@pytest.mark.parametrize(
    "spec, shares",
    [
        ("summary", {100: 55, 4000: 2200, 8192: 4096, 20_000: 4096, 40_000: 5000, 65_536: 8192, 1_000_000: 8192}),
        ("summary:4000,summary_tokens=300", {4000: 300, 200: 200}),
        ("summary:4000,summary_tokens=0", {4000: 0}),
        ("token-trim", {4000: 0}),
        ("window:6", {4000: 0}),
        ("buffer", {4000: 0}),
    ],
)
def test_the_share_of_the_summary(spec: str, shares: dict[int, int]) -> None:
    assert {budget: strategy(spec).summary_share(budget) for budget in shares} == shares


@pytest.mark.parametrize(
    "spec, budget, share, reserve",
    [
        ("summary", 1_000, 400, 125), ("summary", 16_250, 6_500, 2_031), ("summary", 100_000, 6_500, 2_048),
        ("summary:4000,recall_tokens=50", 4_000, 50, 50), ("summary:4000,recall_tokens=0", 4_000, 0, 0),
        ("summary:4000,recall_tokens=9000", 100_000, 9_000, 2_048),
        ("token-trim", 4_000, 0, 0), ("token-trim:4000,recall_tokens=auto", 4_000, 1_600, 500),
    ],
)  # fmt: skip
def test_the_shares_of_retrieval(spec: str, budget: int, share: int, reserve: int) -> None:
    assert strategy(spec).retrieval_share(budget) == share and strategy(spec).retrieval_reserve(budget) == reserve


def test_the_budget_is_hard_only_if_the_user_gave_it_and_the_model_takes_it() -> None:
    limits = Limits(100_000, soft_budget=65_536)
    assert strategy("summary").budget(limits) == strategy("token-trim").budget(limits) == Budget(65_536)
    assert strategy("buffer").budget(limits) == strategy("window:6").budget(limits) == Budget(100_000)
    assert strategy("summary:4000").budget(limits) == Budget(4_000, is_hard=True)
    assert strategy("summary:100000").budget(limits) == Budget(100_000, is_hard=True)
    assert strategy("summary:100001").budget(limits) == Budget(100_000)
    assert strategy("summary").budget(Limits(5_000)) == Budget(5_000)


def test_the_low_water_mark_rises_with_the_budget() -> None:
    assert resolve_low_water("auto", LARGE_BUDGET - 1) == 0.6 and resolve_low_water("auto", LARGE_BUDGET) == 0.8
    assert resolve_low_water(0.3, LARGE_BUDGET) == 0.3
    assert (
        strategy("summary").low_water_share(100) == 0.5
        and strategy("summary:99,low_water=0.7").low_water_share(1) == 0.7
    )
    assert strategy("buffer").low_water_share(100) == 1.0


@pytest.mark.parametrize(
    "spec, sends",
    [("window:0", False), ("window:1", True), ("window:3,max_messages=0", False), ("window:3,max_messages=1", False),
     ("window:3,max_messages=2", True), ("summary", True), ("buffer", True)],
)  # fmt: skip
def test_only_a_window_of_nothing_sends_no_newest_turn(spec: str, sends: bool) -> None:
    assert strategy(spec).sends_newest_turn is sends


# The context of a tail


def test_a_tail_counts_its_turns_from_the_newest_one_and_no_further_than_needed() -> None:
    counted: list[int] = []
    context = tail_of(1, 2, None, 4, 5)
    cost = context.turn_cost
    context.turn_cost = lambda turn: counted.append(turn[0]) or cost(turn)  # type: ignore[func-returns-value, index]
    assert context.tokens_from(3, 6) == 9 and counted == [4, 3]
    assert context.tokens_from(0, 6) == 9 and counted == [4, 3], "it is already more than enough"
    assert context.tokens_from(0) == 12 and context.tokens_from(5) == 0 and counted == [4, 3, 2, 1, 0]


def test_a_conversation_has_shrunk_if_it_takes_nine_tenths_of_the_budget() -> None:
    assert tail_of(450, 450, budget=1000, target=1000).has_shrunk is True
    assert tail_of(450, 451, budget=1000, target=1000).has_shrunk is False
    assert tail_of(400, budget=1000, target=500).has_shrunk is True, "of the target, less a tenth of the budget"
    assert tail_of(401, budget=1000, target=500).has_shrunk is False


def test_the_reserve_counts_once_something_is_left_out_and_the_needed_part_of_it_at_the_previous_cut() -> None:
    context = tail_of(*TEN, space=650, reserve=200, previous_start=4, previous_reserve=50)
    assert [context.space_from(start) for start in (0, 3, 4, 5)] == [650, 450, 600, 450]
    assert context.fits(4) and context.fits(6) and not context.fits(5) and not context.fits(0)
    assert tail_of(*TEN).space_from(5) == 650


def test_the_longest_tail_holds_at_least_the_floor() -> None:
    assert tail_of(*TEN, target=650, reserve=50).longest_tail() == 4
    assert tail_of(*TEN, target=650, reserve=50).longest_tail(0.5) == 7
    assert tail_of(*TEN, target=650, reserve=50, floor=2).longest_tail(0.5) == 2
    assert tail_of(*TEN, target=5).longest_tail() == 9


# Where the tail begins


@pytest.mark.parametrize(
    "boundaries, start",
    [([], 7), ([4, 6, 8], 8), ([5], 7), ([6], 6), ([7], 7), ([3, 7, 8], 7), ([9], 9), ([10], 7)],
)
def test_the_cut_of_a_summary_falls_on_a_boundary_that_leaves_space_to_grow(boundaries: list[int], start: int) -> None:
    context = tail_of(*TEN, reserve=50, summary_boundaries=boundaries)
    assert strategy("summary").tail_start(context) == start


def test_the_cut_of_a_summary_stays_while_it_fits_and_is_dropped_if_all_fits() -> None:
    assert strategy("summary").tail_start(tail_of(*TEN, previous_start=4, previous_reserve=0)) == 4
    assert strategy("summary").tail_start(tail_of(*TEN, previous_start=3, previous_reserve=0)) == 7
    assert strategy("summary").tail_start(tail_of(*TEN, previous_start=8, reserve=50)) == 8
    assert strategy("summary").tail_start(tail_of(100, 100, 100, previous_start=2)) == 0
    assert strategy("summary").tail_start(tail_of(100, 100, 100, previous_start=2, compacted=1)) == 1
    assert strategy("summary").tail_start(tail_of(100, 100, 100)) == 0


def test_token_trim_keeps_its_cut_or_moves_it_to_the_low_water_mark() -> None:
    assert strategy("token-trim").tail_start(tail_of(100, 100)) == 0
    assert strategy("token-trim").tail_start(tail_of(*TEN, previous_start=4)) == 4
    assert strategy("token-trim").tail_start(tail_of(*TEN, previous_start=3)) == 7
    assert strategy("token-trim").tail_start(tail_of(*TEN, previous_start=9)) == 9
    assert strategy("token-trim:9,low_water=1").tail_start(tail_of(*TEN, previous_start=9)) == 4
    assert strategy("token-trim").tail_start(tail_of(200, 200, 100, previous_start=2)) == 0


def test_a_window_keeps_its_turns_and_moves_in_blocks_of_its_slack() -> None:
    wide = {"space": 5000, "target": 5000}
    assert strategy("window:3").tail_start(tail_of(*TEN, **wide)) == 7
    assert strategy("window:3,slack=2").tail_start(tail_of(*TEN, previous_start=5, **wide)) == 5
    assert strategy("window:3,slack=2").tail_start(tail_of(*TEN, previous_start=4, **wide)) == 7
    assert strategy("window:3").tail_start(tail_of(100, 100, **wide)) == 0
    assert strategy("window:3").tail_start(tail_of(*TEN[:8], None, 100, **wide)) == 6, "only turns that are sent count"
    assert strategy("window:8").tail_start(tail_of(*TEN)) == 7, "as token-trim, once they do not fit"
    assert strategy("window:8").notice(tail_of(*TEN), 7) and not strategy("window:3").notice(tail_of(*TEN), 7)
