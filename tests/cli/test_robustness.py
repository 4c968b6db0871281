"""Closed pipes, full disks, read-only files and damaged sessions: one line, an exit code, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.server import OK, Server, delta, status, stream

LONG = stream(*(f"word {n} " * 40 for n in range(2000)))


def shown(run: Run, name: str) -> list[Any]:
    found: list[Any] = json.loads(run("sessions", "show", name, "--json").stdout)["messages"]
    return found


def shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m chatmem"
    return subprocess.run(
        ["bash", "-c", line.replace("CHATMEM", program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


def test_a_piped_chat_stores_what_arrived_when_the_pipe_closes(server: Server, run: Run) -> None:
    server.answers = [LONG]
    done = shell("set -o pipefail; printf 'q1\\n' | CHATMEM chat -s p | head -c 20")
    assert done.returncode == 141 and done.stderr == ""
    assert shown(run, "p")[1]["status"] == "interrupted"


def test_a_full_stdout_is_one_line_and_the_reply_is_stored(run: Run) -> None:
    done = shell("echo hi | CHATMEM chat -s z -m offline > /dev/full")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "No space" in done.stderr
    assert len(shown(run, "z")) == 2


def test_a_reply_that_could_not_be_stored_stays_in_its_draft(server: Server, run: Run) -> None:
    server.answers = [stream(*("many words " * 20 for _ in range(20)))]
    limited = "ulimit -f 2; printf 'q1\\n' | CHATMEM chat -s full > /dev/null"
    done = shell(limited, PYTHONDONTWRITEBYTECODE="1")  # the limit would truncate them too
    assert done.returncode == 7 and "Not saved" in done.stderr
    reply = shown(run, "full")[-1]
    assert reply["role"] == "assistant" and reply["status"] == "interrupted" and "many words" in reply["content"]


@pytest.mark.parametrize("command", ["sessions list", "--version", "--help", "config show"])
@pytest.mark.parametrize("target", ["> /dev/full", ">&-"])
def test_an_unwritable_stdout_causes_no_traceback(command: str, target: str) -> None:
    done = shell(f"CHATMEM {command} {target}")
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1
    assert done.returncode == (1 if "full" in target and command != "sessions list" else 0) or ">&-" in target


@pytest.mark.parametrize("command", ["chat -m offline", "ask hi -m offline"])
@pytest.mark.parametrize("target", ["<&-", "2>&- < /dev/null"])
def test_closed_standard_streams_are_tolerated(command: str, target: str) -> None:
    done = shell(f"CHATMEM {command} {target}")
    assert done.returncode == 0, done.stderr


def test_export_to_a_symlink_writes_its_target_and_keeps_its_mode(run: Run, home: Path) -> None:
    run("chat", "-s", "t", input="hello\n")
    real, link = home / "real.md", home / "link.md"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("export", "t", "-o", str(link), "--force").returncode == 0
    assert link.is_symlink() and "hello" in real.read_text() and real.stat().st_mode & 0o777 == 0o640


def test_export_writes_into_a_pipe_or_a_device_without_replacing_it(run: Run, home: Path) -> None:
    run("chat", "-s", "t", input="hello\n")
    assert run("export", "t", "-o", "/dev/null", "--force").returncode == 0 and not Path("/dev/null").is_file()


def test_one_damaged_session_does_not_hide_the_others(run: Run, home: Path) -> None:
    run("chat", "-s", "good", input="hello\n")
    directory = home / "data" / "sessions"
    (directory / "odd.jsonl").write_text('{"type":"settings","model":5,"title":["x"],"memory":7}\n{"type":"message"}\n')
    done = run("sessions", "list")
    assert done.returncode == 0 and "good" in done.stdout and "odd" in done.stdout


def test_invalid_settings_of_a_session_are_ignored_with_a_notice(run: Run, home: Path) -> None:
    run("chat", "-s", "t", input="My name is Nemo.\n")
    with (home / "data" / "sessions" / "t.jsonl").open("a") as file:
        file.write('{"type":"settings","memory":"window","system":["x"]}\n')
    done = run("chat", "-s", "t", input="What is my name?\n")
    assert "Nemo" in done.stdout and "invalid settings" in done.stderr and done.returncode == 0


def test_a_lone_surrogate_in_an_old_message_does_not_block_the_session(run: Run, server: Server, home: Path) -> None:
    run("ask", "-s", "t", "hello")
    path = home / "data" / "sessions" / "t.jsonl"
    path.write_text(path.read_text().replace("hello", "he\\ud800llo"))
    assert run("ask", "-s", "t", "again").returncode == 0


@pytest.mark.parametrize("arguments", [["-s", ""], ["-m", ""], ["--memory", ""]])
def test_an_empty_value_exits_2(run: Run, arguments: list[str]) -> None:
    assert run("chat", *arguments, input="hi\n").returncode == 2 and run("sessions", "list").stdout == ""


def test_secrets_in_addresses_and_options_are_masked(run: Run, home: Path) -> None:
    (home / "config.toml").write_text(
        'base_url = "http://u:secretpw@h/v1"\n[options]\napi_key = "sk-0123456789abcdef"\n'
    )
    for extra in ([], ["--json"]):
        out = run("config", "show", *extra).stdout
        assert "secretpw" not in out and "456789" not in out


def test_a_blank_key_command_is_tolerated(run: Run, home: Path) -> None:
    (home / "config.toml").write_text('api_key_cmd = "  "\n')
    assert run("config", "show").returncode == 0


def test_an_unknown_strategy_in_the_config_is_reported_with_its_line(run: Run, home: Path) -> None:
    (home / "config.toml").write_text('[memory]\nstrategy = "windw"\n')
    done = run("config", "show")
    assert done.returncode == 2 and "line 2" in done.stderr and "'window'" in done.stderr


def test_the_command_line_never_suggests_slash_commands(run: Run, server: Server) -> None:
    server.answers = [OK + delta("half")]
    done = run("ask", "hi")
    assert done.returncode == 6 and "/retry" not in done.stderr


UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.mark.parametrize("case", ["session read-only", "directory read-only", "directory unreadable"])
def test_a_question_that_cannot_be_stored_is_not_sent(run: Run, home: Path, case: str) -> None:
    run("chat", "-s", "t", input="My name is Nemo.\n")
    directory = home / "data" / "sessions"
    before = (directory / "t.jsonl").read_text()
    (directory / "t.lock").unlink()
    target, mode = {
        "session read-only": (directory / "t.jsonl", 0o400),
        "directory read-only": (directory, 0o500),
        "directory unreadable": (directory, 0o000),
    }[case]
    target.chmod(mode)
    try:
        done = subprocess.run(
            [*UNPRIVILEGED, sys.executable, "-m", "chatmem", "chat", "-s", "t"],
            input="What is my name?\n",
            capture_output=True,
            text=True,
        )
    finally:
        target.chmod(0o700)
    assert done.returncode == 7 and done.stdout == "", done.stdout
    assert done.stderr.count("\n") == 1 and "Nothing was sent." in done.stderr
    assert (directory / "t.jsonl").read_text() == before, "the file is unchanged"


def test_a_server_that_cannot_list_its_models_answers_a_named_one(server: Server, run: Run) -> None:
    server.models_answer = status(500, {"error": "not implemented"})
    done = run("ask", "hello", "-m", "some-model")
    assert done.returncode == 0 and "last: hello" in done.stdout and "500" not in done.stderr


def test_a_thread_that_opens_a_connection_does_not_crash_the_exit() -> None:
    """OpenSSL in a background thread crashed most processes that ended normally."""
    script = """
import ssl, sys, threading
from chatmem.cli.main import main
def connect():
    while True:
        ssl.create_default_context()
        connecting.set()
connecting = threading.Event()
threading.Thread(target=connect, daemon=True).start()
connecting.wait()
sys.argv = ["chatmem", *sys.argv[1:]]
main()
"""
    for arguments, code in ((["sessions", "list"], 0), (["sessions", "--nothing"], 2)) * 2:
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert done.returncode == code and "chatmem failed" not in done.stderr, (done.returncode, done.stderr)
        assert done.stdout or done.stderr
