"""The rows of a block that is still arriving, at a cost per frame that does not grow with the block.

What stands before the last child of the block (a list item, a row of a table, a line of code) is rendered once. Only
that child is rendered again, behind the first lines of what it stands in, so that it is indented, numbered and aligned
as in the whole. A long paragraph is split where a row begins. Finished blocks are rendered as a whole by others: these
rows are a preview, which may differ in what depends on the whole block, such as the width of its numbers.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markdown_it.token import Token
from rich.cells import cell_len

from chatmem.terminal.incremental_markdown import IncrementalMarkdown
from chatmem.terminal.markdown_renderer import MarkdownRenderer, plain_text

LONG_PARAGRAPH = 4
"""Rows from which on a paragraph is split where a row begins."""
MAX_PARAGRAPH = 40
"""Rows from which on it is split at any word, if no row was found in its source."""
MAX_TAIL_CHARS = 2_000
"""Characters from which on any block is split, whatever it looks like then."""
LONG_CODE = 4
"""Lines from which on code is split."""

_CHILDREN = {
    "paragraph_open",
    "heading_open",
    "bullet_list_open",
    "ordered_list_open",
    "list_item_open",
    "blockquote_open",
    "table_open",
    "fence",
    "code_block",
    "hr",
}
_NUMBER = re.compile(r"\d+(?=[.)])")
_MARKER = re.compile(r"[ >]*(?:[-*+]|\d+[.)])[ \t]+")
_PREFIX = re.compile(r"[ >]*(?:#{1,6} )?")


@dataclass
class _Container:
    """A block that is open at a place in the source."""

    token: Token
    items: int = 0
    """How many items of a list have begun."""


@dataclass
class _Child:
    """The last block in a text that begins on a line of its own."""

    token: Token
    line: int
    containers: list[_Container] = field(default_factory=list)
    """What it stands in, from the outside to the inside."""
    has_items: bool = False
    """Whether it is a list, or an item of one."""


@dataclass
class _Tail:
    """The end of the open part, and the lines that it is rendered behind."""

    context: str = ""
    text: str = ""
    context_rows: int | None = None
    codes_before: int = 0
    """How many code blocks of the open part stand before it."""
    codes: int = 0
    """How many code blocks it has, as far as it was rendered."""


@dataclass
class _Table:
    """A table that is still arriving."""

    before: list[str]
    """The rows of the screen above it."""
    lines: list[str] = field(default_factory=list)
    """The source of its last rows."""
    widths: list[int] = field(default_factory=list)
    line_count: int = 0
    """How many lines the context of the next row has."""


class OpenBlock:
    """Renders the part of a reply that is not final yet."""

    def __init__(self, blocks: IncrementalMarkdown, renderer: MarkdownRenderer) -> None:
        self.blocks, self.renderer = blocks, renderer
        self._start(-1)

    def _start(self, offset: int) -> None:
        self._offset, self._length = offset, 0
        self._tail = _Tail()
        self._tail_rows: list[str] = []
        self._rows: list[str] = [""] if self.blocks.blank_before_rest else []
        """The rows of what stands before the tail."""
        self._table: _Table | None = None
        self._long = LONG_PARAGRAPH

    def rows(self, height: int) -> list[str]:
        """The last rows of the open part, at most `height`."""
        if code := self.blocks.open_code(self.renderer.width):
            return self.renderer.lines([code])
        if self._offset != self.blocks.rest_offset:
            self._start(self.blocks.rest_offset)
        added, self._length = self.blocks.rest[self._length :], len(self.blocks.rest)
        self._tail.text += added
        # The words of a table row that is not complete would change the widths of all columns again and again.
        if added and not (self._table and "\n" not in added):
            self._update(height)
        rows = self._rows + self._tail_rows
        return rows[-height:] if any(rows) else []

    def _update(self, height: int) -> None:
        """Render the tail, and shorten it to its last child."""
        tail = self._tail
        complete = tail.text[: tail.text.rfind("\n") + 1] if self._table else tail.text
        if not tail.context and not complete.strip("\n"):
            self._tail.text = ""
            return
        tokens = self.blocks.parse_open(tail.context + complete)
        self._tail_rows = self._render(tail, tokens)
        first = tail.context.count("\n")
        child = _last_child(tokens)
        if child is None:
            return
        if len(tail.text) > MAX_TAIL_CHARS and child.line <= first:
            self._cut(self._rest_of_paragraph(child, len(tail.text) - MAX_TAIL_CHARS // 4))
            return
        if child.token.type == "table_open" and (self._table or child.line == first):
            self._cut_table(tokens, child, height)
            return
        self._table = None
        if child.line > first:
            self._cut(_cut_at_child(tail, child))
        elif child.token.type in ("fence", "code_block"):
            self._cut_code(child, first)
        elif len(self._tail_rows) > self._long:
            self._cut_paragraph(child)
        del self._rows[:-height]

    def _render(self, tail: _Tail, tokens: Sequence[Token] | None = None) -> list[str]:
        """The rows of a tail, without those of its context."""
        tokens = tokens or self.blocks.parse_open(tail.context + tail.text)
        tail.codes = sum(token.type in ("fence", "code_block") for token in tokens)
        if tail is not self._tail:
            tail.codes_before = self._tail.codes_before + self._tail.codes - tail.codes
        rows = self.renderer.render_open(tokens, tail.codes_before)
        if tail.context_rows is None:
            context = self.blocks.parse_open(tail.context)
            tail.context_rows = len(self.renderer.render_open(context, 0)) if tail.context else 0
        return rows[tail.context_rows :]

    def _cut(self, tail: _Tail, only_if_same: bool = False) -> bool:
        """Continue with a shorter tail. With `only_if_same`, only if its rows are the last ones of the present tail."""
        rows = self._render(tail)
        before = max(0, len(self._tail_rows) - len(rows))
        if only_if_same and self._tail_rows[before:] != rows:
            return False
        self._rows += self._tail_rows[:before]
        self._tail, self._tail_rows, self._long = tail, rows, LONG_PARAGRAPH
        return True

    def _cut_table(self, tokens: Sequence[Token], table: _Child, height: int) -> None:
        """Continue after the last complete row of a table. A row of filler gives the columns the widths they have."""
        *lines, rest = (self._tail.context + self._tail.text).split("\n")
        known = self._table.line_count if self._table else table.line + 2
        if len(lines) <= known:
            return
        shown = self._table or _Table(list(self._rows))
        widths = _column_widths(tokens, table, self.renderer.width)
        shown.lines = [*shown.lines, *lines[known:]][-height:]
        if widths != shown.widths:
            indent = lines[table.line][: len(lines[table.line]) - len(lines[table.line].lstrip(" "))]
            filler = f"{indent}| " + " | ".join("x " * (width // 2) + "x" * (width % 2) for width in widths) + " |"
            header = [*_context(lines, table).split("\n")[:-1], *lines[table.line : table.line + 2], filler]
            context = "\n".join(header) + "\n"
            rows = self.renderer.render_open(self.blocks.parse_open(context), 0)
            rule = next((n for n, row in enumerate(rows) if set(plain_text(row)) <= {" ", "─", "-"}), 0)
            shown.widths, shown.line_count = widths, len(header)
            rows = rows[: rule + 1] if len(shown.lines) < height else []
            self._rows = [*shown.before, *rows, *self._render(_Tail(context, "\n".join(shown.lines)))]
        else:
            context = self._tail.context
            self._rows += self._tail_rows
        self._table, self._tail, self._tail_rows = shown, _Tail(context, rest), []
        del self._rows[:-height]

    def _cut_code(self, code: _Child, first: int) -> None:
        """Keep the last line of code."""
        lines = (self._tail.context + self._tail.text).split("\n")
        if len(lines) - max(first, code.line) > LONG_CODE:
            opening = lines[code.line] + "\n" if code.token.type == "fence" else ""
            self._cut(_Tail(_context(lines, code) + opening, "\n".join(lines[-2:])))

    def _cut_paragraph(self, paragraph: _Child) -> None:
        """Keep the last rows of a paragraph: those from a word on that begins a row."""
        text = self._tail.text
        letters = [sum(map(str.isalnum, plain_text(row))) for row in self._tail_rows]
        for row in range(len(letters) - 3, max(0, len(letters) - 6), -1):
            letter = next(_letters(text, sum(letters[:row])), 0)
            for start in (_word_start(text, letter), letter):  # scripts without spaces are split anywhere
                if start > 0 and self._cut(self._rest_of_paragraph(paragraph, start), only_if_same=True):
                    return
        self._long *= 2
        if self._long > MAX_PARAGRAPH:
            end = len(text) - LONG_PARAGRAPH * self.renderer.width // 2
            self._cut(self._rest_of_paragraph(paragraph, _word_start(text, end) or end))

    def _rest_of_paragraph(self, paragraph: _Child, start: int) -> _Tail:
        """The tail from a place in its paragraph on, as a paragraph of its own in the same containers."""
        tail = self._tail
        line = tail.text[tail.text.rfind("\n", 0, start) + 1 : start]
        if paragraph.has_items and (marker := _MARKER.match(tail.text)):
            return _Tail(f"{tail.context}{marker[0]}x\n\n", " " * len(marker[0]) + tail.text[start:])
        prefix = _PREFIX.match(line)
        return _Tail(tail.context, (prefix[0] if prefix else "") + tail.text[start:])


def _last_child(tokens: Sequence[Token]) -> _Child | None:
    """The block that begins on the last line on which one begins: the outermost of those that begin there."""
    containers: list[_Container] = []
    child = None
    for token in tokens:
        if token.nesting < 0:
            containers.pop()
            continue
        if token.type == "list_item_open":
            containers[-1].items += 1
        if token.type in _CHILDREN and token.map and (child is None or token.map[0] > child.line):
            child = _Child(token, token.map[0], [_Container(c.token, c.items) for c in containers])
        if child and token.type == "list_item_open":
            child.has_items = True
        if token.nesting > 0:
            containers.append(_Container(token))
    return child


def _cut_at_child(tail: _Tail, child: _Child) -> _Tail:
    """The tail from a child on."""
    lines = (tail.context + tail.text).split("\n")
    if child.token.type == "list_item_open":
        lines[child.line] = _numbered(lines[child.line], child.containers[-1])
    context = _context(lines, child)
    if context and not lines[child.line - 1].strip(" >"):
        context += lines[child.line - 1] + "\n"  # what stood apart stays apart
    return _Tail(context, "\n".join(lines[child.line :]))


def _context(lines: Sequence[str], child: _Child) -> str:
    """The first lines of the items that a child stands in."""
    context = ""
    last = -1
    for outer, item in zip(child.containers, child.containers[1:], strict=False):
        if item.token.type == "list_item_open" and item.token.map and item.token.map[0] != last:
            last = item.token.map[0]
            context += _numbered(lines[last], outer) + "\n"
    return context


def _numbered(line: str, items: _Container) -> str:
    """The first line of a list item with its number in the list, which may differ from the one in the source."""
    if items.token.type != "ordered_list_open":
        return line
    number = int(items.token.attrGet("start") or 1) + items.items - 1
    return _NUMBER.sub(str(number), line, count=1)


def _column_widths(tokens: Sequence[Token], table: _Child, most: int) -> list[int]:
    """The columns that the widest cell of each column takes, up to a limit."""
    cells = tokens[next(n for n, token in enumerate(tokens) if token is table.token) :]
    widths: list[int] = []
    column = 0
    for token in cells:
        if token.type == "tr_open":
            column = 0
        elif token.type == "inline":
            width = sum(_inline_width(child) for child in token.children or ())
            widths += [0] * (column + 1 - len(widths))
            widths[column] = max(widths[column], min(width, most))
            column += 1
    return widths


def _inline_width(token: Token) -> int:
    target = len(str(token.attrGet("href"))) + 3 if token.type == "link_open" else 0
    return cell_len(token.content) + target


def _word_start(text: str, position: int) -> int:
    """Where the word at a position begins."""
    return max(text.rfind(" ", 0, position), text.rfind("\n", 0, position)) + 1


def _letters(text: str, start: int) -> Iterator[int]:
    """The positions of letters and digits, from the one with the number `start` on."""
    return itertools.islice((n for n, character in enumerate(text) if character.isalnum()), start, None)
