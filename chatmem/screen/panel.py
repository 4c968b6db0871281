"""The context panel: what would be sent next, what each part takes of the budget, and why each turn is where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chatmem.memory import spec_of
from chatmem.memory.compare import Row
from chatmem.memory.view import Decision, Plan
from chatmem.names import counted
from chatmem.screen.listing import columns, padded
from chatmem.screen.safe import show_line
from chatmem.screen.terminal import Terminal, at_words, cell_width
from chatmem.session import Session

MARKS = {"sent": "●", "pinned": "◆", "summarised": "◐", "recalled": "↩", "dropped": "○", "excluded": "✕"}
_PARTS = (
    ("system", "█", "accent"),
    ("notes", "▓", "good"),
    ("pins", "◆", "warn"),
    ("tail", "▒", "accent"),
    ("recalled", "↩", "good"),
    ("question", "?", "bold"),
    ("free", "·", "dim"),
)


def context(terminal: Terminal, view: Plan, session: Session) -> None:
    """The view as a bar, its numbers, and a line per turn."""
    budget = f"{view.tokens:,} of {view.budget:,} tokens ({view.counter.how})"
    terminal.line(f"{session.name} · {spec_of(view.strategy)} · {budget} · {counted(len(view.messages), 'message')}")
    sizes = view.sizes
    terminal.raw(_bar(terminal, sizes, max(10, min(terminal.width - 2, 72))) + "\n")
    shown = (f"{mark} {name} {sizes[name]:,}" for name, mark, _ in _PARTS if sizes[name])
    terminal.line("  ".join(shown) + "\n")
    for notice in view.notices:
        terminal.line(f"! {notice}")
    for line in _turns(view, terminal.width if terminal.interactive else 100):
        terminal.answer(line)


def comparison(terminal: Terminal, rows: Sequence[Row]) -> None:
    """The strategies side by side, shares as bars."""
    heads = ("strategy", "messages", "tokens", "verbatim turns", "prefix reuse", "kept")
    cells = [
        (r.strategy, str(r.messages), f"{r.tokens:,}", str(r.verbatim_turns), _share(r.prefix_reuse), _share(r.kept))
        for r in rows
    ]
    columns(terminal, heads, cells, numbers={1, 2, 3})


def why(terminal: Terminal, session: Session, number: int) -> None:
    """What the model saw when it gave the replies of a turn, from the stored digests."""
    turn = session.turn(number)
    replies = [m for m in turn.messages if m.role == "assistant"] if turn else []
    if not any(m.sent for m in replies):
        terminal.note(f"Nothing is known of what the model saw in turn {number}.")
    for reply in replies:
        sent = reply.sent or {}
        if not sent:
            continue
        places = session.places
        size = f"{_figure(sent.get('tokens'))} of {_figure(sent.get('budget'))} tokens ({sent.get('counting')})"
        terminal.note(f"Turn {number} · {reply.model} · {sent.get('strategy')} · {size}")
        tail = places.get(str(sent.get("tail")))
        last = number - 1
        if tail is not None and tail + 1 <= last:
            terminal.note(
                f"  ● word for word: turns {tail + 1} to {last}"
                if tail + 1 < last
                else f"  ● word for word: turn {last}"
            )
        for name, mark in (("pins", "◆ pinned"), ("recalled", "↩ recalled from")):
            turns = sorted({places[i] + 1 for i in sent.get(name, []) if i in places})
            if turns:
                terminal.note(f"  {mark}: turn {', '.join(map(str, turns))}")
        if parts := sent.get("parts"):
            terminal.note(f"  ◐ notes: {len(parts)} part{'s' if len(parts) > 1 else ''}")
        if left := sent.get("left_out"):
            terminal.note(f"  ○ {left} earlier turn{'s were' if left > 1 else ' was'} not sent word for word")
        if reply.usage and reply.usage.prompt:
            cached = f", {reply.usage.cached:,} of them cached" if reply.usage.cached else ""
            terminal.note(f"  the server counted {reply.usage.prompt:,} tokens{cached}")


def _bar(terminal: Terminal, sizes: dict[str, int], width: int) -> str:
    """The parts of the budget as one line of characters, each at least one wide if it is there at all."""
    total = max(1, sum(sizes.values()))
    cells = {name: max(1, round(sizes[name] * width / total)) if sizes[name] else 0 for name, _, _ in _PARTS}
    widest = max(cells, key=lambda name: cells[name])
    cells[widest] = max(1, cells[widest] + width - sum(cells.values()))
    return "".join(
        terminal.styled(mark * cells[name], style, terminal.out) for name, mark, style in _PARTS if cells[name]
    )


def _turns(view: Plan, width: int) -> Iterator[str]:
    """One line per turn: what became of it, how long it is, how it begins, and why."""
    by_turn: dict[int, list[Decision]] = {}
    for decision in view.decisions():
        by_turn.setdefault(decision.turn, []).append(decision)
    for number, decisions in by_turn.items():
        turn = view.session.turn(number)
        first = next((d for d in decisions if d.decision == "recalled"), decisions[0])
        text = show_line(turn.question.content[:200]) if turn else "(before the first question)"
        tokens = sum(d.tokens for d in decisions)
        head = f"{MARKS[first.decision]} {number:>4} {tokens:>6,}  "
        reason = f"  {first.reason}"
        room = width - cell_width(head) - cell_width(reason)
        if room < 8:  # the reason on a line of its own, rather than both cut to pieces
            yield head + padded(text, max(1, width - cell_width(head))).rstrip()
            yield at_words(f"    {first.reason}", width)
        else:
            yield head + padded(text, room) + reason


def _figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(share: float | None) -> str:
    return "" if share is None else f"{'▇' * round(share * 8):<8} {share:.2f}"
