"""The command line, run as a user or a script runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.server import OK, Server, delta, status, stream

NEMO = "My name is Nemo.\nWhat is my name?\n"


def sessions(run: Run) -> list[Any]:
    found: list[Any] = json.loads(run("sessions", "list", "--json").stdout)
    return found


def test_without_a_key_the_offline_model_answers_from_memory(run: Run) -> None:
    done = run("chat", "-s", "t", input=NEMO)
    assert done.returncode == 0 and "Nemo" in done.stdout.splitlines()[1]
    assert done.stderr.count("No model configured") == 1 and "OPENAI_API_KEY" in done.stderr


def test_ask_without_a_model_exits_4_and_names_two_ways_to_configure_one(run: Run) -> None:
    done = run("ask", "hi")
    assert (done.returncode, done.stdout) == (4, "")
    assert "OPENAI_API_KEY" in done.stderr and "Ollama" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_next_start_sends_the_earlier_turns(run: Run) -> None:
    run("chat", "-s", "t", input="My name is Nemo.\n")
    assert "Nemo" in run("ask", "-s", "t", "-m", "offline", "What is my name?").stdout
    assert "Nemo" in run("chat", "-c", input="What is my name?\n").stdout


def test_a_session_without_a_name_gets_a_readable_one(run: Run) -> None:
    run("chat", input="hello\n")
    (one,) = sessions(run)
    assert one["name"].replace("-", "").isalpha()


def test_an_ephemeral_chat_is_not_saved(run: Run, home: Path) -> None:
    assert run("chat", "--ephemeral", "-s", "t", input=NEMO).returncode == 0
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(b"Nemo" in data for data in files)
    assert sessions(run) == [] and not list((home / "data").rglob("*.jsonl"))


def test_lists_and_conversations_have_stable_fields(run: Run) -> None:
    run("chat", "-s", "t", "--memory", "window:6", input=NEMO)
    (one,) = sessions(run)
    assert set(one) == {"name", "title", "turns", "messages", "created", "last_active", "model", "memory"}
    assert (one["name"], one["title"], one["turns"], one["messages"], one["memory"]) == (
        "t",
        "My name is Nemo.",
        2,
        4,
        "window",
    )
    shown = json.loads(run("sessions", "show", "t", "--json").stdout)
    assert [m["turn"] for m in shown["messages"]] == [1, 1, 2, 2]
    assert set(shown["messages"][1]) == {"id", "turn", "role", "content", "status", "time", "model", "usage"}


def test_a_reply_as_json(run: Run, server: Server) -> None:
    server.answers = [stream("Hi ", "there", usage={"prompt_tokens": 9, "completion_tokens": 2})]
    done = run("ask", "hello", "--json")
    assert json.loads(done.stdout) == {
        "session": None,
        "model": "test-model",
        "content": "Hi there",
        "status": "complete",
        "usage": {"prompt": 9, "completion": 2},
    }


def test_stdin_is_appended_to_the_question_or_is_the_question(run: Run, server: Server) -> None:
    run("ask", "Sum up:", input="line one\nline two\n")
    run("ask", input="alone\n")
    assert [c["messages"][-1]["content"] for c in server.chats] == ["Sum up:\n\nline one\nline two", "alone"]


def test_a_missing_question_exits_2(run: Run) -> None:
    assert run("ask").returncode == 2


def test_an_error_does_not_end_a_piped_chat_whose_exit_code_is_that_of_the_first_error(
    run: Run, server: Server
) -> None:
    server.answers = [status(401, {"error": {"message": "no"}}), stream("fine")]
    done = run("chat", "-s", "t", input="one\ntwo\n")
    assert (done.returncode, done.stdout) == (4, "fine\n")


def test_each_chunk_is_written_as_it_arrives(server: Server) -> None:
    import threading

    gate = threading.Event()

    def pause(request: Any, connection: Any) -> None:
        connection.sendall(OK + delta("first "))
        gate.wait(30)
        connection.sendall(delta("second", "stop"))

    server.answers = [pause]
    with subprocess.Popen(
        [sys.executable, "-m", "chatmem", "ask", "go"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and os.read(process.stdout.fileno(), 100) == b"first "
        gate.set()
        assert process.stdout.read() == b"second\n"


def test_a_closed_pipe_exits_141_and_stores_what_arrived(server: Server, run: Run) -> None:
    server.answers = [stream(*(f"word {n} " * 50 for n in range(3000)))]
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "chatmem", "ask", "-s", "t", "go"],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(writer)
        os.read(reader, 10)
        os.close(reader)
        assert process.wait(30) == 141 and process.stderr and process.stderr.read() == b""
    assert json.loads(run("sessions", "show", "t", "--json").stdout)["messages"][1]["status"] == "interrupted"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_stores_the_partial_reply_and_exits_with_its_number(
    server: Server, run: Run, sent: signal.Signals, code: int
) -> None:
    import threading

    gate = threading.Event()

    def pause(request: Any, connection: Any) -> None:
        connection.sendall(OK + delta("what arrived"))
        gate.wait(30)

    server.answers = [pause]
    with subprocess.Popen(
        [sys.executable, "-m", "chatmem", "ask", "-s", "t", "go"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and os.read(process.stdout.fileno(), 100) == b"what arrived"
        process.send_signal(sent)
        assert process.wait(10) == code
    gate.set()
    reply = json.loads(run("sessions", "show", "t", "--json").stdout)["messages"][1]
    assert (reply["content"], reply["status"]) == ("what arrived", "interrupted")


def test_an_incomplete_reply_exits_6_and_is_stored(run: Run, server: Server) -> None:
    server.answers = [OK + delta("half an ")]
    done = run("ask", "-s", "t", "go")
    assert (done.returncode, done.stdout) == (6, "half an \n")
    assert json.loads(run("sessions", "show", "t", "--json").stdout)["messages"][1]["status"] == "truncated"


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_reply_that_hit_a_limit_exits_6(run: Run, server: Server, finish: str) -> None:
    server.answers = [stream("as far as it goes", finish=finish)]
    assert run("ask", "go").returncode == 6


def test_export_is_markdown_of_the_latest_session_and_never_overwrites(run: Run, home: Path) -> None:
    run("chat", "-s", "old", input="old\n")
    run("chat", "-s", "new", input="# not *touched*\n")
    text = run("export").stdout
    assert text.startswith("---\n") and 'name: "new"' in text and "\n# not *touched*\n" in text
    target = home / "out.md"
    assert run("export", "old", "-o", str(target)).returncode == 0 and "old" in target.read_text()
    again = run("export", "new", "-o", str(target))
    assert again.returncode == 2 and "--force" in again.stderr and "old" in target.read_text()
    assert run("export", "new", "-o", str(target), "--force").returncode == 0 and "new" in target.read_text()


def test_an_unknown_session_exits_9_with_similar_names(run: Run) -> None:
    run("chat", "-s", "holiday", input="hi\n")
    done = run("sessions", "show", "holidays")
    assert done.returncode == 9 and "'holiday'" in done.stderr


def test_config_shows_where_each_value_came_from_and_masks_secrets(run: Run, home: Path) -> None:
    (home / "config.toml").write_text('model = "from-file"\n')
    done = run("config", "show", "--origin", OPENAI_API_KEY="sk-canary-0123456789", CHATMEM_MEMORY="window:3")
    assert f"model = from-file    # {home / 'config.toml'}" in done.stdout
    assert "memory.window.turns = 3    # CHATMEM_*" in done.stdout
    assert "canary" not in done.stdout and "sk-…89" in done.stdout


def test_config_init_writes_a_valid_file_and_never_overwrites_one(run: Run, home: Path) -> None:
    (home / "config.toml").unlink()
    assert run("config", "init").returncode == 0 and run("config", "show").returncode == 0
    assert oct((home / "config.toml").stat().st_mode)[-3:] == "600"
    assert run("config", "init").returncode == 2
    assert run("config", "path").stdout.strip() == str(home / "config.toml")


def test_config_edit_opens_the_editor_and_validates_the_result(run: Run, home: Path) -> None:
    editor = home / "editor"
    editor.write_text("#!/bin/sh\necho 'modle = 1' > \"$1\"\n")
    editor.chmod(0o755)
    done = run("config", "edit", EDITOR=str(editor))
    assert done.returncode == 2 and "Did you mean 'model'?" in done.stderr


def test_an_invalid_config_is_one_line_and_exits_2(run: Run, home: Path) -> None:
    (home / "config.toml").write_text("modle = 3\n")
    done = run("ask", "hi")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "Did you mean 'model'?" in done.stderr


def test_in_a_data_directory_that_cannot_be_written_only_an_ephemeral_chat_works(run: Run, home: Path) -> None:
    (home / "data").write_text("in the way")
    done = run("chat", "-s", "t", input=NEMO)
    assert done.stdout == "" and done.returncode == 7
    assert done.stderr.count("Nothing was sent.") == len(NEMO.splitlines())
    assert "Nemo" in run("chat", "--ephemeral", input=NEMO).stdout


def test_a_missing_home_does_not_stop_an_ephemeral_chat(home: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "",
        "CHATMEM_CONFIG": str(home / "config.toml"),
        "CHATMEM_DATA_DIR": "/proc/nowhere",
    }
    done = subprocess.run(
        [sys.executable, "-m", "chatmem", "chat", "--ephemeral"], input=NEMO, capture_output=True, text=True, env=env
    )
    assert "Nemo" in done.stdout and done.returncode == 0 and "Traceback" not in done.stderr


def test_only_debug_shows_a_traceback(run: Run) -> None:
    assert "Traceback" in run("ask", "hi", "--debug").stderr
    assert "Traceback" not in run("ask", "hi").stderr


def test_the_api_key_is_never_printed(run: Run, server: Server) -> None:
    key = "sk-test-canary-0123456789"
    server.answers = [
        status(401, {"error": {"message": "Incorrect API key"}}),
        stream("x"),
        status(500, b"", "x-should-retry: false"),
    ]
    for arguments in (
        ["ask", "hi"],
        ["ask", "-s", "t", "hi"],
        ["ask", "--debug", "hi"],
        ["config", "show", "--origin"],
        ["export", "t"],
    ):
        done = run(*arguments)
        assert key not in done.stdout + done.stderr
    assert all(r.headers.get("authorization") == f"Bearer {key}" for r in server.requests)


def test_every_command_has_help(run: Run) -> None:
    for command in ([], ["chat"], ["ask"], ["sessions"], ["sessions", "list"], ["export"], ["config", "show"]):
        done = run(*command, "-h")
        assert done.returncode == 0 and "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("answer", "code"),
    [(status(401, {"error": {"message": "no"}}), 4), (status(404, {"error": {"message": "no model"}}), 3), (OK, 3)],
    ids=["401", "404", "nothing"],
)
def test_ask_prints_its_error_as_json_with_the_exit_code(server: Server, run: Run, answer: bytes, code: int) -> None:
    server.otherwise = lambda request: answer
    done = run("ask", "--json", "hello")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == code == error["exit_code"] and error["message"] and error["message"] in done.stderr


def test_ask_prints_a_mistake_in_its_arguments_as_json(run: Run) -> None:
    done = run("ask", "--json", "hello", "--memory", "nothing")
    assert done.returncode == 2 == json.loads(done.stdout)["error"]["exit_code"]


@pytest.mark.parametrize(
    "arguments", [[], ["sessions"], ["config"], ["sessions", "search"], ["sessions", "delete"], ["ask"]]
)
def test_help_cuts_no_sentence_shows_no_python_types_and_common_options_once(run: Run, arguments: list[str]) -> None:
    shown = run(*arguments, "--help").stdout
    without_usage = shown.partition("\n")[2]
    assert "..." not in without_usage and "<" not in shown
    assert ("Show tracebacks." in shown) == (arguments == []) and shown.count("--debug") <= 1


def test_every_setting_of_a_new_config_is_its_default_or_called_an_example() -> None:
    import tomllib

    from chatmem.app import SCHEMA
    from chatmem.config.example import example_config, iter_settings

    defaults = {name: value for name, value, _ in iter_settings(SCHEMA.settings_class())}
    table, checked = "", 0
    for line in example_config(SCHEMA).partition("# [options]")[0].splitlines():
        text = line.removeprefix("# ")
        if text.startswith("["):
            table = text.strip("[]") + "."
        elif " = " in text and text.split(" = ")[0].isidentifier():
            ((name, value),) = tomllib.loads(text).items()
            default = defaults[f"{table}{name}".replace("token-trim", "token_trim")]
            assert text.endswith("# an example") == (default is None) and default in (None, value), text
            checked += 1
    assert checked > 30
