"""The real program in a pseudo-terminal. All of its output goes through a terminal emulator."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from chatmem.history.records import header
from chatmem.stores import open_store
from tests.conftest import Run
from tests.fakes import wait_until
from tests.server import OK, Server, delta, stream

CTRL_C, CTRL_D = "\x03", "\x04"


class TerminalSession:
    """The program in a terminal: type, wait until something is shown, read the screen."""

    def __init__(
        self, *arguments: str, columns: int = 80, lines: int = 24, program: list[str] | None = None, **env: str
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self.feeder = pyte.ByteStream(self.screen)
        environment = {**os.environ, "TERM": "xterm-256color", **env}
        first, *rest = program or [sys.executable, "-m", "chatmem", *arguments]
        self.process: Any = pexpect.spawn(first, rest, env=environment, dimensions=(lines, columns), timeout=20)
        self.raw = b""

    def type(self, text: str) -> None:
        self.process.send(text)

    def until(self, seen: Callable[[str], bool] | str, seconds: float = 10.0) -> str:
        """Read until something is on the screen or in the scrollback. Fails after `seconds`."""
        found = seen if callable(seen) else lambda text: seen in text
        end = time.monotonic() + seconds
        while not found(self.everything):
            assert time.monotonic() < end, f"never seen: {seen}\n{self.everything}"
            try:
                data = self.process.read_nonblocking(65536, timeout=0.1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert found(self.everything), f"exited, and never seen: {seen}\n{self.everything}"
                break
            self._show(data)
        return self.everything

    def _show(self, data: bytes) -> None:
        """Show output, and answer queries of the cursor's position as a terminal does."""
        self.raw += data
        for part in re.split(rb"(?<=\x1b\[6n)", data):
            self.feeder.feed(part)
            if part.endswith(b"\x1b[6n"):
                self.type(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")

    def wait_for_exit(self) -> int:
        """Wait until the program exits. Returns its exit code, 128 plus the signal if it was killed."""
        try:
            while True:
                data = self.process.read_nonblocking(65536, timeout=20)
                self._show(data)
        except (pexpect.EOF, OSError):
            pass
        self.process.wait()
        return int(self.process.exitstatus if self.process.exitstatus is not None else 128 + self.process.signalstatus)

    @property
    def everything(self) -> str:
        width = self.screen.columns
        history = ["".join(row[x].data for x in range(width)).rstrip() for row in self.screen.history.top]
        return "\n".join([*history, *(row.rstrip() for row in self.screen.display)])


@pytest.fixture
def start() -> Iterator[Callable[..., TerminalSession]]:
    sessions: list[TerminalSession] = []

    def start(*arguments: str, **more: Any) -> TerminalSession:
        sessions.append(TerminalSession("chat", *arguments, **more))
        return sessions[-1]

    yield start
    for session in sessions:
        session.process.close(force=True)


Start = Callable[..., TerminalSession]


class Gate:
    """A server that pauses at a phase of its reply until `go` is set. `paused` is set when it pauses."""

    def __init__(self, server: Server, phase: str) -> None:
        self.paused, self.go = threading.Event(), threading.Event()
        self.phase = phase
        server.answers = [self.answer]

    def answer(self, request: Any, connection: Any) -> None:
        if self.phase == "connecting":
            self.wait()
        connection.sendall(OK)
        if self.phase == "headers":
            self.wait()
        connection.sendall(delta("What arrived. "))
        self.wait()
        connection.sendall(delta("The rest.", "stop"))

    def wait(self) -> None:
        self.paused.set()
        self.go.wait(20)


def messages(run: Run, name: str = "t") -> list[Any]:
    found: list[Any] = json.loads(run("sessions", "show", name, "--json").stdout)["messages"]
    return found


def ready(session: TerminalSession) -> None:
    session.until(lambda text: "Ctrl-D to quit" in text or "Session 't'" in text)
    session.until(lambda text: "\n>" in text)


def in_reply(start: Start, server: Server) -> tuple[Gate, TerminalSession]:
    """A chat in the middle of its first reply, and what lets the reply go on."""
    gate = Gate(server, "streaming")
    one = start("-s", "t")
    ready(one)
    one.type("go\r")
    one.until("What arrived.")
    return gate, one


def test_a_question_is_answered_and_ctrl_d_quits(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("hello\r")
    one.until("last: hello")
    one.type(CTRL_D)
    one.until("chatmem chat -s t")
    assert one.wait_for_exit() == 0


@pytest.mark.parametrize("phase", ["connecting", "headers", "streaming"])
def test_ctrl_c_stops_the_reply_and_stores_what_arrived(start: Start, server: Server, run: Run, phase: str) -> None:
    gate = Gate(server, phase)
    one = start("-s", "t")
    ready(one)
    one.type("stop me\r")
    assert gate.paused.wait(20)
    if phase == "streaming":
        one.until("What arrived.")
    one.type(CTRL_C)
    one.until("Stopped.")
    gate.go.set()
    one.type("next\r")
    one.until("last: next")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0
    stored = [(m["role"], m["status"]) for m in messages(run)]
    draft = [("assistant", "interrupted")] if phase == "streaming" else []
    assert stored == [("user", None), *draft, ("user", None), ("assistant", "complete")]


def test_input_typed_during_a_reply_waits_for_the_prompt(start: Start, server: Server) -> None:
    gate = Gate(server, "streaming")
    one = start("-s", "t")
    ready(one)
    one.type("first\r")
    one.until("What arrived.")
    one.type("second\r")
    gate.go.set()
    one.until("last: second")
    assert "second" not in one.everything.partition("The rest.")[0]


def asked(server: Server) -> list[str]:
    return [call["messages"][-1]["content"] for call in server.chats]


def test_lines_typed_before_the_prompt_are_sent_one_by_one_in_order(start: Start, server: Server) -> None:
    one = start("-s", "t")
    one.type("first\rsecond\r\x1b[200~a\rpaste\x1b[201~\r/title typed ahead\r")
    one.until("Title: typed ahead")
    assert asked(server) == ["first", "second", "a\npaste"]
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_lines_typed_during_a_slash_command_are_sent_one_by_one(start: Start, server: Server, home: Path) -> None:
    running, go = home / "running", home / "go"
    editor = home / "editor"
    editor.write_text(f"#!/bin/sh\ntouch {running}\nwhile [ ! -e {go} ]; do sleep 0.01; done\n")
    editor.chmod(0o700)
    one = start("-s", "t", VISUAL=str(editor))
    ready(one)
    one.type("hello\r")
    one.until("last: hello")
    one.type("/edit\r")
    wait_until(running.exists)
    one.type("/title one\rtwo\r")
    go.touch()
    one.until("last: two")
    assert asked(server) == ["hello", "two"] and "Title: one" in one.everything


def test_ctrl_c_puts_what_was_typed_ahead_back_into_the_prompt(start: Start, server: Server) -> None:
    gate = Gate(server, "streaming")
    one = start("-s", "t")
    ready(one)
    one.type("stop me\r")
    one.until("What arrived.")
    one.type("not yet\rnor this" + CTRL_C)
    one.until("nor this")
    gate.go.set()
    assert asked(server) == ["stop me"]
    one.type(" but now\r")
    one.until("last: not yet")
    assert asked(server)[1:] == ["not yet\nnor this but now"]


def test_what_was_typed_ahead_does_not_answer_a_question_of_the_program(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("the blue whale\r")
    one.until("last: the blue whale")
    one.type("/forget whale\ryes\r")
    one.until("Forget this?")
    one.type("n\r")
    one.until("last: yes")
    assert "Nothing was changed." in one.everything


def test_what_is_typed_during_a_reply_is_shown_below_it_until_the_prompt_is_back(start: Start, server: Server) -> None:
    gate, one = in_reply(start, server)
    one.type("second\rthirx\x7fd\x1b[D")
    one.until("> second⏎ third")
    gate.go.set()
    one.until("last: second")
    one.until("\n> third")
    assert "⏎" not in one.everything


def test_a_resumed_session_shows_its_last_reply_as_markdown(start: Start, server: Server) -> None:
    server.answers = [stream("A **bold** word.\n\n```python\nprint(1)\n```\n")]
    one = start("-s", "t")
    ready(one)
    one.type("go\r")
    one.until("print(1)")
    one.type(CTRL_D)
    one.wait_for_exit()
    two = start("-s", "t")
    two.until("── 1 · python")
    assert "A bold word." in two.everything and "> go" in two.everything and two.everything.count("print(1)") == 1
    two.type("next\r")
    two.until("last: next")


def test_a_long_last_reply_shows_its_end(start: Start, server: Server) -> None:
    server.answers = [stream("\n\n".join(f"paragraph {number}" for number in range(90)))]
    one = start("-s", "t")
    ready(one)
    one.type("go\r")
    one.until("paragraph 89")
    one.type(CTRL_D)
    one.wait_for_exit()
    two = start("-s", "t")
    two.until("paragraph 89")
    assert "…" in two.everything and "paragraph 50" not in two.everything


def test_enter_takes_the_model_that_the_menu_offers(start: Start, server: Server) -> None:
    server.models = [{"id": name} for name in ("alpha-1", "beta-2", "gamma-3")]
    one = start("-s", "t")
    ready(one)
    one.type("go\r")
    one.until("last: go")
    one.type("\x18m")
    one.until("beta-2")
    one.type("\x1b[B\x1b[B\r")
    one.until(lambda text: "Model: " in text)
    first = re.findall(r"Model: (\S+),", one.everything)[-1]
    one.type("\x18mbeta")
    one.until("/model beta")
    one.until(lambda text: "beta-2" in text.rpartition("/model beta")[2])
    one.type("\r")
    one.until("Model: beta-2")
    assert first != "beta"


def test_a_paste_of_three_lines_is_one_message(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("\x1b[200~one\r/exit\rthree\x1b[201~")
    one.until("three")
    one.type("\r")
    one.until("messages; last:")
    assert [c["messages"][-1]["content"] for c in server.chats] == ["one\n/exit\nthree"]


def test_a_long_paste_shows_its_number_of_lines_and_is_sent_completely(start: Start, server: Server) -> None:
    text = "\n".join(f"line {n} " + "x" * 60 for n in range(48))
    one = start("-s", "t")
    ready(one)
    one.type(f"Look: \x1b[200~{text}\x1b[201~ thanks")
    one.until("[pasted 48 lines] thanks")
    one.type("\r")
    one.until("messages; last:")
    assert server.chats[0]["messages"][-1]["content"] == f"Look: {text} thanks"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_during_a_reply_stores_it_and_exits(
    start: Start, server: Server, run: Run, sent: signal.Signals, code: int
) -> None:
    gate, one = in_reply(start, server)
    one.process.kill(sent)
    assert one.wait_for_exit() == code
    gate.go.set()
    assert [(m["content"], m["status"]) for m in messages(run)][1] == ("What arrived. ", "interrupted")


def test_a_terminal_that_is_closed_during_a_reply_loses_nothing(start: Start, server: Server, run: Run) -> None:
    gate, one = in_reply(start, server)
    one.process.close(force=False)
    gate.go.set()
    wait_until(lambda: not one.process.isalive())
    assert messages(run)[1]["content"].startswith("What arrived.")


def test_a_resize_during_a_reply_is_handled(start: Start, server: Server) -> None:
    gate, one = in_reply(start, server)
    for columns in (40, 100, 20, 80):
        one.process.setwinsize(24, columns)
        one.screen.resize(24, columns)
    gate.go.set()
    one.until("The rest.")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_suspend_and_resume_at_the_prompt(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.process.kill(signal.SIGSTOP)
    one.process.kill(signal.SIGCONT)
    one.type("after\r")
    one.until("last: after")


def test_ctrl_z_suspends_a_reply_and_fg_resumes_it(server: Server) -> None:
    gate = Gate(server, "open paragraph")
    one = TerminalSession(program=["bash", "--norc", "-i"], PS1="shell> ")
    one.until("shell>")
    one.type(f"{sys.executable} -m chatmem chat -s t\r")
    ready(one)
    one.type("go\r")
    one.until("What arrived")
    one.type("\x1a")
    one.until("Stopped")
    one.type("echo bet''ween\r")
    one.until("between")
    one.type("fg\r")
    one.until(lambda text: "What arrived" in text.rpartition("fg")[2])
    gate.go.set()
    one.until("The rest.")
    one.type("typed afterwards\r")
    one.until("> typed afterwards")
    everything = one.everything
    for line in ("Stopped", "\nbetween", "What arrived. The rest."):
        assert everything.count(line) == 1, everything
    assert everything.count("What arrived") == 1, everything
    one.process.close(force=True)


@pytest.mark.parametrize(
    "env",
    [{"TERM": "dumb"}, {"TERM": ""}, {"NO_COLOR": "1"}, {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}],
)
def test_simple_terminals_work(start: Start, server: Server, env: dict[str, str]) -> None:
    one = start("-s", "t", **env)
    ready(one)
    one.type("hello\r")
    one.until("last: hello")
    if "NO_COLOR" in env:
        assert b"\x1b[31m" not in one.raw and b"\x1b[36m" not in one.raw
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_a_dumb_terminal_edits_lines_itself(start: Start, server: Server) -> None:
    one = start("-s", "t", TERM="dumb")
    one.until("\n>")
    one.type("hellp\x7fo\r")
    one.until("last: hello")
    one.type("\x04")
    assert one.wait_for_exit() == 0


def test_waiting_is_shown_after_a_while_and_erased(start: Start, server: Server) -> None:
    gate = Gate(server, "headers")
    one = start("-s", "t")
    ready(one)
    one.type("go\r")
    one.until(" 2 s, Ctrl-C stops", 20)
    gate.go.set()
    one.until("The rest.")
    assert "Ctrl-C stops" not in one.everything and one.everything.count("What arrived. The rest.") == 1


@pytest.mark.parametrize("columns", [1, 5, 12, 20])
def test_narrow_terminals_work(start: Start, server: Server, columns: int) -> None:
    one = start("-s", "t", columns=columns)
    one.until(lambda text: b"\x1b[?2004h" in one.raw)
    one.type("hi\r")
    one.until(lambda text: len(server.chats) == 1)
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_control_sequences_in_a_reply_do_not_reach_the_terminal(start: Start, server: Server) -> None:
    from tests.server import event
    from tests.terminal.test_sanitize import PAYLOADS

    hostile = "".join(PAYLOADS)
    server.otherwise = lambda request: (
        OK + event({"choices": [{"delta": {"content": f"{hostile}\n\nend of it"}, "finish_reason": "stop"}]})
    )
    one = start("-s", "t")
    ready(one)
    one.type("attack\r")
    one.until("end of it")
    for bad in (
        b"\x1b]52",
        b"\x1b]8;",
        b"\x1b]0;",
        b"\x1bP+q",
        b"\x1b[?1049h",
        b"\x1bc",
        "\x9b".encode(),
        "\u202e".encode(),
        b"\x07",
    ):
        assert bad not in one.raw
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_captions_are_dimmed_and_no_escape_code_is_shown_as_text(run: Run, server: Server) -> None:
    run("ask", "hello there", "-s", "t")
    for arguments in (["sessions", "search", "hello"], ["sessions", "show", "t"], ["sessions", "show", "t", "--tree"]):
        one = TerminalSession(program=[sys.executable, "-m", "chatmem", *arguments])
        assert one.wait_for_exit() == 0
        assert "hello there" in one.everything and "^[" not in one.everything and "[2m" not in one.everything


def test_long_tasks_show_progress_and_erase_it(home: Path) -> None:
    store = open_store("file", home / "data")
    old = {"type": "message", "id": "m", "parent": None, "role": "user", "content": "x", "time": "2020-01-01T00:00:00Z"}
    for number in range(40):
        store.open(f"old {number}", [header("x"), old]).close()
    (home / "data" / "sessions.index.sqlite").unlink()
    for arguments, task in (
        (["sessions", "list", "-n", "1"], b"Indexing"),
        (["doctor", "--fix"], b"Indexing"),
        (["sessions", "prune", "--older-than", "1y", "-y"], b"Deleting"),
    ):
        one = TerminalSession(program=[sys.executable, "-m", "chatmem", *arguments])
        one.wait_for_exit()
        assert task in one.raw and task.decode() not in one.everything
    assert store.names() == []


def test_focus_is_reported_during_a_reply_only_and_the_terminal_is_left_as_it_was(start: Start, server: Server) -> None:
    gate = Gate(server, "streaming")
    one = start("-s", "t")
    ready(one)
    assert b"\x1b[?1004h" not in one.raw
    one.type("go\r")
    one.until("What arrived.")
    assert one.raw.count(b"\x1b[?1004h") == 1 and b"\x1b[?1004l" not in one.raw
    one.type("\x1b[Ota\x1b[Iken\r")
    gate.go.set()
    one.until("last: taken")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0
    assert one.raw.count(b"\x1b[?1004l") == one.raw.count(b"\x1b[?1004h") and one.raw.rstrip().endswith(b"\x1b[?2004l")


def test_a_prompt_stands_right_below_the_reply_and_the_toolbar_right_below_the_prompt(
    start: Start, server: Server
) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("hello\r")
    one.until("last: hello")
    one.until(lambda text: text.rstrip().rpartition("\n")[2].startswith("t · test-model"))
    rows = one.everything.rstrip().split("\n")
    assert [row.partition(" ")[0] for row in rows[-5:]] == [">", "1", "", ">", "t"]
    one.type("/")
    one.until("/retry")
    one.type("\x7f")
    one.until(lambda text: "/retry" not in text)
    one.until(lambda text: text.rstrip().split("\n")[-2:][0] == ">")
