"""Keys, pastes and signals that arrive at a bad moment, in a real pseudo-terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prompt_toolkit.key_binding import KeyPressEvent

from chatmem.repl.list_view import leave
from tests.conftest import Run
from tests.fakes import wait_until
from tests.repl.test_pty import CTRL_C, Gate, Start, TerminalSession, asked, in_reply, ready, start
from tests.server import Server

__all__ = ["start"]

MODES = "ECHO", "ICANON", "ISIG"
ENDLESS = "n=0; while :; do n=$((n+1)); echo line $n || exit; sleep 0.01; done"


def modes(session: TerminalSession) -> dict[str, bool]:
    """Which local modes of the terminal are on."""
    flags = termios.tcgetattr(session.process.child_fd)[3]
    return {name: bool(flags & getattr(termios, name)) for name in MODES}


def wait_until_held(session: TerminalSession) -> None:
    wait_until(lambda: not modes(session)["ECHO"])


def until_count(session: TerminalSession, text: str, count: int) -> None:
    session.until(lambda shown: shown.count(text) >= count)


def program(path: Path, script: str) -> str:
    """A shell script that is run in place of an editor or a pager."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_a_file_that_a_paste_names_is_not_attached_after_ctrl_c(start: Start, server: Server, home: Path) -> None:
    (home / "secret.txt").write_text("a secret of mine")
    gate, one = in_reply(start, server)
    one.type(f"\x1b[200~see @{home}/secret.txt please\x1b[201~" + CTRL_C)
    one.until("secret.txt please")
    gate.go.set()
    one.type("\r")
    one.until("named in pasted text")
    one.until("last: see")
    assert "a secret of mine" not in asked(server)[-1]


def test_a_long_paste_during_a_reply_is_a_placeholder_after_ctrl_c(start: Start, server: Server) -> None:
    text = "\n".join(f"line {number}" for number in range(48))
    gate, one = in_reply(start, server)
    one.type(f"\x1b[200~{text}\x1b[201~" + CTRL_C)
    one.until("[pasted 48 lines]")
    gate.go.set()
    one.type("\r")
    one.until("messages; last:")
    assert asked(server)[-1] == text


@pytest.mark.parametrize("cut", [0, 4, 9])
def test_a_paste_that_has_not_ended_when_a_reply_ends_stays_one_message(start: Start, server: Server, cut: int) -> None:
    text = "\x1b[200~one\rtwo"
    gate, one = in_reply(start, server)
    one.type(text[: len(text) - cut])
    gate.go.set()
    one.until("The rest.")
    one.until(lambda shown: "\n>" in shown.rpartition("The rest.")[2])
    one.type(text[len(text) - cut :] + " three\x1b[201~")
    one.until("three")
    assert len(server.chats) == 1
    one.type("\r")
    one.until("last: one")
    assert asked(server)[1:] == ["one\ntwo three"]


def test_a_paste_that_ends_while_the_program_asks_does_not_answer(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("the blue whale\r")
    one.until("last: the blue whale")
    one.type("/forget whale\r\x1b[200~a\ry")
    one.until("Forget this?")
    one.type("\ry\r\x1b[201~n\r")
    one.until("Nothing was changed.")
    one.until("> a")
    one.type("\r")
    one.until("last: a")
    assert asked(server)[1:] == ["a\ny\ny\n"]


def test_what_was_typed_before_and_after_an_answer_keeps_its_order(start: Start, server: Server) -> None:
    one = start("-s", "t")
    ready(one)
    one.type("the blue whale\r")
    one.until("last: the blue whale")
    one.type("/forget whale\rfirst\r")
    one.until("Forget this?")
    one.type("n\rsecond\r")
    one.until("last: second")
    assert asked(server)[1:] == ["first", "second"]


def test_ctrl_c_in_an_editor_that_leaves_it_to_the_terminal_keeps_the_draft(
    start: Start, server: Server, home: Path
) -> None:
    script = (
        f"trap 'echo interrupted >> {home}/seen' INT; echo > {home}/up; while [ ! -e {home}/go ]; do sleep 0.02; done"
    )
    one = start("-s", "t", VISUAL=program(home / "editor", script))
    ready(one)
    one.type("my long draft\x18\x05")
    wait_until((home / "up").exists)
    one.type(CTRL_C)
    wait_until((home / "seen").exists)
    (home / "go").touch()
    one.until(lambda text: "> my long draft" in text.rpartition("^C")[2] or text.count("> my long draft") == 1)
    one.type("\r")
    one.until("last: my long draft")


def test_ctrl_c_while_the_pager_is_open_leaves_no_pager_behind(start: Start, server: Server, home: Path) -> None:
    pager = program(home / "pager", f"trap : INT; cat > /dev/null; echo > {home}/up; read line; echo > {home}/left")
    one = start("-s", "t", PAGER=pager, lines=10)
    ready(one)
    for number in range(9):
        one.type(f"hello {number}\r")
        one.until(f"last: hello {number}")
    one.type("/context --all\r")
    wait_until((home / "up").exists)
    one.type(CTRL_C)
    one.type("\r")
    wait_until((home / "left").exists)
    one.type("and now\r")
    one.until("last: and now")
    assert "Stopped" not in one.everything


@pytest.mark.parametrize("keys", ["\x18\x05", "/context -i\rs"], ids=["prompt", "context screen"])
def test_sigterm_while_an_editor_runs_ends_both_and_restores_the_terminal(
    start: Start, server: Server, home: Path, run: Run, keys: str
) -> None:
    editor = program(home / "editor", f"stty raw -echo; echo $$ > {home}/pid; exec sleep 60")
    memory = ["--memory", "summary:500"] if keys.startswith("/") else []
    one = start("-s", "t", *memory, VISUAL=editor)
    before = modes(one)
    ready(one)
    if memory:
        for number in range(12):
            one.type(f"question {number} " + "word " * 60 + "\r")
            one.until(f"last: question {number}")
        one.type("/summarize\r")
        one.until("ummar")
    one.type(keys)
    wait_until((home / "pid").exists)
    one.process.kill(signal.SIGTERM)
    assert one.wait_for_exit() == 143
    wait_until(lambda: not Path(f"/proc/{(home / 'pid').read_text().strip()}").exists())
    assert modes(one) == before


@pytest.mark.usefixtures("server")
def test_a_signal_in_the_first_moments_leaves_the_terminal_as_it_was() -> None:
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)):
        one = TerminalSession("chat", "-s", "t")
        before = modes(one)
        wait_until_held(one)
        one.process.kill(sent)
        assert one.wait_for_exit() == code
        assert modes(one) == before, (sent, one.everything)
        assert "Traceback" not in one.everything
        one.process.close(force=True)


