"""Draw `picture.svg`: a chat and the context of its next question, as a terminal shows them.

Run it from the repository: `python .github/make_picture.py`. The program runs in a pseudo-terminal against a server on
this machine with scripted replies, and the cells of the terminal become text in the picture.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from html import escape
from pathlib import Path

import pyte

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.repl.test_pty import CTRL_D, TerminalSession  # noqa: E402
from tests.server import Request, Server, stream  # noqa: E402

COLUMNS = 88
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 17, 14
BACKGROUND, FOREGROUND, DIM = "#16181d", "#d7dae0", "#8a919e"
COLORS = {
    "black": "#3b4048",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "yellow": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#d7dae0",
    "brightblack": "#8a919e",
}
QUESTIONS = (
    "I fly to Lisbon on 3 May, from Porto. My budget is 900 euros.",
    "Anna joins me. She is allergic to nuts.",
    "Which museums are worth a morning?",
    "Find us a place to eat near the Alfama.",
    "How do I convert euros to dollars in Python?",
)
REPLIES = (
    "Noted: Lisbon on 3 May, from Porto, 900 euros.",
    "I will keep nuts out of every suggestion. " * 12,
    "The tile museum and the coach museum open at ten. " * 20,
    "Try the small places behind the cathedral. " * 20,
    "With a rate in one place:\n\n```python\nRATE = 1.08\n\ndef to_dollars(euros):\n    return euros * RATE\n```\n",
)


def reply(request: Request) -> bytes:
    question = request.json["messages"][-1]["content"].rpartition("\n\n")[2]
    return stream(REPLIES[QUESTIONS.index(question)] if question in QUESTIONS else "Lives in Porto.")


def take_pictures() -> list[pyte.Screen]:
    """The screen after a conversation, and the screen of its context."""
    with tempfile.TemporaryDirectory() as home, Server(otherwise=reply) as server:
        (Path(home) / "config.toml").write_text("context_window = 2048\n")
        env = {
            "HOME": home,
            "CHATMEM_DATA_DIR": home,
            "CHATMEM_CONFIG": f"{home}/config.toml",
            "XDG_STATE_HOME": home,
            "XDG_CACHE_HOME": home,
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "none",
            "CHATMEM_MODEL": "gpt-6-luna",
            "PATH": os.environ["PATH"],
        }
        chat = TerminalSession(
            "chat", "-s", "lisbon", "--memory", "window:2,recall_tokens=200", columns=COLUMNS, lines=17, **env
        )
        chat.until("\n>")
        for number, question in enumerate(QUESTIONS):
            chat.type(question + "\r")
            chat.until(REPLIES[number].split("```")[0].strip()[-30:])
            chat.until(lambda text: text.rstrip().rpartition("\n")[2].startswith("lisbon ·"))
        picture = copy.deepcopy(chat.screen)
        chat.type(CTRL_D)
        chat.wait_for_exit()
        second = TerminalSession("context", "-i", "lisbon", columns=COLUMNS, lines=20, **env)
        second.until("Space pins")
        second.type("\x1b[5~\x1b[B ")  # pin the second turn
        second.until("is pinned")
        second.type("\tFrom where do I fly?")
        second.until("R recalled")
        second.type("\r")
        second.until("q leaves")
        return [picture, second.screen]


def draw(screens: list[pyte.Screen]) -> str:
    """The screens below each other as an SVG picture."""
    width = COLUMNS * CELL_WIDTH + 2 * MARGIN
    parts: list[str] = []
    top = 0.0
    for screen in screens:
        height = screen.lines * CELL_HEIGHT + 2 * MARGIN
        parts.append(f'<rect y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="8" fill="{BACKGROUND}"/>')
        for row in range(screen.lines):
            parts += _row(screen, row, top + MARGIN + row * CELL_HEIGHT)
        top += height + MARGIN
    style = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:14px;white-space:pre"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top - MARGIN:.0f}" style="{style}">',
            "<title>A chat, and the context of its next question</title>",
            *parts,
            "</svg>",
            "",
        ]
    )


def _row(screen: pyte.Screen, row: int, top: float) -> list[str]:
    """The runs of cells of a row that look the same."""
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    parts, start = [], 0
    for column in range(1, len(cells) + 1):
        if column < len(cells) and cells[column]._replace(data="") == cells[start]._replace(data=""):
            continue
        text, cell = "".join(c.data for c in cells[start:column]), cells[start]
        color = COLORS.get(cell.fg, FOREGROUND)
        left = MARGIN + start * CELL_WIDTH
        if cell.reverse:
            size = f'width="{(column - start) * CELL_WIDTH:.1f}" height="{CELL_HEIGHT}"'
            parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{color}"/>')
            color = BACKGROUND
        if text.strip():
            weight = ' font-weight="bold"' if cell.bold else ""
            length = f'textLength="{(column - start) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
            parts.append(
                f'<text x="{left:.1f}" y="{top + 13:.1f}" {length} fill="{color}"{weight}>{escape(text)}</text>'
            )
        start = column
    return parts


if __name__ == "__main__":
    (Path(__file__).parent / "picture.svg").write_text(draw(take_pictures()), encoding="utf-8")
