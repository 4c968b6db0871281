"""The room where one sits, played through the real prompt: keys in, screen out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from chatmem.assemble import Assembly
from chatmem.repl import commands
from chatmem.repl.loop import Room
from chatmem.screen.terminal import Terminal
from tests.server import OK, Server, delta, stream

ENTER, ALT_ENTER, CTRL_C, CTRL_D, CTRL_J, CTRL_R = "\r", "\x1b\r", "\x03", "\x04", "\n", "\x12"
Play = Callable[..., str]


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        yield keys


@pytest.fixture
def play(keys: PipeInput, server: Server) -> Play:
    """Types keys into a new room on session 'work' until it is left; returns what was shown."""

    def play(*typed: str, name: str = "work", **wanted: Any) -> str:
        screen = io.StringIO()
        assembly = Assembly(offline=True)
        room = Room(assembly.chat(name, wanted), assembly, Terminal(screen, screen))
        keys.send_text("".join(typed) + CTRL_D)
        play.code = room.run()  # type: ignore[attr-defined]
        return screen.getvalue()

    return play


def asked(server: Server) -> list[str]:
    return [chat["messages"][-1]["content"] for chat in server.chats]


def test_enter_sends_and_the_reply_is_shown(play: Play, server: Server) -> None:
    assert "1 messages; last: hello" in play("hello" + ENTER)
    assert asked(server) == ["hello"]


def test_ctrl_d_leaves_and_prints_the_command_that_resumes(play: Play) -> None:
    assert play("hello" + ENTER).endswith("To go on: chatmem chat -s work\n")
    assert "chatmem chat -s 'two words'" in play("hello" + ENTER, name="two words")


def test_nothing_said_leaves_nothing_to_resume(play: Play) -> None:
    assert "To go on" not in play()


@pytest.mark.parametrize("key", [ALT_ENTER, CTRL_J, "\x1b[13;2u", "\x1b[27;2;13~"])
def test_a_new_line_is_made_without_sending(play: Play, server: Server, key: str) -> None:
    play("one" + key + "two" + ENTER)
    assert asked(server) == ["one\ntwo"]


def test_a_paste_of_several_lines_is_one_message_and_never_a_command(play: Play, server: Server) -> None:
    play("\x1b[200~/exit\r\ntwo\nthree\x1b[201~" + ENTER)
    assert asked(server) == ["/exit\ntwo\nthree"]


def test_ctrl_c_clears_a_filled_line_and_tells_how_to_leave_on_an_empty_one(play: Play, server: Server) -> None:
    shown = play("never sent" + CTRL_C, CTRL_C, "sent" + ENTER)
    assert asked(server) == ["sent"] and "Ctrl-D leaves" in shown


def test_what_was_typed_is_found_again(play: Play, server: Server) -> None:
    play("find me" + ENTER)
    play(CTRL_R + "find" + ENTER + ENTER)
    assert asked(server) == ["find me", "find me"]


def test_a_line_that_begins_with_a_space_is_not_remembered(play: Play, home: Any) -> None:
    play(" secret" + ENTER, "known" + ENTER)
    history = (home / "data" / "state" / "history").read_text()
    assert "known" in history and "secret" not in history


def test_an_unknown_command_gets_the_nearest(play: Play, server: Server) -> None:
    assert "Did you mean /help?" in play("/hlp" + ENTER) and server.chats == []


def test_two_slashes_send_a_message_that_begins_with_one(play: Play, server: Server) -> None:
    play("//etc/hosts" + ENTER)
    assert asked(server) == ["/etc/hosts"]


def test_help_names_every_command(play: Play) -> None:
    shown = play("/help" + ENTER)
    assert all(f"/{name}" in shown for name in commands.TABLE)


def test_exit_leaves(play: Play, server: Server) -> None:
    play("/exit" + ENTER, "never" + ENTER)
    assert server.chats == []


def test_a_failure_is_one_line_and_the_chat_goes_on(play: Play, server: Server) -> None:
    server.answers = [b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", stream("fine")]
    shown = play("one" + ENTER, "two" + ENTER)
    assert "refused the API key" in shown and "fine" in shown and "Traceback" not in shown


def test_retry_asks_the_last_question_again(play: Play, server: Server) -> None:
    server.answers = [OK + delta("half"), stream("whole")]
    play("again" + ENTER, "/retry" + ENTER)
    assert asked(server) == ["again", "again"]


def test_opening_a_session_shows_what_it_is_and_its_last_turn(play: Play) -> None:
    play("the question" + ENTER)
    shown = play()
    assert (
        "Session 'work' · the question · 1 turns" in shown
        and "> the question" in shown
        and "last: the question" in shown
    )
