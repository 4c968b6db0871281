"""The session picker and the context screen, played in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import header
from chatmem.stores import open_store
from tests.conftest import Run
from tests.repl.test_pty import CTRL_C, CTRL_D, TerminalSession
from tests.server import Server

UP, DOWN, DELETE, F2, TAB, ESCAPE, CTRL_Z = "\x1b[A", "\x1b[B", "\x1b[3~", "\x1bOQ", "\t", "\x1b", "\x1a"
Screen = Callable[..., TerminalSession]


@pytest.fixture
def screen() -> Iterator[Screen]:
    """Starts the program with any arguments in a terminal."""
    sessions: list[TerminalSession] = []

    def start(*arguments: str, **more: Any) -> TerminalSession:
        sessions.append(TerminalSession(*arguments, **more))
        return sessions[-1]

    yield start
    for session in sessions:
        session.process.close(force=True)


def begin(home: Path, name: str, *texts: str, day: int = 1, settings: dict[str, Any] | None = None) -> None:
    records: list[dict[str, Any]] = [header(name), *([{"type": "settings", **settings}] if settings else [])]
    for number, text in enumerate(texts):
        record = {"id": f"m{number}", "parent": f"m{number - 1}" if number else None, "content": text}
        role = {"role": ("user", "assistant")[number % 2], "time": f"2026-05-{day:02}T10:00:00Z"}
        records.append({"type": "message", **record, **role, **({"status": "complete"} if number % 2 else {})})
    open_store("file", home / "data").open(name, records).close()


@pytest.fixture
def three(home: Path, server: Server) -> None:
    begin(home, "boat", "Which boat is red?", "The small one.", day=3)
    begin(home, "visa", "Where do I get a visa?", "At the embassy of Japan.", day=2)
    begin(home, "garden", "What grows in the shade?", "Ferns and hostas.", day=1)


def shown(session: TerminalSession) -> str:
    return "\n".join(row.rstrip() for row in session.screen.display)


@pytest.mark.usefixtures("three")
def test_chatmem_alone_lists_the_sessions_newest_first_and_enter_opens_one(screen: Screen) -> None:
    one = screen()
    one.until("3 of 3")
    names = re.findall(r"^ (boat|visa|garden) ", shown(one), re.MULTILINE)
    assert names == ["boat", "visa", "garden"]
    one.until("The small one.")  # the preview
    one.type(DOWN + "\r")
    one.until("Session 'visa'")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("typed", "found"), [("gar", "garden"), ("vsa", "visa"), ("shade", "garden"), ("ferns", "garden")]
)
def test_the_picker_finds_sessions_by_name_title_and_text(screen: Screen, typed: str, found: str) -> None:
    one = screen()
    one.until("3 of 3")
    one.type(typed)
    one.until(lambda _: "1 of 3" in shown(one) and f" {found} " in shown(one))
    one.type("\r")
    one.until(f"Session '{found}'")


@pytest.mark.usefixtures("three")
def test_sessions_are_renamed_deleted_and_restored_in_the_picker(screen: Screen, run: Run) -> None:
    one = screen()
    one.until("3 of 3")
    one.type(F2)
    one.until("New name: boat")
    one.type("s\r")
    one.until(lambda _: " boats " in shown(one))
    one.type(DOWN + DELETE)
    one.until("Delete 'visa'?")
    one.type("n" + DELETE + "y")
    one.until(lambda _: "2 of 2" in shown(one))
    listed = json.loads(run("sessions", "list", "--json").stdout)
    assert [session["name"] for session in listed] == ["boats", "garden"]
    one.type(CTRL_Z)
    one.until("Restored 'visa'.")
    one.type(DOWN + F2 + "\x15boats\r")  # a name that is taken
    one.until("already a session 'boats'.")
    one.type("2\r")  # the name can be corrected
    one.until(lambda _: " boats2 " in shown(one))
    one.type(CTRL_C)
    assert one.wait_for_exit() == 0
    assert len(json.loads(run("sessions", "list", "--json").stdout)) == 3


@pytest.mark.usefixtures("three")
def test_a_session_that_was_removed_elsewhere_leaves_the_list_and_is_not_created_again(
    screen: Screen, run: Run
) -> None:
    one = screen()
    one.until("3 of 3")
    run("sessions", "delete", "boat", "--yes")
    one.type("\r")
    one.until("'boat' not found")
    one.until(lambda _: "2 of 2" in shown(one))
    run("sessions", "delete", "garden", "--yes")
    one.type(DOWN + TAB)
    one.until("'garden' not found")
    one.until(lambda _: "1 of 1" in shown(one))
    one.type("\r")
    one.until("Session 'visa'")
    assert [session["name"] for session in json.loads(run("sessions", "list", "--json").stdout)] == ["visa"]


@pytest.mark.usefixtures("three")
def test_a_restoration_that_failed_can_be_repeated_in_the_picker(screen: Screen, home: Path, run: Run) -> None:
    one = screen()
    one.until("3 of 3")
    one.type(DELETE + "y")
    one.until("Ctrl-Z restores it")
    begin(home, "boat", "another one")
    one.type(CTRL_Z)
    one.until("already a session")
    run("sessions", "delete", "boat", "--purge", "--yes")
    one.type(CTRL_Z)
    one.until("Restored 'boat'.")


def test_tab_shows_branches_and_enter_continues_one(screen: Screen, run: Run, server: Server) -> None:
    run("chat", "-s", "tree", input="first question\n")
    chat = screen("chat", "-s", "tree")
    chat.until("\n>")
    chat.type("/clear\rother question\r")
    chat.until("last: other question")
    chat.type("/open\r")
    chat.until("1 of 1")
    chat.type(TAB)
    chat.until(lambda _: "● other question" in shown(chat) and "○ first question" in shown(chat))
    is_below = shown(chat).index("○ first") > shown(chat).index("● other")
    chat.type(DOWN * is_below + "\r")
    chat.until("> first question")
    chat.type("and now?\r")
    chat.until("last: and now?")
    assert [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"] == ["first question", "and now?"]


@pytest.mark.usefixtures("three")
def test_ctrl_o_asks_what_was_typed_in_a_new_session(screen: Screen, run: Run, server: Server) -> None:
    one = screen()
    one.until("Ctrl-O new")
    one.type("red boats?")
    one.until("Ctrl-O asks this in a new one")
    one.type("\x0f")
    one.until("last: red boats?")
    one.type("/open\r")
    one.until("of 4")
    one.type("nothing has this")
    one.until("Enter asks it in a new one")
    one.type("\r")
    one.until("last: nothing has this")
    assert len(json.loads(run("sessions", "list", "--json").stdout)) == 5


@pytest.mark.usefixtures("server")
def test_sessions_found_by_name_come_first_and_the_preview_shows_what_was_found(screen: Screen, home: Path) -> None:
    long = "word " * 100 + "a quite hidden Xanadu here.\nand the line after it"
    begin(home, "older", "xanadu trip?", "yes", day=1)
    begin(home, "newer", "a question", long, "another question", "the last reply", day=2)
    one = screen()
    one.until("2 of 2")
    one.type("xanadu")
    one.until(lambda _: "2 of 2" in shown(one) and shown(one).index(" older ") < shown(one).index(" newer "))
    one.type(DOWN)
    one.until(lambda _: "turn 1 · assistant" in shown(one) and "and the line after it" in shown(one))
    assert "the last reply" not in shown(one)


def test_escape_leaves_the_picker_and_without_sessions_a_chat_starts(
    screen: Screen, home: Path, server: Server
) -> None:
    one = screen()
    one.until("Ctrl-D to quit")
    one.type("hello\r")
    one.until("last: hello")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0
    two = screen()
    two.until("1 of 1")
    two.type(ESCAPE)
    assert two.wait_for_exit() == 0


def test_chatmem_without_a_terminal_prints_help_and_exits_2(run: Run) -> None:
    done = run()
    assert done.returncode == 2 and "Usage: chatmem" in done.stdout + done.stderr


@pytest.mark.parametrize(("columns", "lines"), [(40, 20), (80, 24), (120, 40)])
def test_the_screens_fit_into_terminals_of_any_size(
    screen: Screen, home: Path, server: Server, columns: int, lines: int
) -> None:
    begin(home, "日本語 session", *(f"很长的问题 with words {n} \u202e\x1b[31m" for n in range(40)))
    for arguments, seen in ((), "of 1"), (("context", "-i"), "Question:"):
        one = screen(*arguments, columns=columns, lines=lines)
        one.until(seen)
        one.type(DOWN + UP)
        one.until("Esc leaves" if not arguments else "Space pins")
        assert "\u202e" not in shown(one) and "\x1b[31m" not in shown(one)
        one.type(ESCAPE)
        assert one.wait_for_exit() == 0


def flags(run: Run, name: str) -> list[tuple[bool, bool]]:
    decisions = json.loads(run("context", name, "--json").stdout)["decisions"]
    return [(d["decision"] == "pinned", d["decision"] == "excluded") for d in decisions if d["role"] == "user"]


def test_the_context_screen_pins_excludes_and_undoes_with_the_change_of_the_budget(
    screen: Screen, home: Path, run: Run, server: Server
) -> None:
    texts = [f"turn {n // 2 + 1} " + "word " * 40 for n in range(24)]
    begin(home, "long", *texts, settings={"memory": {"strategy": "window", "turns": 2}})
    one = screen("context", "-i", "long")
    one.until("1–10")
    one.type("\x1b[5~" + "\r")  # to the first row, which is the run of turns that are left out; expand it
    one.until(lambda _: bool(re.search(r"○ +3 ", shown(one))))
    one.type(DOWN * 3 + " ")
    one.until(lambda _: "Turn 3 is pinned: +" in shown(one))
    one.type(DOWN * 10 + "x")
    one.until("Turn 12 is excluded:")
    assert [n for n, (pinned, _) in enumerate(flags(run, "long"), 1) if pinned] == [3]
    assert [n for n, (_, excluded) in enumerate(flags(run, "long"), 1) if excluded] == [12]
    one.type("uu")
    one.until("Turn 3 is not pinned: -")
    assert not any(any(pair) for pair in flags(run, "long"))
    one.type("u")
    one.until("Nothing to undo.")
    one.type("?")
    one.until("expands a run of turns")
    one.type("q")
    assert one.wait_for_exit() == 0


def test_a_question_typed_in_the_context_screen_shows_what_is_retrieved_for_it(
    screen: Screen, home: Path, server: Server
) -> None:
    texts = ["The walrus lives at the pier.", "Noted."] + [f"filler {n} " * 30 for n in range(40)]
    begin(home, "long", *texts, settings={"memory": {"strategy": "summary", "max_tokens": 1000}})
    one = screen("chat", "-s", "long")
    one.until("\n>")
    one.type("/context\r")
    one.until("Question:")
    one.type(TAB + "Where is the walrus?")
    one.until(lambda _: "R recalled" in shown(one))
    one.type("\r" + "\x1b[5~" * 3)
    one.until(lambda _: "found for this question" in shown(one))
    one.type("q")
    one.until(lambda _: "\n>" in shown(one))


def test_the_summary_is_edited_from_the_context_screen(screen: Screen, home: Path, run: Run, server: Server) -> None:
    editor = home / "editor"
    editor.write_text("#!/bin/sh\necho 'Likes walruses.' > $1\n")
    editor.chmod(0o700)
    begin(
        home,
        "long",
        *(f"text {n} " * 30 for n in range(20)),
        settings={"memory": {"strategy": "summary", "max_tokens": 800}},
    )
    store = open_store("file", home / "data")
    log = store.open("long")
    with log.exclusive():
        log.read()
        record = {"type": "summary", "id": "s", "from": "m0", "to": "m11", "text": "Likes seals.", "model": "m"}
        log.append([record])
    log.close()
    one = screen("context", "-i", "long", EDITOR=str(editor), VISUAL=str(editor))
    one.until("Question:")
    one.type("s")
    one.until("The summary was changed:")
    one.type("q")
    assert one.wait_for_exit() == 0
    assert "Likes walruses." in run("context", "long", "--json").stdout


def test_an_interactive_context_needs_a_terminal(run: Run, home: Path, server: Server) -> None:
    begin(home, "a", "hello", "hi")
    done = run("context", "-i", "a")
    assert done.returncode == 2 and "needs a terminal" in done.stderr


def test_the_plain_theme_lists_and_asks_instead_of_drawing_screens(
    screen: Screen, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(home, "boat", "Which boat?", "The **red** one.\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    (home / "config.toml").open("a").write('\n[screen]\ntheme = "plain"\n')
    one = screen()
    one.until("Open which one")
    one.type("1\r")
    one.until("Session 'boat'")
    one.type("hello\r")
    one.until("3 messages")
    one.type("/context\r")
    one.until("tokens, sent verbatim: hello")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0
    drawn = one.raw.decode("utf-8", "replace")
    assert not re.search("[\u2500-\u25ff\u2800-\u28ff]", drawn) and "\x1b[3" not in drawn and "\x1b[?1049h" not in drawn


@pytest.mark.usefixtures("three")
def test_keys_open_the_picker_and_the_context_and_what_was_typed_stays(screen: Screen, server: Server) -> None:
    one = screen("chat", "-s", "new")
    one.until("\n>")
    one.type("half a question\x18o")
    one.until("3 of 3")
    one.type(ESCAPE)
    one.until(lambda _: shown(one).rstrip().split("\n")[-2:][0] == "> half a question")
    one.type("\x18c")
    one.until("Space pins")
    one.type("q")
    one.until(lambda _: shown(one).rstrip().split("\n")[-2:][0] == "> half a question")
    one.type("\r")
    one.until("last: half a question")
    one.type("\x18m")
    one.until("> /model")
    one.until("offline")
    one.type(CTRL_C + "\x18u")
    one.until("Removed turn 1")
    one.type(", completed\r")
    one.until("last: half a question, completed")
    assert [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"] == ["half a question, completed"]


@pytest.mark.usefixtures("three")
def test_the_session_that_is_open_cannot_be_deleted_in_the_picker(screen: Screen, home: Path, server: Server) -> None:
    one = screen("chat", "-s", "visa")
    one.until("\n>")
    one.type("/open\r")
    one.until("of 3")
    one.type("visa" + DELETE)
    one.until("This session is open here.")
    one.type("x" + ESCAPE)
    one.until(lambda _: "\n>" in shown(one))
    assert json.loads((home / "data" / "sessions" / "visa.jsonl").read_text().splitlines()[0])["name"] == "visa"


def test_what_is_deleted_is_what_was_asked_about_even_if_the_list_changes(home: Path) -> None:
    from chatmem.repl.picker import SessionPicker
    from chatmem.terminal.terminal import Terminal

    for name in ("keep", "drop"):
        begin(home, name, "hello", "hi", day=1 if name == "keep" else 2)
    store = open_store("file", home / "data")
    picker = SessionPicker(store, Terminal())
    assert [session.name for session in picker.shown] == ["drop", "keep"]
    picker._chosen = picker._selected()
    picker.mode, picker.message = "delete", "Delete 'drop'?"
    picker.sessions = picker.sessions[::-1]
    picker._filter()
    assert picker.message == "Delete 'drop'?"
    picker._delete()
    assert store.names() == ["keep"]
