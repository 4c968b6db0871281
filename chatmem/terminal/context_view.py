"""The context view: what would be sent next, what each part takes of the budget, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from chatmem.history.records import Message
from chatmem.history.session import Session
from chatmem.memory.compare import ComparisonRow
from chatmem.memory.plan import ContextPlan
from chatmem.memory.strategies import format_spec
from chatmem.terminal.context_rows import MARKS, PARTS, as_one, bar_cells, runs, turn_rows
from chatmem.terminal.tables import pad, print_columns
from chatmem.terminal.terminal import Terminal, cell_width, wrap
from chatmem.text import pluralize, truncate

PIPE_WIDTH = 100
MAX_BAR_WIDTH = 72
MIN_TITLE_WIDTH = 8
MAX_QUOTED_CHARS = 64
NO_FACTS: Mapping[str, str] = MappingProxyType({})


def print_context(terminal: Terminal, context: ContextPlan, session: Session, every_turn: bool = False) -> None:
    """Print a context as a bar, its figures, and its turns. Runs of turns of which it says the same are one line."""
    usage = f"{context.tokens:,} of {context.budget:,} tokens ({context.counter.method}; {limit_reason(context)})"
    messages = pluralize(len(context.messages), "message")
    terminal.write_wrapped(f"{session.name} · {format_spec(context.strategy)} · {usage} · {messages}")
    breakdown = context.token_breakdown
    if terminal.plain:
        _print_plain(terminal, context, every_turn)
        return
    cells = bar_cells(breakdown, max(10, min(terminal.width - 2, MAX_BAR_WIDTH)))
    bar = "".join(
        terminal.styled(text, style if style == "dim" else f"{style} reverse", terminal.out) for text, style in cells
    )
    terminal.raw(bar + "\n")
    terminal.write_wrapped(legend(breakdown) + "\n")
    _print_notices(terminal, context)
    for line in _turn_lines(context, terminal.width if terminal.interactive else PIPE_WIDTH, every_turn):
        terminal.write(line)


def _print_plain(terminal: Terminal, context: ContextPlan, every_turn: bool) -> None:
    """Print the parts and the turns in words, without figures drawn of characters."""
    sizes = context.token_breakdown
    terminal.write_wrapped(", ".join(f"{name} {sizes[name]:,}" for name, _, _ in PARTS if sizes.get(name)) + ".")
    _print_notices(terminal, context)
    for row in turn_rows(context) if every_turn else map(as_one, runs(turn_rows(context))):
        turns = f"Turn {row.first}" if row.first == row.last else f"Turns {row.first} to {row.last}"
        terminal.write_wrapped(f"{turns}, {row.tokens:,} tokens, {row.reason}: {row.title}")


def _print_notices(terminal: Terminal, context: ContextPlan) -> None:
    for notice in context.notices:
        is_shown_here = notice.action and notice.action.kind == "show_context"
        terminal.write_wrapped(f"! {notice.text if is_shown_here else terminal.notice_text(notice)}")


def legend(breakdown: dict[str, int]) -> str:
    """What the letters of the bar mean, with the tokens of each part."""
    return "  ".join(f"{letter} {name} {breakdown[name]:,}" for name, letter, _ in PARTS if breakdown.get(name))


def limit_reason(context: ContextPlan) -> str:
    """Why the budget is what it is: the model's limit, or that its window is assumed."""
    limits = context.limits
    if limits.is_assumed:
        return f"a window of {limits.window:,} is assumed: set context_window"
    if context.tokens > context.budget:
        return f"the last turns are kept beyond the budget; the model takes {limits.limit:,}"
    if context.budget < limits.limit:
        return f"the model takes {limits.limit:,}"
    return "the limit of the model"


def print_comparison(terminal: Terminal, rows: Sequence[ComparisonRow]) -> None:
    """Print the strategies side by side, shares as bars."""
    headings = ("strategy", "messages", "tokens", "verbatim turns", "newest turn", "prefix reuse", "facts kept")
    cells = [
        (
            r.strategy,
            str(r.messages),
            f"{r.tokens:,}",
            str(r.verbatim_turns),
            r.newest_turn,
            _share(r.prefix_reuse),
            _share(r.kept),
        )
        for r in rows
    ]
    print_columns(terminal, headings, cells, numbers={1, 2, 3}, always_headings=True)


def print_why(terminal: Terminal, session: Session, number: int, facts: Mapping[str, str] = NO_FACTS) -> None:
    """Print what the model was sent for the replies of a turn, from the digests stored with them.

    `facts` are the texts of facts about the user by their ids.
    """
    turn = session.turn(number)
    replies = [m for m in turn.messages if m.role == "assistant" and m.plan_digest] if turn else []
    if not replies:
        terminal.info(f"Turn {number} has no record of what the model was sent.")
    for reply in replies:
        for line in _digest_lines(session, reply, number):
            terminal.info(line)
        for ident in _ids((reply.plan_digest or {}).get("facts")):
            terminal.info(f"  F facts about you: {facts.get(ident, '(of another user)')}")


