"""Shortening a text to a number of tokens: its beginning and its end stay, a marker stands for the middle.

About two thirds of the space go to the beginning. The text is cut between paragraphs or lines where that wastes little,
else between words, and never inside a grapheme (Unicode Standard Annex #29). A code fence that is cut open is closed
before the marker and opened again after it. The work is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from chatmem.history.session import Turn
from chatmem.memory.costs import reply_key
from chatmem.tokens.counter import Counter

MAX_PIECE_CHARS = 160
"""Longer lines are counted in pieces."""
MIN_MESSAGE_TOKENS = 32
"""A message that would have to be shortened to less, marker included, is left out."""
CONTEXT_CHARS = 128
"""Characters before a place that decide where its grapheme begins."""

_REGIONAL_INDICATORS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
"""Two of these characters make a flag."""
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n`]*)$", re.MULTILINE)


class Shortened(NamedTuple):
    """A shortened text, and how many tokens of the original it leaves out."""

    text: str
    left_out: int


def shorten(text: str, max_tokens: int, count: Callable[[str], int], total: int | None = None) -> Shortened:
    """The text in at most `max_tokens`, as `count` counts them. Empty if not even the marker fits.

    `total` is the count of the whole text, if it is known.
    """
    total = count(text) if total is None else total
    if total <= max_tokens:
        return Shortened(text, 0)
    space = max_tokens - count(_join(text, "", marker(total), ""))
    while space > 0:
        shortened = _shorten(text, total, space, count)
        excess = count(shortened.text) - max_tokens
        if excess <= 0:
            return shortened
        space -= max(excess, space // 16)
    alone = marker(total)
    return Shortened(alone if count(alone) <= max_tokens else "", total)


def truncate_to(text: str, max_tokens: int, count: Callable[[str], int]) -> str:
    """The beginning of a text in at most `max_tokens`, cut at the end of a line if that wastes little."""
    space = max_tokens
    while space > 0:
        kept = text[: _last_break(text, _prefix_end(text, space, count))].rstrip()
        excess = count(kept) - max_tokens
        if excess <= 0:
            return kept
        space -= max(excess, space // 16)
    return ""


def shorten_turn(turn: Turn, counter: Counter, space: int) -> tuple[Shortened, Shortened] | None:
    """The question and the reply of a turn in `space` tokens, as messages. None if a message would be too short.

    Both get the same space. What one does not need goes to the other.
    """
    needed = counter.count_message(turn.question.content, turn.id), counter.count_message(turn.reply, reply_key(turn))
    return _shortened_pair(turn.question.content, turn.reply, needed, counter, space)


@lru_cache(maxsize=1024)
def _shortened_pair(
    question: str, reply: str, needed: tuple[int, int], counter: Counter, space: int
) -> tuple[Shortened, Shortened] | None:
    """Each plan shortens the same turns again until they are summarised."""
    half = space // 2
    spaces = [max(half, space - needed[1]), max(half, space - needed[0])]
    shortened = []
    for text, needs, has in zip((question, reply), needed, spaces, strict=True):
        if needs <= has:
            shortened.append(Shortened(text, 0))
            continue
        tokens = has - counter.message_overhead
        if tokens < MIN_MESSAGE_TOKENS:
            return None
        shortened.append(shorten(text, tokens, counter.count_text, needs - counter.message_overhead))
        if not shortened[-1].text:
            return None
    return shortened[0], shortened[1]


def marker(tokens: int) -> str:
    """What stands for the part that is left out."""
    return f"[… {tokens:,} tokens left out …]"


def _shorten(text: str, total: int, space: int, count: Callable[[str], int]) -> Shortened:
    """The text with about `space` tokens of it left."""
    head_end = _last_break(text, _prefix_end(text, space * 2 // 3, count))
    head = text[:head_end].rstrip()
    rest = text[head_end:]
    tail_start = head_end + _first_break(rest, _suffix_start(rest, space - count(head), count))
    tail = text[tail_start:].lstrip("\n")
    left_out = max(1, total - count(head) - count(tail))
    head_fence, tail_fence = _open_fence(text[:head_end]), _open_fence(text[:tail_start])
    if head_fence:
        head += "\n" + re.sub(r"[^`~]", "", head_fence)
    if tail_fence and tail:
        tail = f"{tail_fence}\n{tail}"
    return Shortened(_join(text, head, marker(left_out), tail), left_out)


def _join(text: str, head: str, middle: str, tail: str) -> str:
    """The parts on lines of their own if the text has several lines."""
    return ("\n\n" if "\n" in text else " ").join(part for part in (head, middle, tail) if part)


def _prefix_end(text: str, tokens: int, count: Callable[[str], int]) -> int:
    """The end of the longest prefix of at most `tokens`, which are counted piece by piece."""
    end, used = 0, 0
    while end < len(text):
        newline = text.find("\n", end, end + MAX_PIECE_CHARS)
        piece = text[end : newline + 1 if newline >= 0 else end + MAX_PIECE_CHARS]
        cost = count(piece)
        if used + cost > tokens:
            return end + _fitting(piece, tokens - used, lambda n, piece=piece: count(piece[:n]))  # type: ignore[misc]
        end, used = end + len(piece), used + cost
    return end


def _suffix_start(text: str, tokens: int, count: Callable[[str], int]) -> int:
    """The start of the longest suffix of at most `tokens`, which are counted piece by piece."""
    start, used = len(text), 0
    while start > 0:
        newline = text.rfind("\n", max(0, start - MAX_PIECE_CHARS), start - 1)
        piece = text[newline + 1 if newline >= 0 else max(0, start - MAX_PIECE_CHARS) : start]
        cost = count(piece)
        if used + cost > tokens:
            size = _fitting(piece, tokens - used, lambda n, piece=piece: count(piece[len(piece) - n :]))  # type: ignore[misc]
            return start - size
        start, used = start - len(piece), used + cost
    return start


def _fitting(piece: str, tokens: int, cost: Callable[[int], int]) -> int:
    """How many characters of a piece take at most `tokens`."""
    low, high = 0, len(piece)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= tokens else (low, middle - 1)
    return low


def _last_break(text: str, end: int) -> int:
    """A good place to end the beginning of a text, at or before `end`."""
    if end == len(text):
        return end
    for mark, share in (("\n\n", 2), ("\n", 2), (" ", 4)):
        found = text.rfind(mark, 0, end + 1)
        if found > end - end // share:
            return found
    return _grapheme_start(text, end)


def _first_break(text: str, start: int) -> int:
    """A good place to begin the end of a text, at or after `start`."""
    length = len(text) - start
    for mark, share in (("\n\n", 2), ("\n", 2), (" ", 4)):
        found = text.find(mark, max(0, start - 1), start + length // share)
        if found >= 0:
            return found + len(mark)
    found = _grapheme_start(text, start)
    return found if found == start else _grapheme_end(text, start)


def _grapheme_start(text: str, position: int) -> int:
    """The start of the grapheme that contains a position."""
    from wcwidth import iter_graphemes  # imported lazily: rarely needed

    place = start = _safe_start(text, max(0, position - CONTEXT_CHARS))
    for grapheme in iter_graphemes(text[start : position + CONTEXT_CHARS]):
        if place + len(grapheme) > position:
            return place
        place += len(grapheme)
    return min(place, position)


def _safe_start(text: str, start: int) -> int:
    """A place at or before `start` that is not between the two halves of a flag."""
    return start - (start - len(text[:start].rstrip(_REGIONAL_INDICATORS))) % 2


def _grapheme_end(text: str, position: int) -> int:
    """The end of the grapheme that contains a position."""
    from wcwidth import iter_graphemes

    place = _grapheme_start(text, position)
    return place + len(next(iter_graphemes(text[place : place + 2 * CONTEXT_CHARS]), ""))


def _open_fence(text: str) -> str:
    """The line that opens the code fence in which a text ends. Empty if it ends outside of one."""
    opened = ""
    for found in _FENCE.finditer(text):
        fence, info = found[1], found[2].strip()
        if not opened:
            opened = fence + info
        elif fence[0] == opened[0] and len(fence) >= len(opened) - len(opened.lstrip(opened[0])) and not info:
            opened = ""
    return opened
