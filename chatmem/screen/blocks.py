"""Markdown that is still being written, cut into what is final and what is open.

A top-level block is final as soon as another one has begun on a whole line after it. Three kinds go by pieces, since
they may be long: fenced code by lines, bullet lists by items, and everything else by blocks. Tables and ordered lists
wait for their end: their columns and the width of their numbers depend on all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.token import Token

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_LABEL = re.compile(r"\[([^\[\]]+)\]")


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough; raw HTML is shown, not swallowed."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@dataclass(frozen=True)
class Part:
    """Something to render: tokens of Markdown, or lines of one fenced code block."""

    tokens: tuple[Token, ...] = ()
    code: str | None = None
    language: str = ""
    gap: bool = False
    """Whether an empty line stands before it."""


@dataclass
class _Fence:
    """A fenced code block that is being written."""

    mark: str
    indent: int
    language: str
    begun: bool = False
    blanks: int = 0


class Blocks:
    """Takes Markdown as it comes, gives parts as soon as they are final, and knows what is open."""

    def __init__(self) -> None:
        self._rest = ""
        self._references: MutableMapping[str, Any] = {}
        self._fence: _Fence | None = None
        self._gap = False
        self._joined = False
        self._looked_at = 0
        self._unresolved: set[str] = set()
        """What stood in brackets so far, as labels of links are compared."""

    def feed(self, text: str) -> Iterator[Part]:
        """Take more text, and give what has become final."""
        self._rest += text
        end = self._rest.rfind("\n") + 1
        if end <= self._looked_at and not self._fence:
            return
        yield from self._whole_lines()
        self._looked_at = self._rest.rfind("\n") + 1

    def open(self) -> list[Part]:
        """What is not final yet, as it looks now."""
        if self._fence:
            blanks = "\n" * self._fence.blanks if self._rest.strip() else ""
            line = self._rest if not self._closes(self._rest) else ""
            return [Part(code=blanks + self._code_line(line), language=self._fence.language)] if line.strip() else []
        tokens = self._parse(self._rest, self._known()) if self._rest.strip() else []
        return [Part(tuple(tokens), gap=self._gap and not self._joined)] if tokens else []

    def finish(self) -> Iterator[Part]:
        """Give all that is left."""
        if self._rest and not self._rest.endswith("\n"):
            self._rest += "\n"
        yield from self._whole_lines()
        if self._rest.strip() and not self._fence:
            yield from self._final(self._rest)
        self._rest, self._fence = "", None

    def _whole_lines(self) -> Iterator[Part]:
        while True:
            if self._fence:
                yield from self._code_lines()
                if self._fence:
                    return
            end = self._rest.rfind("\n") + 1
            whole = self._rest[:end]
            if not whole.strip():
                return
            tokens = self._parse(whole, self._known())
            tops = [t for t in tokens if t.level == 0 and t.map]
            if not tops:
                return
            last = tops[-1]
            assert last.map is not None
            lines = [line + "\n" for line in whole.split("\n")[:-1]]
            start = last.map[0]
            if start > 0:
                yield from self._final("".join(lines[:start]))
                lines = lines[start:]
            if last.type == "fence" and (opening := _FENCE.match(lines[0])):
                yield from self._begin_fence(lines[0], opening)
                self._rest = "".join(lines[1:]) + self._rest[end:]
                continue
            if last.type == "bullet_list_open" and (items := _item_starts(tokens, start)) and items[-1] > 0:
                yield from self._final("".join(lines[: items[-1]]))
                self._joined = True
                lines = lines[items[-1] :]
            self._rest = "".join(lines) + self._rest[end:]
            return

    def _final(self, source: str) -> Iterator[Part]:
        before = self._references.get("references", {}).keys() | set()
        tokens = self._parse(source, self._references)
        if any(t.level == 0 for t in tokens):
            yield Part(tuple(tokens), gap=self._gap and not self._joined)
            self._gap = True
            self._joined = False
        yield from self._late_targets(before)
        self._unresolved |= {normalizeReference(name) for t in tokens for name in _LABEL.findall(t.content)}

    def _late_targets(self, before: Set[str]) -> Iterator[Part]:
        """The link definitions that come after their use: what is printed stays as it is, so they are shown here."""
        found = self._references.get("references", {})
        late = [label for label in found if label in self._unresolved and label not in before]
        if late:
            yield Part(code="\n".join(f"[{label.lower()}]: {found[label]['href']}" for label in late), gap=self._gap)

    def _begin_fence(self, line: str, opening: re.Match[str]) -> Iterator[Part]:
        indent = len(line) - len(line.lstrip(" "))
        words = opening[2].split()
        self._fence = _Fence(opening[1], indent, words[0] if words else "")
        self._joined = False
        yield Part(code="", language=self._fence.language, gap=self._gap)

    def _code_lines(self) -> Iterator[Part]:
        fence = self._fence
        assert fence is not None
        *lines, rest = self._rest.split("\n")
        done: list[str] = []
        for index, line in enumerate(lines):
            if self._closes(line):
                self._fence, self._gap = None, True
                rest = "\n".join([*lines[index + 1 :], rest])
                break
            code = self._code_line(line)
            if code.strip():
                done += [""] * fence.blanks + [code]
                fence.blanks = 0
            else:
                fence.blanks += 1  # blank lines at the end of the code are not shown
        self._rest = rest
        if done:
            fence.begun = True
            yield Part(code="\n".join(done), language=fence.language)

    def _code_line(self, line: str) -> str:
        assert self._fence is not None
        spaces = len(line) - len(line.lstrip(" "))
        return line[min(spaces, self._fence.indent) :]

    def _closes(self, line: str) -> bool:
        assert self._fence is not None
        text = line.strip(" \t")
        mark = self._fence.mark
        return len(text) >= len(mark) and not text.strip(mark[0]) and len(line) - len(line.lstrip(" ")) < 4

    def _known(self) -> MutableMapping[str, Any]:
        """A copy of the link references of what is final, for a look that must not add to them."""
        return {name: dict(value) for name, value in self._references.items()}

    @staticmethod
    def _parse(source: str, references: MutableMapping[str, Any]) -> list[Token]:
        return parser().parse(source, references)


def _item_starts(tokens: list[Token], start: int) -> list[int]:
    """The lines at which the items of the last top-level list begin, counted from its own first line."""
    first = max(i for i, t in enumerate(tokens) if t.level == 0 and t.type == "bullet_list_open")
    return [t.map[0] - start for t in tokens[first:] if t.type == "list_item_open" and t.level == 1 and t.map]
