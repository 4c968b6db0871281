"""Markdown for a terminal, in its own colours: readable on light and dark, links show their target.

Rich draws it; what differs from Rich's habit is chosen for reading and copying: code has no background and no padding,
raw HTML is shown, lines carry no trailing blanks, and no text becomes a terminal's hyperlink.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from markdown_it.token import Token
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from chatmem.screen.blocks import Part, parser

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
ENDLESS = 1 << 20
"""Columns of a line of code: the terminal itself wraps it, so that a copy has it whole."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_ASCII = str.maketrans({"•": "*", "…": ".", "“": '"', "”": '"', "‘": "'", "’": "'", "▌": "|"})
_ASCII |= dict.fromkeys(map(ord, "━─╸╺"), "-") | dict.fromkeys(map(ord, "│┃"), "|")
_ASCII |= dict.fromkeys(range(9484, 9552), "+")


class Code(CodeBlock):
    """A code block as lines of highlighted text, nothing around them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from code_lines(str(self.text).rstrip(), self.lexer_name, fold=options.max_width < ENDLESS)


class Whole(TableElement):
    """A table whose cells are broken where they must be, never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            for column in part.columns if isinstance(part, Table) else ():
                column.overflow = "fold"
            yield part


class Left(Heading):
    """A heading that begins where text begins."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class Page(Markdown):
    """Markdown from tokens, in our manner."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = Markdown.elements | {
        "fence": Code,
        "code_block": Code,
        "heading_open": Left,
        "table_open": Whole,
    }

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(tokens)


def code_lines(code: str, language: str, fold: bool = False) -> Iterator[Text]:
    """Lines of code, highlighted; to `fold` them is for code that stands inside something else."""
    syntax = Syntax(code, language or "text", theme=_CODE)
    text = syntax.highlight(code)
    text.rstrip()
    for line in text.split("\n", allow_blank=True) if code else ():
        line.overflow, line.no_wrap, line.end = "fold" if fold else "ignore", not fold, "\n"
        line.justify = "left"
        yield line


def columns_of(line: str) -> int:
    """The columns a drawn line takes."""
    return cell_len(_STYLE.sub("", line))


class Renderer:
    """From parts to lines of a terminal of some width."""

    def __init__(self, width: int, colour: bool = True, ascii_only: bool = False) -> None:
        self.width, self.ascii_only = width, ascii_only
        self.console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=width,
            color_system="standard",
            no_color=not colour,
            theme=THEME,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def lines(self, parts: Iterable[Part]) -> list[str]:
        """The parts as lines with their styles, without trailing blanks."""
        lines: list[str] = []
        for part in parts:
            if part.gap:
                lines.append("")
            if part.code is None:
                lines += self._page(part.tokens)
            elif part.code:
                for line in code_lines(part.code, part.language):
                    lines += self._drawn(line, ENDLESS)
        return lines

    def whole(self, text: str) -> list[str]:
        """A whole text of Markdown, in one go."""
        return self._page(parser().parse(text))

    def _page(self, tokens: Sequence[Token]) -> list[str]:
        """Blocks with one empty line between them; Rich's own habit depends on what stands inside a block."""
        lines: list[str] = []
        start = 0
        for index, token in enumerate(tokens):
            if token.level == 0 and token.nesting <= 0:
                width = ENDLESS if token.type in ("fence", "code_block") else None
                block = self._drawn(Page(tokens[start : index + 1]), width)
                start = index + 1
                while block and not block[-1]:
                    block.pop()
                while block and not block[0] and token.type not in ("fence", "code_block"):
                    block.pop(0)
                lines += ["", *block] if index and lines else block
        return lines

    def _drawn(self, what: Page | Text, width: int | None = None) -> list[str]:
        options = self.console.options.update(width=width) if width else self.console.options
        rows = self.console.render_lines(what, options, pad=False)
        return [self._line(row) for row in rows]

    def _line(self, row: list[Segment]) -> str:
        while row and not row[-1].text.rstrip(" ") and not (row[-1].style and row[-1].style.bgcolor):
            row = row[:-1]
        if row:
            text, style, control = row[-1]
            row = [*row[:-1], Segment(text.rstrip(" "), style, control)]
        no_color = self.console.no_color
        line = "".join(
            (style.without_color if no_color else style).render(text, color_system=self.console._color_system)
            if style
            else text
            for text, style, _ in row
        )
        return line.translate(_ASCII) if self.ascii_only else line
