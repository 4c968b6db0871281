"""A reply on its way to the reader: as text into a pipe, as Markdown on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from chatmem.models.base import Piece
from chatmem.screen.terminal import NARROWEST, Terminal, is_tty

_IMPORTING = threading.Lock()
"""Rich's modules know one another: two threads that import them at once may each find the other's half done."""


def warm() -> None:
    """Import what shows Markdown, and the lexer of the commonest code, before a reply waits for it."""
    with _IMPORTING:
        from chatmem.screen.page import Renderer

        Renderer(80).whole("```python\npass\n```")


def print_reply(terminal: Terminal, pieces: Iterable[Piece]) -> str:
    """Show a reply while it arrives, and return its text. Notices go beside it."""
    if terminal.interactive and terminal.width >= NARROWEST:
        with _IMPORTING:  # Rich's Markdown comes with it, and only when it is needed
            from chatmem.screen.markdown import MarkdownStream

        over, afterwards = False, []
        with MarkdownStream(terminal) as stream:
            for piece in _watched(terminal, pieces):
                over = over or piece.finish is not None
                if piece.notice and over:
                    afterwards.append(piece.notice)
                elif piece.notice:
                    stream.note(piece.notice)
                stream.feed(piece.text, piece.reasoning)
        for line in afterwards:
            terminal.note(line)
        return stream.text
    text = ""
    safe = is_tty(terminal.out)
    try:
        for piece in _watched(terminal, pieces):
            if piece.notice:
                terminal.note(piece.notice)
            if piece.text:
                text += piece.text
                terminal.answer(piece.text, end="") if safe else terminal.raw(piece.text)
    finally:
        if text and not text.endswith("\n"):
            terminal.raw("\n")
    return text


_ENDED = {
    "length": "The reply ended at its token limit; /set max_tokens raises it.",
    "filtered": "The server's content filter ended the reply.",
}


def _watched(terminal: Terminal, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, and a line at the end where the server says that something is missing."""
    ended = None
    for piece in pieces:
        ended = piece.finish or ended
        yield piece
    if ended in _ENDED:
        yield Piece(notice=_ENDED[ended])
