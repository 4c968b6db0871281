"""Control characters from elsewhere reach the program in many ways, and the terminal in none."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import header, utc_now
from chatmem.stores.file.store import FileStore
from tests.conftest import RecordProperty
from tests.server import Server, status, stream
from tests.terminal.test_sanitize import CONTROL, OURS, PAYLOADS

pytestmark = [pytest.mark.claim("hostile text: control sequences let through"), pytest.mark.no_cover]

PROGRESS = re.compile(r"\x1b\[2K|\x1b\[\?25[lh]")
"""The control sequences of a progress bar."""
HOSTILE = [f"before {payload} after" for payload in PAYLOADS]


def screen(*arguments: str, env: dict[str, str] | None = None) -> str:
    """What the program writes to a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatmem", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm-256color", "PAGER": "cat", **(env or {})},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # the terminal is closed
            break
        if not block:
            break
        shown += block
    os.close(parent)
    assert process.wait(60) in (0, 2, 3, 9), shown
    return shown.decode("utf-8", "surrogateescape")


def session(home: Path, name: str, *records: dict[str, Any]) -> None:
    store = FileStore(home / "data" / "sessions")
    store.open(name, [header(name), *records]).close()


def message(number: int, content: str, **more: Any) -> dict[str, Any]:
    parent = None if number == 0 else f"m{number - 1}"
    role = "assistant" if number % 2 else "user"
    return {
        "type": "message", "id": f"m{number}", "parent": parent, "role": role, "content": content, "time": utc_now(),
    } | more  # fmt: skip


def conversation(home: Path) -> None:
    session(home, "work", *(message(number, text) for number, text in enumerate(HOSTILE)))


def reply(server: Server, home: Path) -> list[str]:
    server.answers = [stream(*(f"{text}\n\n" for text in HOSTILE))]
    return [screen("ask", "hi")]


def code(server: Server, home: Path) -> list[str]:
    server.answers = [stream(*(f"```{text}\n{text}\n```\n" for text in HOSTILE))]
    return [screen("ask", "hi")]


def error(server: Server, home: Path) -> list[str]:
    server.answers = [status(400, {"error": {"message": text}}) for text in HOSTILE]
    return [screen("ask", "hi") for _ in HOSTILE]


def models(server: Server, home: Path) -> list[str]:
    server.models = [{"id": text, "owned_by": text, "context_window": text} for text in HOSTILE]
    return [screen("models")]


def titles(server: Server, home: Path) -> list[str]:
    for number, text in enumerate(HOSTILE):
        session(home, f"s{number}", {"type": "settings", "title": text, "model": text}, message(0, text))
    return [screen("sessions", "list")]


def shown(server: Server, home: Path) -> list[str]:
    conversation(home)
    return [screen("sessions", "show", "work")]


def tree(server: Server, home: Path) -> list[str]:
    conversation(home)
    return [screen("sessions", "show", "work", "--tree")]


def found(server: Server, home: Path) -> list[str]:
    conversation(home)
    return [screen("sessions", "search", "before")]


def context(server: Server, home: Path) -> list[str]:
    conversation(home)
    return [screen("context", "work", "--ask", "before")]


def as_json(server: Server, home: Path) -> list[str]:
    conversation(home)
    return [screen("sessions", "show", "work", "--json")]


def statistics(server: Server, home: Path) -> list[str]:
    records = [message(n, "text", model=text, status="complete") for n, text in enumerate(HOSTILE)]
    session(home, "work", *records)
    return [screen("sessions", "stats")]


def imported(server: Server, home: Path) -> list[str]:
    time = "2025-01-01T00:00:00Z"
    said = [{"uuid": f"m{n}", "sender": "human", "text": text, "created_at": time} for n, text in enumerate(HOSTILE)]
    found = [
        {"uuid": f"c{n}", "name": text, "created_at": time, "chat_messages": said} for n, text in enumerate(HOSTILE)
    ]
    (home / "conversations.json").write_text(json.dumps(found))
    return [screen("import", str(home / "conversations.json")), screen("sessions", "list")]


def configured(server: Server, home: Path) -> list[str]:
    shown = []
    for text in HOSTILE:
        (home / "config.toml").write_text(json.dumps(text, ensure_ascii=True).replace("\\ud800", "x") + " = 1\n")
        shown.append(screen("config", "show"))
    return shown


def named(server: Server, home: Path) -> list[str]:
    usable = [text for text in HOSTILE if "\0" not in text and "\ud800" not in text]
    return [screen("sessions", "show", text) for text in usable]


WAYS: dict[str, Callable[[Server, Path], list[str]]] = {
    "reply": reply, "code": code, "error": error, "models": models, "titles": titles, "shown": shown, "tree": tree,
    "found": found, "context": context, "json": as_json, "statistics": statistics, "imported": imported,
    "configured": configured, "named": named,
}  # fmt: skip
SHORT = ("reply", "titles", "shown", "models", "json")
"""The ways that every run tries."""


def check_way(way: str, server: Server, home: Path) -> None:
    screens = WAYS[way](server, home)
    assert "before" in "".join(screens) or way == "statistics"
    for text in screens:
        assert not CONTROL.search(OURS.sub("", PROGRESS.sub("", text))), repr(text)
        assert not re.search("[\ue000-\ue0ff]|[\udc80-\udcff]", text), "bytes that are not UTF-8"


@pytest.mark.parametrize("way", SHORT)
def test_no_control_sequence_reaches_the_terminal_through(
    way: str, server: Server, home: Path, record_property: RecordProperty
) -> None:
    record_property("cases", len(HOSTILE))
    check_way(way, server, home)


@pytest.mark.long
@pytest.mark.parametrize("way", [way for way in WAYS if way not in SHORT])
def test_no_control_sequence_reaches_the_terminal_through_any_other_way(
    way: str, server: Server, home: Path, record_property: RecordProperty
) -> None:
    record_property("cases", len(HOSTILE))
    check_way(way, server, home)