def test_ctrl_z_turns_off_what_a_reply_turned_on_each_time(server: Server) -> None:
    gate = Gate(server, "open paragraph")
    one = TerminalSession(program=["bash", "--norc", "-i"], PS1="shell> ")
    one.until("shell>")
    one.type(f"{sys.executable} -m chatmem chat -s t\r")
    ready(one)
    one.type("go\r")
    one.until("What arrived")
    for number in range(3):
        one.type("\x1a")
        until_count(one, "Stopped", number + 1)
        one.until("shell>")
        assert one.raw.rfind(b"\x1b[?1004l") > one.raw.rfind(b"\x1b[?1004h") > 0, number
        assert one.raw.rfind(b"\x1b[?25h") >= one.raw.rfind(b"\x1b[?25l")
        one.type("fg\r")
        until_count(one, "chatmem chat -s t", number + 2)
        wait_until_held(one)
    gate.go.set()
    one.until("The rest.")
    one.type("typed afterwards\r")
    one.until("> typed afterwards")
    one.process.close(force=True)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("text", ["", "some text"])
@pytest.mark.usefixtures("server")
def test_a_terminal_that_is_closed_while_the_program_is_suspended_ends_it(text: str) -> None:
    one = TerminalSession(program=["bash", "--norc", "-i"], PS1="shell> ")
    one.until("shell>")
    one.type(f"{sys.executable} -m chatmem chat -s t\r")
    ready(one)
    one.type(text + "\x1a")
    until_count(one, "Stopped", 1)
    (pid,) = children(one.process.pid)
    one.process.close(force=True)
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


LOST_SIGNAL = """
import os, signal, sys, time
from chatmem.process import raise_on_termination
raise_on_termination()
def trace(frame, event, argument):  # Python discards what is raised in this callback of its imports
    if frame.f_code.co_name == "cb" and event == "call":
        sys.settrace(None)
        os.kill(os.getpid(), int(sys.argv[1]))
sys.settrace(trace)
import colorsys
sys.settrace(None)
while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_whose_exception_python_discards_ends_the_program(sent: int, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", LOST_SIGNAL, str(int(sent))], capture_output=True, timeout=20)
    assert done.returncode == code and b"ignored" not in done.stderr


STUBBORN = """
import os, signal, threading, time
from chatmem import process
process.TERMINATION_SECONDS = 0.1
process.raise_on_termination()
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        pass
"""


def test_a_program_that_catches_the_exception_for_a_signal_ends_all_the_same() -> None:
    assert subprocess.run([sys.executable, "-c", STUBBORN], timeout=20).returncode == 143


def test_a_key_that_leaves_a_screen_which_has_ended_is_ignored() -> None:
    app = SimpleNamespace(is_running=True, is_done=True, exit=lambda **result: pytest.fail("it has ended"))
    leave(cast(KeyPressEvent, SimpleNamespace(app=app)))
