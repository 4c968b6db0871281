"""Rendering Markdown in the terminal's own colors, readable on light and dark. Links show their target.

Rich renders it. What differs from Rich's defaults makes reading and copying easier: code has no background and no
padding, raw HTML is shown, lines have no trailing spaces, and nothing becomes a terminal hyperlink.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import ClassVar, Self

from markdown_it.token import Token
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, HorizontalRule, ListItem, Markdown, MarkdownElement, TableElement
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from chatmem.terminal.colors import THEMES, Colors
from chatmem.terminal.incremental_markdown import MarkdownPart, parser
from chatmem.terminal.sanitize import sanitize_line

MAX_LANGUAGE_CHARS = 30
MAX_FRAME_WIDTH = 60
"""Columns that the lines above and below code take at most."""
UNLIMITED_WIDTH = 1 << 20
"""The width at which code is rendered: the terminal wraps it, so that copied lines are complete."""
_RESET = "\x1b[0m"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_ASCII = str.maketrans({"•": "*", "…": ".", "“": '"', "”": '"', "‘": "'", "’": "'", "▌": "|"})
_ASCII |= dict.fromkeys(map(ord, "━─╸╺"), "-") | dict.fromkeys(map(ord, "│┃"), "|")
_ASCII |= dict.fromkeys(range(9484, 9552), "+")


@cache
def _markdown_theme(colors: Colors) -> Theme:
    return Theme(
        {
            "markdown.code": colors.accent or "bold",
            "markdown.code_block": "none",
            "markdown.block_quote": "dim",
            "markdown.h1": "bold underline",
            "markdown.h2": "bold underline",
            "markdown.h3": "bold",
            "markdown.h4": "bold",
            "markdown.h5": "bold italic",
            "markdown.h6": "italic",
            "markdown.hr": "dim",
            "markdown.item.bullet": "bold",
            "markdown.item.number": "bold",
            "markdown.link": "underline",
            "markdown.link_url": "dim",
            "markdown.table.border": "dim",
            "markdown.table.header": "bold",
        }
    )


@cache
def _code_theme(colors: Colors) -> ANSISyntaxTheme:
    accent, good, error, keyword = (
        Style(color=color or None) for color in (colors.accent, colors.good, colors.error, colors.keyword)
    )
    return ANSISyntaxTheme(
        {
            Comment: Style(dim=True, italic=True),
            Keyword: keyword,
            Operator.Word: keyword,
            Name.Function: Style(bold=True),
            Name.Class: Style(bold=True),
            Name.Builtin: accent,
            Name.Decorator: accent,
            Name.Tag: keyword,
            String: good,
            Number: accent,
            Generic.Deleted: error,
            Generic.Inserted: good,
            Generic.Heading: Style(bold=True),
        }
    )


class HighlightedCode(CodeBlock):
    """A code block: highlighted lines between two rules, without padding. `/copy N` copies the one with number N."""

    def __init__(self, renderer: MarkdownRenderer, language: str) -> None:
        super().__init__(language or "text", "")
        self.renderer, self.language, self.number = renderer, language, renderer.next_code_number()

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> Self:
        assert isinstance(markdown, MarkdownDocument)
        return cls(markdown.renderer, (token.info.split() or [""])[0])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        is_nested = options.max_width < UNLIMITED_WIDTH
        width = options.max_width if is_nested else self.renderer.width
        yield code_head(self.number, self.language, width)
        yield from self.renderer.code_lines(str(self.text).rstrip(), self.lexer_name, wrap_lines=is_nested)
        if self.renderer.closes_code:
            yield code_foot(width)


def code_head(number: int, language: str, width: int) -> Text:
    """The rule above a code block, with its number and language."""
    width = min(width, MAX_FRAME_WIDTH)
    name = sanitize_line(language[:MAX_LANGUAGE_CHARS])
    label = f"── {number}" + (f" · {name}" if name else "") + " "
    if cell_len(label) > width:
        label = f"── {number} "
    return _rule(label + "─" * max(0, width - cell_len(label)))


def code_foot(width: int) -> Text:
    """The rule below a code block."""
    return _rule("─" * min(width, MAX_FRAME_WIDTH))


def _rule(text: str) -> Text:
    return Text(text, style="dim", no_wrap=True, overflow="ignore", justify="left", end="\n")


class WrappingTable(TableElement):
    """A table whose cells are wrapped, never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            for column in part.columns if isinstance(part, Table) else ():
                column.overflow = "fold"
            yield part


