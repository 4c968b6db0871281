"""Planning a context: what the model is sent next, and why. Pure: no I/O, no model call, no change.

One function serves sending, preview, comparison and tests. The order of a context is fixed, so that the provider's
prompt cache finds the longest possible prefix: one system message (the prompt, the summary, today's date), pinned
turns, the tail of whole turns, and one user message with the retrieved passages and, at its end, the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chatmem.history.facts import Fact
from chatmem.history.records import Message
from chatmem.history.session import Session, Turn
from chatmem.memory.budget import Budget, Limits
from chatmem.memory.costs import turn_tokens
from chatmem.memory.dates import Calendar
from chatmem.memory.excerpts import Retriever, day_lines, is_retrievable, retrieve
from chatmem.memory.forgetting import remembered_turn
from chatmem.memory.notices import budget_error, facts_notices, newest_turn_notices, plan_notices
from chatmem.memory.passages import Passage
from chatmem.memory.pins import select_pins
from chatmem.memory.plan import ApiMessage, ContextPlan, question_text
from chatmem.memory.shortening import Shortened, shorten_turn
from chatmem.memory.strategies import canonical_spec, format_spec
from chatmem.memory.strategies.base import Strategy, TailContext
from chatmem.memory.summaries import (
    SummaryBlock,
    SummarySpan,
    estimate_summary_tokens,
    pending_turns,
    select_spans,
    summary_block,
    valid_spans,
)
from chatmem.memory.summary_lines import Line
from chatmem.memory.user_facts import BUDGET_SHARE, facts_block
from chatmem.memory.words import is_question
from chatmem.tokens.counter import Counter

SUMMARIZE_AHEAD_FROM = 0.8
"""The share of the space from which on the turns that will be evicted next are summarised ahead of time."""
FLOOR_TURNS = 8
"""How many of the newest turns stay in the tail under a soft budget."""
FLOOR_SHARE = 0.8
"""The share of the limit that a context with these turns may take."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MIN_DATE_SPACE = 16
"""The tokens that have to be free for today's date to be sent."""
MIN_SHORTENED_SPACE = 512
"""The tokens that a shortened turn has to have before today's date is sent."""
DAY_LINES_SHARE = 0.05
"""The share of the budget that the days of the tail may take."""
JOIN_TOKENS = 2
"""How many tokens two texts may have more together than apart."""
STATEMENT_SHARE = 0.1
"""The share of the budget that passages may take for a message that asks nothing."""
ROLES = ("user", "assistant")
CEILING_FACTOR = 1.5
"""How much larger a context may grow under a soft budget than one with these turns."""


