"""Slash commands: how they are found and explained, and what those for sessions and replies do."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatmem.repl.commands.table import COMMANDS, by_group
from tests.repl.conftest import TypeKeys
from tests.server import OK, Server, delta, stream


@pytest.mark.parametrize(("typed", "meant"), [("mod", "model"), ("sess", "sessions"), ("QUIT", "quit"), ("new", "new")])
def test_a_beginning_that_only_one_command_has_is_enough(type_keys: TypeKeys, typed: str, meant: str) -> None:
    assert f"/{meant}" in type_keys(f"/help {typed}\r")


def test_an_ambiguous_beginning_names_the_commands_it_may_be(type_keys: TypeKeys, server: Server) -> None:
    assert "/ex may be /exclude, /exit, /export." in type_keys("/ex\r") and server.chats == []


def test_every_command_is_in_a_group_and_explained_with_an_example(type_keys: TypeKeys) -> None:
    shown = type_keys("/help\r")
    assert len(shown.partition("chatmem chat -s")[0].splitlines()) <= 24
    for group, commands in by_group().items():
        assert group in ("Chat", "Memory", "Sessions", "Settings")
        for one in commands:
            assert f"/{one.name}" in shown
            assert one.example.startswith(f"/{one.name} ") or not one.usage, one.name
    assert "Example: /retry" in type_keys("/help /retry\r") and "Example: /clear" in type_keys("/help clear\r")
    assert "/pin [N]" in type_keys("/help memory\r")


def test_copy_without_a_number_offers_the_code_blocks(type_keys: TypeKeys, server: Server) -> None:
    server.answers = [stream("Two:\n\n```sh\nls -l\n```\n\n```\nplain\nlines\n```\n")]
    shown = type_keys("give me code\r", "/copy\r", "2\r", "/copy\r", "\r", "/copy all\r")
    assert "1 · sh · 1 line · ls -l" in shown and "2 · code · 2 lines · plain" in shown
    assert "Copied 12 characters." in shown and shown.count("Copied 43 characters.") == 2


def test_rename_gives_the_running_session_another_name(type_keys: TypeKeys, server: Server, home: Path) -> None:
    shown = type_keys("hello\r", "/rename trip\r", "again\r", "/rename\r", "/rename ../x\r")
    assert "Session 'work' was renamed to 'trip'." in shown and "Resume: chatmem chat -s trip" in shown
    assert [file.name for file in (home / "data" / "sessions").glob("*.jsonl")] == ["trip.jsonl"]
    assert len(server.chats[1]["messages"]) == 4 and "Missing new name." in shown and "only letters" in shown


def test_rename_of_a_session_without_messages_takes_effect_with_the_first(type_keys: TypeKeys, home: Path) -> None:
    type_keys("hello\r", name="taken")
    shown = type_keys("/rename taken\r", "/rename trip\r", "hello\r")
    assert "already a session 'taken'" in shown and "This session is now 'trip'." in shown
    assert {file.stem for file in (home / "data" / "sessions").glob("*.jsonl")} == {"taken", "trip"}


def test_delete_asks_moves_to_the_trash_and_starts_a_new_session(type_keys: TypeKeys, home: Path) -> None:
    type_keys("hello\r", name="other")
    shown = type_keys("hello\r", "/delete\r", "n\r", "/delete other\r", "y\r", "/delete\r", "y\r", "/delete\r")
    assert "Nothing was changed." in shown and shown.count("is in the trash.") == 2 and "New session" in shown
    assert "chatmem sessions restore work brings it back." in shown and "has no messages yet" in shown
    assert not list((home / "data" / "sessions").glob("*.jsonl"))


def test_search_finds_words_in_all_sessions_with_their_turn(type_keys: TypeKeys) -> None:
    type_keys("the red boat\r", name="first")
    shown = type_keys("a green boat\r", "/search boat\r", "/search zebra\r", "/search\r")
    assert "first · turn 1 · user" in shown and "work · turn 1 · user" in shown and "the red boat" in shown
    assert "Nothing found." in shown and "Missing words" in shown


def test_thinking_shows_what_the_model_thought(type_keys: TypeKeys, server: Server) -> None:
    server.answers = [OK + delta(None, reasoning_content="Hm, let me see.\n") + delta("Yes.", "stop")]
    shown = type_keys("/thinking\r", "really?\r", "/thinking\r", "sure?\r", "/thinking\r")
    assert shown.count("Hm, let me see.") == 1 and shown.count("came without the model's thoughts") == 2


def test_every_command_name_is_lower_case_and_has_a_help_text() -> None:
    assert all(name == one.name == name.lower() and one.help.endswith(".") for name, one in COMMANDS.items())


def test_export_without_a_path_writes_a_file_with_the_name_of_the_session(
    type_keys: TypeKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = type_keys("hello\r", "/export\r", "/export\r")
    assert "hello" in (tmp_path / "work.md").read_text() and "already exists" in shown


def test_usage_shows_tokens_and_cost_of_the_last_reply_and_of_the_session(
    type_keys: TypeKeys, server: Server, home: Path
) -> None:
    with (home / "config.toml").open("a") as config:
        config.write('\n[prices."test-model"]\nprompt = 10.0\ncompletion = 20.0\ncached = 1.0\n')
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}
    server.answers = [stream("one", usage=usage), stream("two")]
    shown = type_keys("/usage\r", "hi\r", "/usage\r", "/why\r", "again\r", "/usage\r")
    assert "This session has no replies yet." in shown
    assert "Last reply (test-model): 1,000 tokens in (400 cached), 100 out, $0.0084" in shown
    assert "Session, all branches: 1 reply, 1,000 tokens in, 100 out, $0.0084" in shown
    assert "and the reply cost $0.0084" in shown and "the server reported no usage" in shown
