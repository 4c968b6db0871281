"""Printing a reply while it arrives: as text into a pipe, as Markdown on a terminal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from chatmem.errors import Action, Notice
from chatmem.models.base import StreamChunk
from chatmem.terminal.terminal import MIN_WIDTH, Terminal, is_tty

_IMPORTING = threading.Lock()
"""Rich's modules import each other: two threads that import them at once may find one half initialized."""


def preload() -> None:
    """Import what renders Markdown, and the most common lexer. For a background thread."""
    with _IMPORTING:
        from chatmem.terminal.markdown_renderer import MarkdownRenderer

        MarkdownRenderer(80).render("```python\npass\n```")


def print_reply(terminal: Terminal, chunks: Generator[StreamChunk]) -> str:
    """Print a reply while it arrives, and return its text. Notices are printed on stderr."""
    if terminal.interactive and not terminal.plain and terminal.width >= MIN_WIDTH:
        with _IMPORTING:  # imported lazily: slow
            from chatmem.terminal.markdown_stream import MarkdownStream

        ended, late_notices = False, []
        # The reply is closed, and so stored, before the last frame: a slow terminal must not delay that.
        with MarkdownStream(terminal) as stream, contextlib.closing(_with_end_notice(chunks)) as noticed:
            for chunk in noticed:
                ended = ended or chunk.status is not None
                if chunk.notice and ended:
                    late_notices.append(chunk.notice)
                elif chunk.notice:
                    stream.info(terminal.notice_text(chunk.notice))
                stream.feed(chunk.text, chunk.reasoning)
        for notice in late_notices:
            terminal.notice(notice)
        return stream.text
    text = ""
    is_terminal = is_tty(terminal.out)
    try:
        for chunk in _with_end_notice(chunks):
            if chunk.notice:
                terminal.notice(chunk.notice)
            if chunk.text:
                text += chunk.text
                terminal.write(chunk.text, end="") if is_terminal else terminal.raw(chunk.text)
    finally:
        if text and not text.endswith("\n"):
            terminal.raw("\n")
    return text


_END_NOTICES = {
    "length": Notice("The reply ended at its token limit.", Action("set_option", "max_tokens")),
    "filtered": Notice("The server's content filter ended the reply."),
}


def _with_end_notice(chunks: Generator[StreamChunk]) -> Generator[StreamChunk]:
    """The chunks, then a notice if the server ended the reply early."""
    status = None
    with contextlib.closing(chunks):
        for chunk in chunks:
            status = chunk.status or status
            yield chunk
    if status in _END_NOTICES:
        yield StreamChunk(notice=_END_NOTICES[status])