def plan(
    session: Session,
    question: Message | str | None,
    strategy: Strategy,
    counter: Counter,
    limits: Limits,
    *,
    now: datetime | None = None,
    facts: Sequence[Fact] = (),
    facts_tokens: int = 0,
    retriever: Retriever | None = None,
) -> ContextPlan:
    """The context that is sent with `question`.

    `question` is the stored newest question, a text that is not stored yet, or None for a preview without one. `now` is
    the local time at which it is sent. Without it, the model is not told the date. The newest of the `facts` about the
    user that fit into `facts_tokens`, and into a tenth of the budget, are sent.
    Raises ContextBudgetError if the system prompt and the question alone exceed a hard budget or a known limit.
    """
    turns = session.turns
    if isinstance(question, Message) and turns and turns[-1].id == question.id:
        turns = turns[:-1]
    budget = strategy.budget(limits)
    most = budget.tokens if budget.is_hard else limits.limit
    prompt_tokens = counter.count_message(session.system) if session.system else 0
    question_tokens = counter.count_message(question_text(question)) if question is not None else 0
    base_tokens = counter.request_overhead + prompt_tokens
    alone = base_tokens + question_tokens
    is_too_long = alone > most
    if is_too_long and (budget.is_hard or not limits.is_assumed):
        raise budget_error(prompt_tokens, question_tokens, alone, budget, strategy)

    # What is sent whatever the strategy chooses: facts about the user, pins, and the newest turn.
    shown_facts: tuple[Fact, ...] = ()
    facts_text, prompt = "", session.system
    if facts and facts_tokens and not is_too_long:
        share = min(facts_tokens, int(budget.tokens * BUDGET_SHARE), most - alone)
        shown_facts, facts_text = facts_block(facts, prompt, counter, share)
        prompt = _join(prompt, facts_text)
        alone += (counter.count_message(prompt) if prompt else 0) - prompt_tokens
        prompt_tokens = counter.count_message(prompt) if prompt else 0
    newest = None if is_too_long or not strategy.sends_newest_turn else _newest_sendable(turns)
    pins, skipped_pins = select_pins(turns, counter, most - alone, newest) if session.marks else ((), [])
    pinned = {turn.id for turn in pins}
    fixed_tokens = alone + sum(turn_tokens(counter, turn) for turn in pins)

    # Today's date, if the newest turn is whole beside it, or is shortened anyway.
    date, undated = "", prompt
    if now and strategy.tells_date:
        newest_tokens = 0 if newest is None or turns[newest].id in pinned else turn_tokens(counter, turns[newest])
        dated = _join(undated, date_note(now))
        date_tokens = counter.count_message(dated) - prompt_tokens
        space = most - fixed_tokens
        needed = newest_tokens if newest_tokens <= space else MIN_SHORTENED_SPACE
        if max(date_tokens, MIN_DATE_SPACE) <= space - needed:
            date, prompt = date_note(now), dated
            fixed_tokens += date_tokens
            prompt_tokens += date_tokens

    def turn_cost(turn: Turn) -> int | None:
        if not turn.sendable:
            return None
        return 0 if pinned and turn.id in pinned else turn_tokens(counter, turn)

    # The sizes that the strategy sees.
    summary_share = min(strategy.summary_share(budget.tokens), max(0, most - fixed_tokens))
    retrieval_share = strategy.retrieval_share(budget.tokens) if retriever else 0
    retrieval_reserve = strategy.retrieval_reserve(budget.tokens) if retriever else 0
    spans = valid_spans(session, turns) if summary_share else []
    context = TailContext(turns, turn_cost, budget.tokens, 0, budget.tokens - fixed_tokens)
    ceiling = _set_space(context, budget, limits, fixed_tokens, summary_share + retrieval_reserve, newest)
    context.compacted = max((end + 1 for _, end, segment in spans if segment.compact), default=0)
    context.summary_boundaries = sorted({end + 1 for _, end, _ in spans})
    context.previous_start = _previous_start(session, strategy, budget.tokens, len(turns))
    if previous := context.previous_start:
        previous_spans = select_spans(spans, previous)
        pending = pending_turns(previous_spans, turns, previous) if summary_share else []
        summary_tokens = estimate_summary_tokens(previous_spans, pending, counter, summary_share)
        context.previous_reserve = min(context.space, summary_tokens + retrieval_reserve)

    # What the strategy chooses: where the tail begins.
    shortened: tuple[Shortened, Shortened] | None = None
    if is_too_long:
        start = len(turns)
    elif newest is not None and context.tokens_from(newest) > most - fixed_tokens:
        strategy.tail_start(context)  # a strategy may refuse
        needed = estimate_summary_tokens(select_spans(spans, newest), [], counter, summary_share)
        shares = max(needed, summary_share // 2) + retrieval_reserve
        shortened = _shorten_newest(turns[newest], counter, most - fixed_tokens, shares)
        start = newest if shortened else len(turns)
        ceiling = most
    else:
        start = min(strategy.tail_start(context), len(turns) if newest is None else newest)
        while start < len(turns) and (not turns[start].sendable or context.tokens_from(start) > most - fixed_tokens):
            start += 1
    tail_tokens = sum(_message_tokens(counter, turns[start], shortened)) if shortened else context.tokens_from(start)
    used_tokens = fixed_tokens + tail_tokens

    calendar = Calendar(now, annotates=now is not None and strategy.tells_date)

    # What stands for the rest: the summary, then passages that are retrieved for the question.
    block = SummaryBlock()
    system = prompt
    if summary_share and start > 0:
        selected = select_spans(spans, start)
        pending = [_dated(remembered_turn(session, turn), calendar) for turn in pending_turns(selected, turns, start)]
        pending = [turn for turn in pending if turn.question.content or turn.reply]
        share = summary_share
        while share > ceiling - used_tokens and share > 0:
            share //= 2
        block, system = _with_summary(undated, date, selected, pending, counter, share, calendar)
        used_tokens += counter.count_message(system) - prompt_tokens if system else 0

    passages: list[Passage] = []
    further: list[Line] = []
    asked, quotes, days = question_text(question), "", ""
    if retriever and question is not None and start > 0 and retrieval_share:
        candidates = is_retrievable(session, turns, pinned | {turns[i].id for i in block.copies}, start)
        max_tokens = min(retrieval_share, ceiling - used_tokens)
        if not is_question(asked):
            max_tokens = min(max_tokens, int(budget.tokens * STATEMENT_SHARE))
        passages, quotes = retrieve(session, asked, candidates, counter, max_tokens, retriever, calendar)
        if block.text and not passages and is_question(asked):
            from chatmem.memory.further import further_lines  # imported lazily: rarely needed

            further, quotes = further_lines(spans, block, asked, counter, max_tokens)
        used_tokens += counter.count_message(quotes + asked) - question_tokens
    if date and question is not None:
        max_tokens = min(int(budget.tokens * DAY_LINES_SHARE), ceiling - used_tokens - JOIN_TOKENS)
        days = day_lines(turns[start:], counter, max_tokens, calendar)
        used_tokens += counter.count_message(days + quotes + asked) - counter.count_message(quotes + asked)

    messages: list[ApiMessage] = [{"role": "system", "content": system}] if system else []
    messages += [message for turn in pins if turn.number <= start for message in turn.api_messages]
    if shortened:
        messages += [{"role": role, "content": text} for role, (text, _) in zip(ROLES, shortened, strict=True)]
    else:
        messages += [message for turn in turns[start:] if turn.sendable for message in turn.api_messages]
    if question is not None:
        messages.append({"role": "user", "content": days + quotes + asked})

    left_out = _left_out(turns[start], shortened) if shortened else {}
    notices = plan_notices(limits, is_too_long, strategy.notice(context, start), skipped_pins, block, session)
    notices += facts_notices(len(facts) if facts_tokens else 0, len(shown_facts))
    notices += newest_turn_notices(turns, newest, start, left_out)
    return ContextPlan(
        tuple(messages),
        used_tokens,
        budget.tokens,
        limits,
        strategy,
        counter,
        session,
        turns,
        start,
        question,
        block,
        pins,
        tuple(passages),
        tuple(notices),
        _summarize_before(strategy, context, start, spans) if summary_share else 0,
        left_out,
        now if date else None,
        date,
        days,
        tuple(further),
        shown_facts,
        facts_text,
    )


def date_note(now: datetime) -> str:
    """What the model is told of the date. It changes once a day, and with it the prefix that is cached."""
    return f"[Today is {WEEKDAYS[now.weekday()]}, {now.date()}.]"


def _set_space(
    context: TailContext, budget: Budget, limits: Limits, fixed_tokens: int, shares: int, newest: int | None
) -> int:
    """Set the floor, the space and the reserve of a tail beside what is sent anyway. Returns the ceiling."""
    context.floor = len(context.turns) if newest is None else newest
    ceiling = budget.tokens
    if not budget.is_hard and budget.tokens < limits.limit:
        other_tokens = fixed_tokens + shares
        context.floor = _floor(context, newest, limits.limit * FLOOR_SHARE - other_tokens)
        view_tokens = other_tokens + context.tokens_from(context.floor)
        ceiling = min(limits.limit, max(budget.tokens, int(view_tokens * CEILING_FACTOR)))
    context.space = max(0, ceiling - fixed_tokens)
    context.reserve = min(context.space, shares)
    return ceiling


def _newest_sendable(turns: Sequence[Turn]) -> int | None:
    """The index of the newest turn that may be sent."""
    return next((index for index in range(len(turns) - 1, -1, -1) if turns[index].sendable), None)


def _floor(context: TailContext, newest: int | None, tokens: float) -> int:
    """Where the newest answered turns begin, at most eight, that take at most `tokens`: at least the newest one."""
    start, count = len(context.turns) if newest is None else newest, 1
    for index in range(start - 1, -1, -1):
        if context.turn_cost(context.turns[index]) is None:
            continue
        count += 1
        if count > FLOOR_TURNS or context.tokens_from(index) > tokens:
            break
        start = index
    return start


def _shorten_newest(turn: Turn, counter: Counter, space: int, shares: int) -> tuple[Shortened, Shortened] | None:
    """The newest turn in what is left after the shares of summary and retrieval, which give way if that is too little.

    None if it does not fit even without these shares.
    """
    while True:
        shortened = shorten_turn(turn, counter, space - shares)
        if shortened or shares == 0:
            return shortened
        shares //= 2


def _message_tokens(counter: Counter, turn: Turn, shortened: tuple[Shortened, Shortened]) -> tuple[int, int]:
    return counter.count_message(shortened[0].text), counter.count_message(shortened[1].text)


def _left_out(turn: Turn, shortened: tuple[Shortened, Shortened]) -> dict[str, int]:
    """The ids of the messages of a turn that lose text, and the tokens that they lose."""
    found = {turn.id: shortened[0].left_out} if shortened[0].left_out else {}
    if shortened[1].left_out:
        replies = [m.id for m in turn.messages if m.role == "assistant" and m.content.strip()]
        found |= dict.fromkeys(replies[:-1], 0) | {replies[-1]: shortened[1].left_out}
    return found


def _previous_start(session: Session, strategy: Strategy, budget: int, count: int) -> int | None:
    """Where the tail of the last reply on this path under the same strategy and settings began."""
    spec = format_spec(strategy)
    for message in reversed(session.path):
        sent = message.plan_digest
        if sent and canonical_spec(str(sent.get("strategy"))) == spec:
            known = sent.get("budget")
            if not isinstance(known, int) or known * 2 < budget:
                return None
            index = session.turn_index.get(str(sent.get("tail")))
            return index if index is not None and index < count else None
    return None


def _dated(turn: Turn, calendar: Calendar) -> Turn:
    """The turn with the dates of words such as "tomorrow", if the model is told dates."""
    contents = [calendar.dated(message.content, calendar.day(message.time)) for message in turn.messages]
    if all(content == message.content for content, message in zip(contents, turn.messages, strict=True)):
        return turn
    return turn.with_messages(  # token counts are cached by id
        message._replace(id=f"{message.id} dated", content=content)
        for content, message in zip(contents, turn.messages, strict=True)
    )


def _join(*parts: str) -> str:
    """The parts of the system message: the prompt, the summary, the date. All but the prompt are marked."""
    return "\n\n".join(part for part in parts if part)


def _with_summary(
    prompt: str,
    date: str,
    spans: list[SummarySpan],
    pending: Sequence[Turn],
    counter: Counter,
    max_tokens: int,
    calendar: Calendar,
) -> tuple[SummaryBlock, str]:
    """The summary in at most `max_tokens`, and the system message that carries it."""
    space = max_tokens
    without = _join(prompt, date)
    without_tokens = counter.count_message(without) if without else 0
    while space > 0 and (spans or pending):
        block = summary_block(spans, pending, counter, space, calendar if calendar.annotates else None)
        if not block.text:
            return block, without
        system = _join(prompt, block.text, date)
        excess = counter.count_message(system) - without_tokens - max_tokens
        if excess <= 0:
            return block, system
        space -= max(excess, space // 16)  # the exact cost is known only once the text is joined
    return SummaryBlock(clipped=tuple(segment for _, _, segment in spans)), without


def _summarize_before(strategy: Strategy, context: TailContext, start: int, spans: list[SummarySpan]) -> int:
    """Up to which turn summaries are due: of evicted turns, and near the limit of those that will be evicted next."""
    turns, before = context.turns, start
    space, used_tokens = context.space_from(context.previous_start or start), context.tokens_from(start)
    if used_tokens >= space * SUMMARIZE_AHEAD_FROM:
        target = max(0, context.target - context.reserve) * strategy.low_water_share(context.budget)
        while before < min(context.floor, len(turns) - 1) and context.tokens_from(before) > target:
            before += 1
    return before if pending_turns(select_spans(spans, before), turns, before) else 0