class Line(HorizontalRule):
    """A thematic break."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style=console.get_style("markdown.hr", default="none"))


class CompactItem(ListItem):
    """An item of a list without empty rows at its end, which a table has."""

    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return _without_empty_end(super().render_bullet(console, options))

    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        return _without_empty_end(super().render_number(console, options, number, last_number))


def _without_empty_end(segments: RenderResult) -> RenderResult:
    rows = list(Segment.split_lines(segment for segment in segments if isinstance(segment, Segment)))
    while len(rows) > 1 and not any(segment.text.strip() for segment in rows[-1]):
        rows.pop()
    for row in rows:
        yield from row
        yield Segment.line()


class LeftAlignedHeading(Heading):
    """A heading that is not centered."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class MarkdownDocument(Markdown):
    """A Markdown document from parsed tokens, with the elements above."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = Markdown.elements | {
        "fence": HighlightedCode,
        "code_block": HighlightedCode,
        "heading_open": LeftAlignedHeading,
        "hr": Line,
        "list_item_open": CompactItem,
        "table_open": WrappingTable,
    }

    def __init__(self, tokens: Sequence[Token], renderer: MarkdownRenderer) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed, self.renderer = list(tokens), renderer


def plain_text(line: str) -> str:
    """A rendered line without its styles."""
    return _STYLE.sub("", line)


def appended_text(old: str, new: str) -> str:
    """What a rendered line has more than another one at its end, with its style. Empty if it differs in more."""
    start = old.removesuffix(_RESET)
    if not new.startswith(start) or len(new) <= len(old):
        return ""
    styles = _STYLE.findall(start)
    return (styles[-1] if styles and styles[-1] != _RESET else "") + new[len(start) :]


def visible_width(line: str) -> int:
    """The columns that a rendered line takes."""
    return cell_len(plain_text(line))


class MarkdownRenderer:
    """Renders parts of Markdown as lines of a terminal of a given width."""

    def __init__(self, width: int, colors: Colors = THEMES["auto"], ascii_only: bool = False) -> None:
        self.width, self.colors, self.ascii_only = width, colors, ascii_only
        self.code_count = 0
        """How many code blocks were rendered."""
        self.closes_code = True
        """Whether a rule is drawn below code inside another block."""
        self.console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=width,
            color_system="standard",
            no_color=not colors.accent,
            theme=_markdown_theme(colors),
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def lines(self, parts: Iterable[MarkdownPart]) -> list[str]:
        """The parts as styled lines without trailing spaces."""
        lines: list[str] = []
        for part in parts:
            if part.blank_before:
                lines.append("")
            if part.code is None:
                lines += self.render_tokens(part.tokens)
                continue
            if part.begins_code:
                self.code_count += 1
                lines += self._render_lines(code_head(self.code_count, part.language, self.width))
            for line in self.code_lines(part.code, part.language):
                lines += self._render_lines(line, UNLIMITED_WIDTH)
            if part.ends_code:
                lines += self._render_lines(code_foot(self.width))
        return lines

    def render(self, text: str) -> list[str]:
        """A whole Markdown text as styled lines. Its code blocks are numbered from 1."""
        self.code_count = 0
        return self.render_tokens(parser().parse(text))

    def render_open(self, tokens: Sequence[Token], codes_before: int) -> list[str]:
        """Blocks that are not final, with this many code blocks before them that are not final either."""
        count, self.code_count, self.closes_code = self.code_count, self.code_count + codes_before, False
        try:
            return self.render_tokens(tokens)
        finally:
            self.code_count, self.closes_code = count, True

    def render_tokens(self, tokens: Sequence[Token]) -> list[str]:
        """Blocks with one empty line between them. Rich's own spacing depends on the content of a block."""
        lines: list[str] = []
        start = 0
        for index, token in enumerate(tokens):
            if token.level == 0 and token.nesting <= 0:
                width = UNLIMITED_WIDTH if token.type in ("fence", "code_block") else None
                block = self._render_lines(MarkdownDocument(tokens[start : index + 1], self), width)
                start = index + 1
                while block and not block[-1]:
                    block.pop()
                while block and not block[0]:
                    block.pop(0)
                lines += ["", *block] if block and lines else block  # an empty heading takes no row
        return lines

    def next_code_number(self) -> int:
        self.code_count += 1
        return self.code_count

    def code_lines(self, code: str, language: str, wrap_lines: bool = False) -> Iterator[Text]:
        """Highlighted lines of code. With `wrap_lines`, for code inside another block, long lines are wrapped."""
        syntax = Syntax(code, language or "text", theme=_code_theme(self.colors))
        text = syntax.highlight(code)
        text.rstrip()
        for line in text.split("\n", allow_blank=True) if code else ():
            line.overflow, line.no_wrap, line.end = "fold" if wrap_lines else "ignore", not wrap_lines, "\n"
            line.justify = "left"
            yield line

    def _render_lines(self, what: MarkdownDocument | Text, width: int | None = None) -> list[str]:
        options = self.console.options.update(width=width) if width else self.console.options
        rows = self.console.render_lines(what, options, pad=False)
        return [self._to_ansi(row) for row in rows]

    def _to_ansi(self, row: list[Segment]) -> str:
        while row and not row[-1].text.rstrip(" ") and not (row[-1].style and row[-1].style.bgcolor):
            row = row[:-1]
        if row:
            text, style, control = row[-1]
            row = [*row[:-1], Segment(text.rstrip(" "), style, control)]
        no_color = self.console.no_color
        line = "".join(
            (style.without_color if no_color else style).render(text, color_system=ColorSystem.STANDARD)
            if style
            else text
            for text, style, _ in row
        )
        return line.translate(_ASCII) if self.ascii_only else line
