"""Conversations as text: all messages, the tree of branches, or the last turn."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

from chatmem.errors import Action
from chatmem.history.records import Message
from chatmem.history.session import Session, Turn
from chatmem.recall import Recalled, search_words
from chatmem.stores.search import Hit, Query
from chatmem.terminal.sanitize import sanitize, sanitize_line
from chatmem.terminal.tables import fit_around, pad, relative_time
from chatmem.terminal.terminal import MIN_WIDTH, Terminal, cell_width, wrap

PIPE_WIDTH = 120
MIN_SHOWN_ROWS = 12
"""How many rows of the last reply are shown on a small screen."""
MAX_QUESTION_ROWS = 6
PASSAGE_LETTERS = 30
"""How many letters of a passage are looked for in the rows of a reply."""
MAX_TURN_ROWS = 40
"""How many rows of a message are shown when a turn is looked at."""


def print_conversation(terminal: Terminal, session: Session) -> None:
    """Print all messages of the path, each under a line with its speaker. On a terminal, replies are rendered."""
    render = _markdown_renderer(terminal)
    for message in session.path:
        terminal.dim_line(_speaker(session, message))
        text = message.content.rstrip("\n")
        if render and message.role == "assistant":
            terminal.raw("\n".join([*render(sanitize(text)), "", ""]))
        else:
            terminal.write(wrap(sanitize(text), terminal.width) if render else sanitize(text))
            terminal.raw("\n")


def _markdown_renderer(terminal: Terminal) -> Callable[[str], list[str]] | None:
    """What renders Markdown as lines of the terminal. None if text is printed as it is."""
    if not terminal.interactive or terminal.plain or terminal.width < MIN_WIDTH:
        return None
    from chatmem.terminal.markdown_renderer import MarkdownRenderer  # imported lazily: slow

    return MarkdownRenderer(terminal.width, terminal.colors).render


def print_tree(terminal: Terminal, session: Session) -> None:
    """Print all branches: one line per message, indented where the conversation branches."""
    path = {message.id for message in session.path}
    children: dict[str | None, list[Message]] = {}
    for message in session.messages.values():
        children.setdefault(message.parent, []).append(message)
    stack = [(message, 0) for message in reversed(children.get(None, []))]
    while stack:
        message, depth = stack.pop()
        mark = "●" if message.id in path else "○"
        speaker = ">" if message.role == "user" else " "
        status = f" ({message.status})" if message.status != "complete" else ""
        total = terminal.width if terminal.interactive else PIPE_WIDTH
        width = max(20, total - 2 * depth - len(status) - 4)
        text = sanitize_line(" ".join(message.content[:200].split()))
        text = pad(text, width).rstrip() if cell_width(text) > width else text
        terminal.write(f"{mark} {'  ' * depth}{speaker} {text}{status}")
        following = children.get(message.id, [])
        stack += [(child, depth + (len(following) > 1)) for child in reversed(following)]


def print_last_turn(terminal: Terminal, session: Session) -> None:
    """Print the last turn, of a reply that is longer than the screen its end."""
    if session.turns:
        rows = max(MIN_SHOWN_ROWS, terminal.size().lines - MAX_QUESTION_ROWS - 4)
        _print_turn(terminal, session.turns[-1], lambda shown: len(shown) - rows, rows)
    if session.unanswered:
        terminal.notify("This question has no reply yet.", Action("retry"))


def print_turn(terminal: Terminal, turn: Turn, passage: str = "") -> None:
    """Print a turn, of a long reply the part with a passage."""
    _print_turn(terminal, turn, lambda shown: _row_of(passage, shown) - 1, MAX_TURN_ROWS)


def _print_turn(terminal: Terminal, turn: Turn, start: Callable[[list[str]], int], max_rows: int) -> None:
    """Print a turn, of a reply with more rows than `max_rows` those from `start(rows)` on."""
    render = _markdown_renderer(terminal)
    for message in turn.messages:
        if message.role == "user":
            rows = wrap(sanitize(f"> {message.content.strip()}"), terminal.width).split("\n")
            for row in [*rows[:MAX_QUESTION_ROWS], *["…"] * (len(rows) > MAX_QUESTION_ROWS)]:
                terminal.info_line(row)
            continue
        text = sanitize(message.content.strip("\n"))
        rows = render(text) if render else wrap(text, terminal.width).split("\n")
        first = max(0, min(start(rows), len(rows) - max_rows))
        shown = rows[first : first + max_rows]
        terminal.raw("\n".join([*["…"] * (first > 0), *shown, *["…"] * (first + len(shown) < len(rows)), ""]))
        if message.status != "complete":
            terminal.info(f"({message.status})")
        if render:
            terminal.raw("\n")


def _row_of(passage: str, rows: Sequence[str]) -> int:
    """The row in which a passage begins. 0 if it is not found."""
    wanted = _letters(passage)[:PASSAGE_LETTERS]
    letters = [_letters(re.sub(r"\x1b\[[\d;]*m", "", row)) for row in rows]
    position = "".join(letters).find(wanted)
    ends = itertools.accumulate(map(len, letters))
    return next((row for row, end in enumerate(ends) if end > position), 0) if position > 0 else 0


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def print_hits(terminal: Terminal, hits: Iterable[Hit], query: Query) -> int:
    """Print what a search found, with the words in bold. Returns the number of hits."""
    count = 0
    for hit in hits:
        count += 1
        where = f"turn {hit.turn}" if hit.turn else "another branch"
        terminal.dim_line(f"{hit.session} · {where} · {hit.role} · {relative_time(hit.time)}")
        excerpt = hit.excerpt
        if terminal.interactive:
            excerpt = sanitize_line(excerpt)
            first = next(iter(query.spans(excerpt)), (0, 0))[0]
            excerpt = fit_around(excerpt, first, max(1, terminal.width - 2)).rstrip()
        terminal.write_highlighted(f"  {excerpt}", query.spans(f"  {excerpt}"))
    return count


def print_recalled(terminal: Terminal, found: Sequence[Recalled], question: str, numbered: bool = False) -> None:
    """Print passages with where they stand, and the words of the question in bold."""
    words = "|".join(map(re.escape, search_words(question)))
    pattern = re.compile(rf"(?<![^\W_])(?:{words})\w*", re.IGNORECASE)
    for number, one in enumerate(found, 1):
        head = f"{number} · " if numbered else ""
        terminal.dim_line(f"{head}{one.source} · {one.role} · {relative_time(one.time)}")
        text = " ".join(one.text.split())
        for line in wrap(text, terminal.width - 2).split("\n") if terminal.interactive else [text]:
            terminal.write_highlighted(f"  {line}", [match.span() for match in pattern.finditer(f"  {line}")])


def _speaker(session: Session, message: Message) -> str:
    index = session.turn_index.get(message.id)
    parts = [str(index + 1)] if index is not None and message.role == "user" else []
    parts += [message.role, *([message.model] if message.model else [])]
    parts += [message.status] if message.status != "complete" else []
    return sanitize_line(" · ".join(parts))
