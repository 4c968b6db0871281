"""Rendering Markdown in the terminal's own colors, readable on light and dark. Links show their target.

Rich renders it. What differs from Rich's defaults makes reading and copying easier: code has no background and no
padding, raw HTML is shown, lines have no trailing spaces, and nothing becomes a terminal hyperlink.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from markdown_it.token import Token
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from chatmem.terminal.incremental_markdown import MarkdownPart, parser

THEME = Theme(
    {
        "markdown.code": "cyan",
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

_CODE = ANSISyntaxTheme(
    {
        Comment: Style(dim=True, italic=True),
        Keyword: Style(color="magenta"),
        Operator.Word: Style(color="magenta"),
        Name.Function: Style(bold=True),
        Name.Class: Style(bold=True),
        Name.Builtin: Style(color="cyan"),
        Name.Decorator: Style(color="cyan"),
        Name.Tag: Style(color="magenta"),
        String: Style(color="green"),
        Number: Style(color="cyan"),
        Generic.Deleted: Style(color="red"),
        Generic.Inserted: Style(color="green"),
        Generic.Heading: Style(bold=True),
    }
)
UNLIMITED_WIDTH = 1 << 20
"""The width at which code is rendered: the terminal wraps it, so that copied lines are complete."""
_RESET = "\x1b[0m"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_ASCII = str.maketrans({"•": "*", "…": ".", "“": '"', "”": '"', "‘": "'", "’": "'", "▌": "|"})
_ASCII |= dict.fromkeys(map(ord, "━─╸╺"), "-") | dict.fromkeys(map(ord, "│┃"), "|")
_ASCII |= dict.fromkeys(range(9484, 9552), "+")


class HighlightedCode(CodeBlock):
    """A code block as lines of highlighted text, without a frame."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from code_lines(str(self.text).rstrip(), self.lexer_name, wrap_lines=options.max_width < UNLIMITED_WIDTH)


class WrappingTable(TableElement):
    """A table whose cells are wrapped, never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            for column in part.columns if isinstance(part, Table) else ():
                column.overflow = "fold"
            yield part


class LeftAlignedHeading(Heading):
    """A heading that is not centered."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class MarkdownDocument(Markdown):
    """A Markdown document from parsed tokens, with the elements above."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = Markdown.elements | {
        "fence": HighlightedCode,
        "code_block": HighlightedCode,
        "heading_open": LeftAlignedHeading,
        "table_open": WrappingTable,
    }

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(tokens)


def code_lines(code: str, language: str, wrap_lines: bool = False) -> Iterator[Text]:
    """Highlighted lines of code. With `wrap_lines`, for code inside another block, long lines are wrapped."""
    syntax = Syntax(code, language or "text", theme=_CODE)
    text = syntax.highlight(code)
    text.rstrip()
    for line in text.split("\n", allow_blank=True) if code else ():
        line.overflow, line.no_wrap, line.end = "fold" if wrap_lines else "ignore", not wrap_lines, "\n"
        line.justify = "left"
        yield line


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

    def __init__(self, width: int, color: bool = True, ascii_only: bool = False) -> None:
        self.width, self.ascii_only = width, ascii_only
        self.console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=width,
            color_system="standard",
            no_color=not color,
            theme=THEME,
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
            elif part.code:
                for line in code_lines(part.code, part.language):
                    lines += self._render_lines(line, UNLIMITED_WIDTH)
        return lines

    def render(self, text: str) -> list[str]:
        """A whole Markdown text as styled lines."""
        return self.render_tokens(parser().parse(text))

    def render_tokens(self, tokens: Sequence[Token]) -> list[str]:
        """Blocks with one empty line between them. Rich's own spacing depends on the content of a block."""
        lines: list[str] = []
        start = 0
        for index, token in enumerate(tokens):
            if token.level == 0 and token.nesting <= 0:
                width = UNLIMITED_WIDTH if token.type in ("fence", "code_block") else None
                block = self._render_lines(MarkdownDocument(tokens[start : index + 1]), width)
                start = index + 1
                while block and not block[-1]:
                    block.pop()
                while block and not block[0] and token.type not in ("fence", "code_block"):
                    block.pop(0)
                lines += ["", *block] if index and lines else block
        return lines

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
