"""Templates: written, filled in, and used by chat and ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chatmem.cli.templates import SKELETON
from chatmem.errors import UsageError
from chatmem.templates import Templates, parse, parse_values
from tests.conftest import Run
from tests.repl.conftest import TypeKeys, keys, type_keys
from tests.repl.test_pty import CTRL_D, Start, start
from tests.server import Server

__all__ = ["keys", "start", "type_keys"]
REVIEW = """
system = "You are a {kind} reviewer of {{code}}."
prompt = "Review this {what}:\\n\\n{input}"
model = "special"
memory = "window:3"
options = { temperature = 0.25 }
[variables]
kind = "strict"
"""
Write = Callable[..., None]


@pytest.fixture
def write(home: Path) -> Write:
    def write(name: str, text: str) -> None:
        (home / "templates").mkdir(exist_ok=True)
        (home / "templates" / f"{name}.toml").write_text(text)

    return write


def test_ask_fills_in_a_template_with_piped_text_and_uses_its_settings(
    write: Write, run: Run, server: Server, home: Path
) -> None:
    write("review", REVIEW)
    done = run("ask", "-t", "review", "-p", "what=diff", "-s", "one", input="+ new line\n")
    assert done.returncode == 0, done.stderr
    call = server.chats[0]
    assert (call["model"], call["temperature"]) == ("special", 0.25)
    assert call["messages"][0]["content"].startswith("You are a strict reviewer of {code}.")
    assert call["messages"][-1]["content"] == "Review this diff:\n\n+ new line"
    settings = json.loads((home / "data" / "sessions" / "one.jsonl").read_text().splitlines()[1])
    assert settings["template"] == "review" and settings["system"] == "You are a strict reviewer of {code}."
    assert settings["memory"]["strategy"] == "window"
    run("ask", "-s", "one", "and now?")
    assert server.chats[1]["model"] == "special" and server.chats[1]["temperature"] == 0.25


def test_options_of_the_command_count_more_than_the_template(write: Write, run: Run, server: Server) -> None:
    write("review", REVIEW)
    run("ask", "-t", "review", "-p", "what=x", "-p", "kind=kind", "-m", "mine", "--system", "Be brief.", "text")
    assert server.chats[0]["model"] == "mine" and server.chats[0]["messages"][0]["content"].startswith("Be brief.")


def test_piped_chat_sends_the_first_question_of_a_template(write: Write, run: Run, server: Server) -> None:
    write("greet", 'prompt = "Say hello."')
    assert run("chat", "-t", "greet", input="and now\n").returncode == 0
    assert [call["messages"][-1]["content"] for call in server.chats] == ["Say hello.", "and now"]


def test_a_missing_value_is_asked_for_in_a_terminal(write: Write, start: Start, server: Server) -> None:
    write("review", REVIEW)
    one = start("-t", "review", "-s", "t")
    one.until("what:")
    one.type("patch\r")
    one.until("input:")
    one.type("+ line\r")
    one.until("> Review this patch:")
    one.until("messages; last: Review this patch")
    one.type(CTRL_D)
    assert one.wait_for_exit() == 0


def test_a_template_is_used_in_the_middle_of_a_chat(write: Write, type_keys: TypeKeys, server: Server) -> None:
    write("brief", 'system = "Answer in {count} words."\nprompt = "Why {{so}}?"')
    shown = type_keys("hello\r", "/template\r", "/template brief count=three\r", "\r", "/system\r")
    assert "Templates: brief. In use: none." in shown and "System prompt: Answer in three words." in shown
    assert [call["messages"][-1]["content"] for call in server.chats] == ["hello", "Why {so}?"]
    assert "Answer in three words." in server.chats[1]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "nosuch", "x"], "Template 'nosuch' not found"),
        (["-t", "reviw", "x"], "Did you mean 'review'?"),
        (["-t", "review", "x"], "-p what=VALUE"),
        (["-t", "review", "-p", "what=x"], "Pipe it in"),
        (["-t", "review", "-p", "what", "x"], "Expected name=value"),
        (["-t", "review", "-p", "nosuch=1", "x"], "has no variable 'nosuch'"),
        (["-t", "review", "-p", "input=1", "x"], "has no variable 'input'"),
        (["-t", "../review", "x"], "Invalid template name"),
        (["-p", "what=x", "x"], "Name the template with -t"),
        (["-t", "empty"], "Missing question"),
        (["-t", "broken", "x"], "not valid TOML"),
        (["-t", "dangling", "x"], "does not use its variable 'kind'"),
        (["-t", "strange", "x"], "unknown setting 'sytem'"),
        (["-t", "braces", "x"], "Write {{ and }} for braces"),
        (["-t", "attribute", "x"], "is not a variable"),
        (["-t", "typed", "x"], "system in the template 'typed' must be a text"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    write: Write, run: Run, server: Server, arguments: list[str], message: str
) -> None:
    texts = {
        "review": REVIEW,
        "empty": 'system = "x"',
        "broken": 'system = "x',
        "dangling": 'system = "x"\n[variables]\nkind = "y"',
        "strange": 'sytem = "x"',
        "braces": 'system = "x }"',
        "attribute": 'system = "{input.__class__}"',
        "typed": "system = 7",
    }
    for name, text in texts.items():
        write(name, text)
    done = run("ask", *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert server.chats == []


def test_templates_are_written_listed_shown_and_edited(run: Run, home: Path) -> None:
    assert "no templates yet" in run("templates", "list").stderr
    assert run("templates", "new", "teach").returncode == 0
    assert run("templates", "new", "teach").returncode == 2
    assert run("templates", "list").stdout == "teach  You are a helpful {kind}.\n"
    assert json.loads(run("templates", "list", "--json").stdout) == ["teach"]
    assert run("templates", "show", "teach").stdout == SKELETON.format(name="teach")
    before = (home / "templates" / "teach.toml").read_text()
    assert run("templates", "edit", "teach", VISUAL="sed -i s/helpful/kind/").returncode == 0
    assert "a kind {kind}" in (home / "templates" / "teach.toml").read_text()
    bad = run("templates", "edit", "teach", VISUAL="sed -i s/kind/}/")
    assert bad.returncode == 2 and "a kind {kind}" in (home / "templates" / "teach.toml").read_text() != before
    assert run("templates", "edit", "nosuch").returncode == 2 == run("templates", "show", "nosuch").returncode


def test_the_skeleton_is_a_valid_template_and_braces_stay(tmp_path: Path) -> None:
    template = parse("teach", SKELETON.format(name="teach").encode())
    assert template.fill({}).settings["system"] == "You are a helpful teacher."
    assert parse("a", b'prompt = "{{x}} {y}"').fill({"y": "{z}"}).question == "{x} {z}"
    assert parse("a", b'prompt = "first"').fill({}, "then").question == "first\n\nthen"
    assert parse_values(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    assert Templates(tmp_path / "nothing" / "config.toml").names() == []
    with pytest.raises(UsageError):
        parse("a", b"\xff")