def _digest_lines(session: Session, reply: Message, number: int) -> Iterator[str]:
    sent, index = reply.plan_digest or {}, session.turn_index
    size = f"{_figure(sent.get('tokens'))} of {_figure(sent.get('budget'))} tokens ({sent.get('counting')})"
    yield f"Turn {number} · {reply.model} · {sent.get('strategy')} · {size}"
    first, last = index.get(str(sent.get("tail"))), number - 1
    if first is not None and sent.get("shortened"):
        pass  # the tail is the shortened turn
    elif first is not None and first + 1 < last:
        yield f"  ● sent verbatim: turns {first + 1} to {last}"
    elif first is not None and first + 1 == last:
        yield f"  ● sent verbatim: turn {last}"
    for name, label in (("pins", "◆ pinned"), ("recalled", "↩ retrieved from")):
        if turns := turns_text(session, _ids(sent.get(name))):
            yield f"  {label}: {turns}"
    for ident, text in _quoted(session, sent.get("passages")):
        yield f"  ↩ turn {index[ident] + 1}: {text}"
    if turns := turns_text(session, _ids(sent.get("further"))):
        yield f"  ◐ further lines of the summary, from {turns}"
    if dated := sent.get("now"):
        yield f"  ▪ told the date: {str(dated)[:10]}"
    if shortened := session.shortened_turn(reply):
        yield f"  ◒ shortened: turn {shortened[0]}, {shortened[1]:,} tokens left out"
    if segments := _ids(sent.get("parts")):
        yield f"  ◐ summary: {pluralize(len(segments), 'segment')}"
        sources = [s.sources for s in session.summaries.values() if s.id in segments]
        if turns := turns_text(session, [ident for lines in sources for ids in lines for ident in ids]):
            yield f"  ◐ its lines stem from {turns}"
    if isinstance(evicted := sent.get("left_out"), int) and evicted:
        yield f"  ○ {pluralize(evicted, 'earlier turn')} not sent verbatim"
    if reply.usage and reply.usage.prompt:
        cached = f", {reply.usage.cached:,} of them cached" if reply.usage.cached else ""
        money = f", and the reply cost ${reply.usage.cost:.4f}" if reply.usage.cost else ""
        yield f"  the server counted {reply.usage.prompt:,} tokens{cached}{money}"


def turns_text(session: Session, idents: Iterable[str]) -> str:
    """The turns of some messages, such as `turns 4, 7`. Empty if there are none on the path."""
    index = session.turn_index
    numbers = sorted({index[ident] + 1 for ident in idents if ident in index})
    return f"{'turn' if len(numbers) == 1 else 'turns'} {', '.join(map(str, numbers))}" if numbers else ""


def _quoted(session: Session, passages: object) -> Iterator[tuple[str, str]]:
    """The message and the beginning of each passage that was quoted for a reply."""
    for entry in passages if isinstance(passages, list) else []:
        if not (isinstance(entry, list) and [type(part) for part in entry] == [str, int, int]):
            continue
        ident, start, end = entry
        if ident in session.turn_index:
            text = " ".join(session.messages[ident].content[start:end].split())
            yield ident, truncate(text, MAX_QUOTED_CHARS)


def _turn_lines(context: ContextPlan, width: int, every_turn: bool) -> Iterator[str]:
    """The rows of the view as lines: decision, numbers, tokens, first words and reason."""
    rows = list(turn_rows(context) if every_turn else map(as_one, runs(turn_rows(context))))
    widest = max((len(row.numbers) for row in rows), default=4)
    for row in rows:
        head = f"{MARKS[row.decision]} {row.numbers:>{max(4, widest)}} {row.tokens:>6,}  "
        reason = f"  {row.reason}"
        title_width = width - cell_width(head) - cell_width(reason)
        if title_width < MIN_TITLE_WIDTH:  # too narrow for both: the reason gets a line of its own
            yield head + pad(row.title, max(1, width - cell_width(head))).rstrip()
            yield wrap(f"    {row.reason}", width)
        else:
            yield head + pad(row.title, title_width) + reason


def _ids(value: object) -> list[str]:
    """The ids in a field of a digest, whatever a file made of it."""
    return [i for i in value if isinstance(i, str)] if isinstance(value, list) else []


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(share: float | None) -> str:
    return "" if share is None else f"{'▇' * round(share * 8):<8} {share:.2f}"
