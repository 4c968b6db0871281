"""html: one self-contained, printable page for light and dark. It has no scripts and loads nothing."""

from __future__ import annotations

from functools import cache
from string import Template
from typing import Any

from chatmem.formats.base import Format
from chatmem.history.records import Message, Record
from chatmem.history.session import Session
from chatmem.text import pluralize

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --quiet: #777; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
header, .byline, nav { color: var(--quiet); font-size: .85rem; }
h1 { font-size: 1.4rem; margin: 0; }
nav ol { padding-left: 1.5rem; }
article { border-top: 1px solid var(--line); padding: .5rem 0; overflow-wrap: anywhere; }
article.user { background: var(--soft); padding: .5rem 1rem; border-radius: .5rem; }
pre { overflow-x: auto; background: var(--soft); padding: .75rem; border-radius: .4rem; }
code { font: .9em ui-monospace, monospace; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .2rem .6rem; }
blockquote { border-left: 3px solid var(--line); margin-left: 0; padding-left: 1rem; }
details { border-left: 2px solid var(--line); padding-left: 1rem; margin: .5rem 0; }
a { color: inherit; }
@media print { nav { display: none } article { break-inside: avoid } }
$code
</style>
</head>
<body>
<header><h1>$title</h1><p>$about</p></header>
<nav><ol>$contents</ol></nav>
<main>
$body
</main>
</body>
</html>
""")


def write(session: Session, records: list[Record]) -> str:
    """The path as articles. Each branch is collapsed at the message where it leaves the path."""
    about = " · ".join(
        filter(None, (session.name, session.model, session.created[:10], pluralize(len(session.turns), "turn")))
    )
    titles = {t.number: _safe(" ".join(t.question.content.split())[:70] or "…") for t in session.turns}
    contents = "".join(f'<li><a href="#t{number}">{title}</a></li>' for number, title in titles.items())
    following: dict[str | None, list[Message]] = {}
    for message in session.messages.values():
        following.setdefault(message.parent, []).append(message)
    path = {m.id for m in session.path}
    numbers = {t.id: t.number for t in session.turns}
    body = [_branches(following, path, None)]
    for message in session.path:
        body.append(_article(message, numbers.get(message.id), _shortened(session, message)))
        body.append(_branches(following, path, message.id))
    title = _safe(session.title or session.name)
    return _PAGE.substitute(
        title=title, about=_safe(about), contents=contents, body="\n".join(filter(None, body)), code=_code_style()
    )


def _branches(following: dict[str | None, list[Message]], path: set[str], parent: str | None) -> str:
    """The branches that leave the path after a message, collapsed."""
    found = []
    for first in following.get(parent, []):
        if first.id not in path:
            waiting, articles = [first], []
            while waiting:
                message = waiting.pop()
                articles.append(_article(message))
                waiting += reversed(following.get(message.id, []))
            words = _safe(" ".join(first.content.split())[:60])
            found.append(f"<details><summary>Another branch: {words}</summary>{''.join(articles)}</details>")
    return "\n".join(found)


def _shortened(session: Session, reply: Message) -> str:
    """What the model was not sent of the turn before a reply."""
    found = session.shortened_turn(reply)
    return f"turn {found[0]} was sent without {found[1]:,} of its tokens" if found else ""


def _article(message: Message, number: int | None = None, note: str = "") -> str:
    role = "user" if message.role == "user" else "assistant"
    status = "" if message.status == "complete" else message.status
    about = (message.role, message.model, message.time[:16].replace("T", " "), status, note)
    byline = " · ".join(filter(None, about))
    anchor = f' id="t{number}"' if number else ""
    text = _markdown().render(message.content)
    return f'<article class="{role}"{anchor}><p class="byline">{_safe(byline)}</p>\n{text}</article>'


def _safe(text: str) -> str:
    from html import escape  # imported lazily: slow

    return escape(text, quote=True)


_SCHEMES = ("http", "https", "mailto", "tel")
"""The schemes of links. Others may start a program, or run a script."""


@cache
def _markdown() -> Any:
    """A parser that escapes raw HTML, shows images as links, highlights code, and sets rel on links."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "highlight": _highlighted}).enable(["table", "strikethrough"])

    def validate_link(url: str) -> bool:
        return url.strip().partition(":")[0].lower() in _SCHEMES if ":" in url else not url.startswith("//")

    parser.validateLink = validate_link  # type: ignore[method-assign]

    def image(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        source = _safe(str(tokens[index].attrGet("src") or ""))
        return f'<a href="{source}" rel="noreferrer noopener">[image: {_safe(tokens[index].content)}]</a>'

    def link(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        tokens[index].attrSet("rel", "noreferrer noopener")
        return str(self.renderToken(tokens, index, options, env))

    parser.add_render_rule("image", image)
    parser.add_render_rule("link_open", link)
    return parser


def _highlighted(code: str, language: str, attributes: str) -> str:
    """Highlighted code. Empty for an unknown language: markdown-it then escapes the code itself."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return ""
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def _code_style() -> str:
    """The colors of highlighted code for light and dark, without backgrounds."""
    from pygments.formatters import HtmlFormatter

    def rules(style: str) -> str:
        lines = str(HtmlFormatter(style=style).get_style_defs("code")).splitlines()  # type: ignore[no-untyped-call]
        return "\n".join(line for line in lines if "background" not in line and line.startswith("code ."))

    return f"{rules('default')}\n@media (prefers-color-scheme: dark) {{\n{rules('native')}\n}}"


FORMAT = Format("html", ".html", write)
