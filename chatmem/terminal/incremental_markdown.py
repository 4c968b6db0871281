"""Parsing Markdown that is still arriving into final parts and an open one.

A top-level block is final as soon as another one has begun on a complete line after it. Fenced code is split by lines
and bullet lists by items, since they may be long. Tables and ordered lists are final at their end: their columns and
the width of their numbers depend on all rows.

The total work grows linearly with the text: a long open part is parsed again only after it has grown by a share.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_LABEL = re.compile(r"\[([^\[\]]+)\]")


TAB_COLUMNS = 4
_NEVER_EMPTY = {"hr", "fence", "code_block", "table_open"}
"""Blocks that take a row even if they have no text."""
PARSES_PER_CHARACTER = 8
"""How often a character of a long open part is parsed at most, on average, to find out which blocks are final."""

References = ChainMap[str, Any]
"""Link definitions by label. The first map holds those of the text that is being parsed."""


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough. Raw HTML is shown as text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.core.ruler.push("images_as_text", _images_as_text)
    return parser


def _takes_rows(token: Token) -> bool:
    """Whether a block with this token is shown. Empty headings, quotes and items are not, unless in another block."""
    is_nested_heading = token.type == "heading_open" and token.level > 0
    return bool(token.content.strip(" \t\n")) or token.type in _NEVER_EMPTY or is_nested_heading


def _images_as_text(state: StateCore) -> None:
    """Show images as their text and address, where they stand."""
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "image":
                child.type, child.tag, child.children = "text", "", None
                child.content = f"{child.content or 'image'} ({child.attrGet('src')})"


@dataclass(frozen=True)
class MarkdownPart:
    """Something to render: Markdown tokens, or lines of one fenced code block."""

    tokens: tuple[Token, ...] = ()
    code: str | None = None
    language: str = ""
    blank_before: bool = False
    """Whether an empty line precedes it."""
    begins_code: bool = False
    """Whether a fenced code block begins with it."""
    ends_code: bool = False
    """Whether a fenced code block ends with it."""


@dataclass
class _Fence:
    """A fenced code block that is still open."""

    mark: str
    indent: int
    language: str
    blanks: int = 0


class IncrementalMarkdown:
    """Takes Markdown as it arrives, and returns parts as soon as they are final."""

    def __init__(self) -> None:
        self._rest = ""
        self._length = 0
        """The number of characters of the whole text."""
        self._references: References = ChainMap()
        self._fence: _Fence | None = None
        self._blank_before = False
        self._is_continued = False
        self._may_parse = 1000
        """How many characters may be parsed to find final parts. Grows with the text."""
        self._unresolved: set[str] = set()
        """Texts in brackets so far, normalized as link labels: they may refer to a definition that follows."""

    def feed(self, text: str) -> Iterator[MarkdownPart]:
        """Add text, and return the parts that became final."""
        self._rest += text
        self._length += len(text)
        self._may_parse += PARSES_PER_CHARACTER * len(text)
        if "\n" in text and (self._fence or self._may_parse >= len(self._rest)):
            yield from self._parse_lines()

    @property
    def rest(self) -> str:
        """The text of the part that is not final yet, without fenced code."""
        return "" if self._fence else self._rest

    @property
    def rest_offset(self) -> int:
        """The position in the whole text of the part that is not final yet."""
        return self._length - len(self._rest)

    @property
    def blank_before_rest(self) -> bool:
        """Whether an empty line precedes the part that is not final yet."""
        return self._blank_before and not self._is_continued

    def open_code(self, limit: int) -> MarkdownPart | None:
        """The open line of fenced code, cut off after `limit` characters. None outside of code, or if it is blank."""
        if not self._fence or self._closes(self._rest[:limit]):
            return None
        line = self._code_line(self._rest[:limit])
        blanks = "\n" * self._fence.blanks
        return MarkdownPart(code=blanks + line, language=self._fence.language) if line.strip() else None

    def parse_open(self, source: str) -> list[Token]:
        """The tokens of text that is not final, with the link definitions of the final parts."""
        return self._parse(source, self._references.new_child())

    def finish(self) -> Iterator[MarkdownPart]:
        """Return everything that is left."""
        if self._rest and not self._rest.endswith("\n"):
            self._rest += "\n"
        yield from self._parse_lines()
        if self._fence:
            yield MarkdownPart(code="", ends_code=True)
        elif self._rest.strip():
            yield from self._final(self._rest)
        self._rest, self._fence = "", None

    def _parse_lines(self) -> Iterator[MarkdownPart]:
        while True:
            if self._fence:
                yield from self._code_lines()
                if self._fence:
                    return
            end = self._rest.rfind("\n") + 1
            complete = self._rest[:end]
            self._may_parse -= len(complete)
            if not complete or complete.isspace():
                self._rest = self._rest[end:]
                return
            tokens = self.parse_open(complete)
            top_level = [t for t in tokens if t.level == 0 and t.map]
            if not top_level:
                return
            last = top_level[-1]
            assert last.map is not None
            lines = [line + "\n" for line in complete.split("\n")[:-1]]
            start = last.map[0]
            if start > 0:
                yield from self._final("".join(lines[:start]))
                self._is_continued = False
                lines = lines[start:]
            if last.type == "fence" and (opening := _FENCE.match(lines[0])):
                yield from self._begin_fence(lines[0], opening)
                self._rest = "".join(lines[1:]) + self._rest[end:]
                continue
            if last.type == "bullet_list_open" and (items := _item_starts(tokens, start)) and items[-1] > 0:
                was_continued, parts = self._is_continued, list(self._final("".join(lines[: items[-1]])))
                yield from parts
                self._is_continued = was_continued or bool(parts)  # empty items are not shown
                lines = lines[items[-1] :]
            self._rest = "".join(lines) + self._rest[end:]
            return

    def _final(self, source: str) -> Iterator[MarkdownPart]:
        references = self._references.new_child()
        tokens = self._parse(source, references)
        if any(map(_takes_rows, tokens)):
            yield MarkdownPart(tuple(tokens), blank_before=self.blank_before_rest)
            self._blank_before = True
            self._is_continued = False
        yield from self._late_targets(references.maps[0])
        self._references.update(references.maps[0])
        self._unresolved |= {normalizeReference(name) for t in tokens for name in _LABEL.findall(t.content)}

    def _late_targets(self, added: MutableMapping[str, Any]) -> Iterator[MarkdownPart]:
        """Link definitions that follow their use. Printed text cannot change, so they are shown as they are."""
        late = [label for label in added if label in self._unresolved]
        if late:
            yield MarkdownPart(
                code="\n".join(f"[{label.lower()}]: {added[label]['href']}" for label in late),
                blank_before=self._blank_before,
            )

    def _begin_fence(self, line: str, opening: re.Match[str]) -> Iterator[MarkdownPart]:
        indent = len(line) - len(line.lstrip(" "))
        words = opening[2].split()
        self._fence = _Fence(opening[1], indent, words[0] if words else "")
        self._is_continued = False
        yield MarkdownPart(code="", language=self._fence.language, blank_before=self._blank_before, begins_code=True)

    def _code_lines(self) -> Iterator[MarkdownPart]:
        fence = self._fence
        assert fence is not None
        *lines, rest = self._rest.split("\n")
        done: list[str] = []
        for index, line in enumerate(lines):
            if self._closes(line):
                self._fence, self._blank_before = None, True
                rest = "\n".join([*lines[index + 1 :], rest])
                break
            code = self._code_line(line)
            if code.strip():
                done += [""] * fence.blanks + [code]
                fence.blanks = 0
            else:
                fence.blanks += 1  # blank lines at the end of code are not shown
        self._rest = rest
        if done or not self._fence:
            yield MarkdownPart(code="\n".join(done), language=fence.language, ends_code=not self._fence)

    def _code_line(self, line: str) -> str:
        """A line without the indent of the fence. Of a tab that reaches beyond it, the columns remain as spaces."""
        assert self._fence is not None
        columns = start = 0
        while columns < self._fence.indent and line[start : start + 1] in (" ", "\t"):
            columns += TAB_COLUMNS - columns % TAB_COLUMNS if line[start] == "\t" else 1
            start += 1
        return " " * (columns - self._fence.indent) + line[start:]

    def _closes(self, line: str) -> bool:
        assert self._fence is not None
        text = line.strip(" \t")
        mark = self._fence.mark
        indent = line[: len(line) - len(line.lstrip(" \t"))].expandtabs(TAB_COLUMNS)
        return len(text) >= len(mark) and not text.strip(mark[0]) and len(indent) < TAB_COLUMNS

    @staticmethod
    def _parse(source: str, references: References) -> list[Token]:
        return parser().parse(source, {"references": references})


def _item_starts(tokens: list[Token], start: int) -> list[int]:
    """The lines at which the items of the last top-level list begin, relative to its first line."""
    first = max(i for i, t in enumerate(tokens) if t.level == 0 and t.type == "bullet_list_open")
    return [t.map[0] - start for t in tokens[first:] if t.type == "list_item_open" and t.level == 1 and t.map]
