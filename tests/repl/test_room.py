"""The room where one sits, played through the real prompt: keys in, screen out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
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
        "Session 'work' · the question · 1 turn ·" in shown
        and "> the question" in shown
        and "last: the question" in shown
    )


def test_a_pasted_line_with_its_newline_is_no_command(play: Play, server: Server) -> None:
    play("\x1b[200~/exit\n\x1b[201~" + ENTER)
    assert asked(server) == ["/exit\n"]


def test_a_file_named_in_a_paste_stays_here_and_a_typed_one_goes(play: Play, server: Server, home: Path) -> None:
    (home / "secret.txt").write_text("the key")
    shown = play(f"\x1b[200~see @{home}/secret.txt\x1b[201~" + ENTER, f"@{home}/secret.txt" + ENTER)
    first, second = asked(server)
    assert "the key" not in first and "the key" in second and "not attached" in shown


def test_ctrl_c_leaves_the_search_and_keeps_the_prompt(play: Play, server: Server) -> None:
    play("one" + ENTER, "\x12on" + CTRL_C, "two" + ENTER)
    assert asked(server) == ["one", "two"]


def test_more_turns_than_there_are_cannot_be_taken_back(play: Play, server: Server) -> None:
    shown = play("one" + ENTER, "/undo 9" + ENTER, "/undo 0" + ENTER, "two" + ENTER)
    assert shown.count("Only 1 turn can be taken back") == 1 and "'0' is no turn's number" in shown
    assert [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"] == ["one", "two"]


def test_a_missing_editor_is_said_and_the_line_stays(
    play: Play, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert "The editor" in play("kept\x18\x05" + ENTER)
    assert asked(server) == ["kept"]


def test_what_is_ephemeral_leaves_nothing_anywhere(keys: PipeInput, server: Server, home: Any) -> None:
    from chatmem.stores.memory import MemoryStore

    screen, assembly = io.StringIO(), Assembly(offline=True)
    room = Room(assembly.chat("x", store=MemoryStore()), assembly, Terminal(screen, screen))
    keys.send_text("secret thing" + ENTER + CTRL_D)
    assert room.run() == 0 and "Nothing of this is kept" in screen.getvalue() and "To go on" not in screen.getvalue()
    assert not any(b"secret" in p.read_bytes() for p in (home / "data").rglob("*") if p.is_file())


def test_a_question_that_was_not_taken_in_is_back_in_the_prompt(keys: PipeInput, server: Server) -> None:
    screen, assembly = io.StringIO(), Assembly(offline=True, wait=False)
    first = assembly.chat("work")
    list(first.say("one"))
    assert first._log
    with first._log.turn():
        room = Room(assembly.chat("work"), assembly, Terminal(screen, screen))
        room.take("my precious text")
    assert "in use" in screen.getvalue()
    keys.send_text(ENTER + CTRL_D)
    room.run()
    assert asked(server) == ["one", "my precious text"]


def test_pins_and_exclusions_are_set_by_number_and_shown(play: Play, server: Server) -> None:
    shown = play(
        *(f"question {n}" + ENTER for n in range(4)),
        "/pin 1" + ENTER,
        "/exclude 2" + ENTER,
        "/memory window:1" + ENTER,
        "last" + ENTER,
        "/context" + ENTER,
    )
    sent = [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"]
    assert sent == ["question 0", "question 3", "last"]
    assert "you pinned it" in shown and "you excluded turn 2" in shown and "Memory: window:1" in shown


def test_context_shows_byte_for_byte_what_is_sent_next(play: Play, server: Server) -> None:
    play("one" + ENTER, "two" + ENTER)
    assembly = Assembly(offline=True)
    expected = list(assembly.chat("work", look=True).plan("three").messages)
    play("three" + ENTER)
    assert server.chats[-1]["messages"] == expected


def test_why_explains_what_a_reply_saw(play: Play) -> None:
    shown = play("one" + ENTER, "two" + ENTER, "/why 2" + ENTER)
    assert "Turn 2 · test-model · summary" in shown and "word for word: turn 1" in shown


def test_the_first_turn_that_falls_out_is_named_with_the_offer_to_pin_it(play: Play) -> None:
    shown = play("/memory window:1" + ENTER, *(f"question {n}" + ENTER for n in range(4)))
    assert (
        shown.count("is no longer sent word for word") == 1 and "Turn 1 (“question 0”)" in shown and "/pin 1" in shown
    )


def test_compare_has_a_row_per_strategy(play: Play) -> None:
    shown = play("one" + ENTER, "two" + ENTER, "/compare" + ENTER)
    assert all(name in shown for name in ("buffer", "window", "token-trim", "summary"))


def test_summary_says_when_there_are_no_notes_yet(play: Play) -> None:
    assert "no notes yet" in play("/summary" + ENTER)


@pytest.mark.parametrize("line", ["/pin", "/pin x", "/pin 99", "/memory windw", "/summary x", "/why x"])
def test_a_wrong_argument_is_one_line(play: Play, line: str) -> None:
    shown = play("one" + ENTER, line + ENTER)
    assert "Traceback" not in shown


def completed(room: Room, line: str) -> list[str]:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from chatmem.repl.completion import Typed

    return [c.text for c in Typed(room).get_completions(Document(line), CompleteEvent())]


@pytest.fixture
def room(keys: PipeInput, server: Server) -> Room:
    server.models = [{"id": "test-model"}, {"id": "other-model", "context_length": 32768}]
    assembly = Assembly(offline=True)
    list(assembly.chat("holiday").say("Where to?"))
    return Room(assembly.chat("work"), assembly, Terminal(io.StringIO(), io.StringIO()))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/und", "/undo"),
        ("/cxt", "/context"),
        ("/open hol", "holiday"),
        ("/model oth", "other-model"),
        ("/model off", "offline"),
        ("/memory win", "window"),
        ("/set temp", "temperature"),
        ("/help und", "undo"),
    ],
)
def test_commands_and_what_they_take_are_completed_fuzzily(room: Room, line: str, found: str) -> None:
    assert found in completed(room, line)


@pytest.mark.parametrize("line", ["hello", "//und", "/set temperature 0", "a /und", "/und\nx"])
def test_nothing_else_is_completed(room: Room, line: str) -> None:
    assert completed(room, line) == []


def test_paths_are_completed_after_an_at_sign_and_where_a_file_is_written(room: Room, home: Any) -> None:
    (home / "notes.txt").write_text("x")
    assert completed(room, f"see @{home}/not") == ["es.txt"] == completed(room, f"/save {home}/not")


def test_the_toolbar_shows_what_fits(room: Room) -> None:
    from chatmem.repl.toolbar import fitting

    room.prompt.refresh()
    parts = room.prompt._parts
    assert [part[0] for part in parts[:3]] == ["work", "test-model", "summary"] and "/6,144" in parts[3][0]
    assert fitting(parts, 60).count("▱") == 10 and fitting(parts, 50).endswith("calibrated")
    assert fitting(parts, 32).endswith("%") and fitting(parts, 3) in ("wo…", "wor")
    long = [("x" * 64, "x" * 19 + "…", "x" * 7 + "…"), *parts[1:]]
    assert "test-model" in fitting(long, 80) and "6,144" in fitting(long, 80)


def test_undo_takes_back_and_branches_lead_back(play: Play, server: Server) -> None:
    shown = play(
        "one" + ENTER,
        "two" + ENTER,
        "/undo" + ENTER,
        "three" + ENTER,
        "/branches" + ENTER,
        "/branches 1" + ENTER,
        "four" + ENTER,
    )
    sent = [[m["content"] for m in c["messages"] if m["role"] == "user"] for c in server.chats]
    assert sent == [["one"], ["one", "two"], ["one", "three"], ["one", "two", "four"]] and "Taken back: turn 2" in shown


def test_an_edit_asks_in_other_words(play: Play, server: Server, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = home / "editor"
    editor.write_text('#!/bin/sh\necho "changed" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    play("one" + ENTER, "two" + ENTER, "/edit 1" + ENTER)
    assert asked(server) == ["one", "two", "changed"] and len(server.chats[-1]["messages"]) == 1


def test_retry_with_another_model_is_for_one_turn(play: Play, server: Server) -> None:
    play("one" + ENTER, "/retry other" + ENTER, "two" + ENTER)
    assert [c["model"] for c in server.chats] == ["test-model", "other", "test-model"]


def test_settings_are_stored_in_the_session_and_can_be_taken_back(play: Play, server: Server) -> None:
    play("/model other" + ENTER, "/set temperature 0.3" + ENTER, "/system Be brief." + ENTER, "one" + ENTER)
    play("/set temperature -" + ENTER, "/system -" + ENTER, "two" + ENTER)
    first, second = server.chats
    assert (first["model"], first["temperature"], first["messages"][0]["content"]) == ("other", 0.3, "Be brief.")
    assert second["model"] == "other" and "temperature" not in second and second["messages"][0]["role"] == "user"


def test_fork_open_new_and_title_move_between_sessions(play: Play, server: Server) -> None:
    shown = play(
        "one" + ENTER,
        "/title Counting" + ENTER,
        "/fork other" + ENTER,
        "two" + ENTER,
        "/open work" + ENTER,
        "three" + ENTER,
        "/new third" + ENTER,
        "four" + ENTER,
        "/sessions" + ENTER,
    )
    sent = [[m["content"] for m in c["messages"] if m["role"] == "user"] for c in server.chats]
    assert sent == [["one"], ["one", "two"], ["one", "three"], ["four"]] and "Counting" in shown


def test_clear_begins_a_new_view_in_the_same_file(play: Play, server: Server) -> None:
    play("one" + ENTER, "/clear" + ENTER, "two" + ENTER)
    assert [len(c["messages"]) for c in server.chats] == [1, 1]


def test_copy_hands_a_code_block_to_the_clipboard(play: Play, server: Server) -> None:
    import base64

    server.answers = [stream("Here:\n\n```python\nprint(1)\n```\n")]
    shown = play("code" + ENTER, "/copy 1" + ENTER, "/copy 2" + ENTER)
    assert "Copied 9 characters" in shown and "has 1 code block." in shown
    assert base64.b64encode(b"print(1)\n")


def test_save_writes_everything_elsewhere_and_never_over_anything(play: Play, home: Any) -> None:
    target = home / "out.json"
    shown = play("one" + ENTER, f"/save {target}" + ENTER, f"/save {target}" + ENTER, f"/export {home}/out.md" + ENTER)
    assert "one" in target.read_text() and "already a file" in shown and (home / "out.md").read_text().startswith("---")


def test_tokens_stats_multiline_and_help_of_one_answer(play: Play) -> None:
    shown = play(
        "one" + ENTER,
        "/tokens" + ENTER,
        "/stats" + ENTER,
        "/help undo" + ENTER,
        "/multiline" + ENTER,
        "/multiline" + ALT_ENTER,
    )
    assert "tokens (" in shown and "1 session" in shown and "/undo [N]" in shown and "Alt-Enter sends" in shown


def test_a_slash_command_wins_over_the_flags_of_the_start(keys: PipeInput, server: Server) -> None:
    from chatmem.cli.chat import chat as chat_command
    from chatmem.cli.door import Here

    here = Here()
    wanted = here.with_flags(model="flag-model", memory="window:2", system="SYSA")
    here.assembly.offline = True
    one = here.assembly.chat("work", wanted)
    for name in wanted:
        del here.flags[name]
    screen = io.StringIO()
    keys.send_text(
        "first"
        + ENTER
        + "/model m2"
        + ENTER
        + "/memory buffer"
        + ENTER
        + "/system SYSB"
        + ENTER
        + "second"
        + ENTER
        + "/retry m3"
        + ENTER
        + "/new other"
        + ENTER
        + "third"
        + ENTER
        + CTRL_D
    )
    Room(one, here.assembly, Terminal(screen, screen)).run()
    assert [c["model"] for c in server.chats] == ["flag-model", "m2", "m3", "test-model"]
    assert [c["messages"][0]["content"] for c in server.chats] == ["SYSA", "SYSB", "SYSB", "third"] and chat_command


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_number_that_is_none_does_not_end_the_chat(play: Play, server: Server, value: str) -> None:
    shown = play(f"/set temperature {value}" + ENTER, "hello" + ENTER)
    assert "is no number" in shown and asked(server) == ["hello"]


def test_undo_takes_back_nothing_that_was_never_shown(keys: PipeInput, server: Server) -> None:
    screen, assembly = io.StringIO(), Assembly(offline=True)
    room = Room(assembly.chat("work"), assembly, Terminal(screen, screen))
    room.take("q1")
    room.take("q2")
    list(Assembly(offline=True).chat("work").say("q3"))
    room.take("/undo")
    assert "Another process went on" in screen.getvalue()
    room.take("/context")
    assert "q3" in screen.getvalue()


def test_the_configured_prompt_holds_when_another_process_made_the_session(
    keys: PipeInput, server: Server, home: Any
) -> None:
    (home / "config.toml").write_text('system = "CONFIGSYS"\n')
    screen, assembly = io.StringIO(), Assembly(offline=True)
    room = Room(assembly.chat("work", {"model": "mine"}), assembly, Terminal(screen, screen))
    room.chat.plan()
    list(Assembly(offline=True).chat("work").say("from other"))
    room.take("hello")
    assert (
        server.chats[-1]["messages"][0] == {"role": "system", "content": "CONFIGSYS"}
        and server.chats[-1]["model"] == "mine"
    )
    assert len(server.chats[-1]["messages"]) == 4


def test_a_server_that_cuts_without_a_word_is_noticed(play: Play, server: Server) -> None:
    server.otherwise = lambda request: stream("ok", usage={"prompt_tokens": 200, "completion_tokens": 2})
    shown = play(*(f"{n} " + "word " * 60 + ENTER for n in range(6)))
    assert "Is its window smaller" in shown


def test_options_are_checked_before_a_server_sees_them(play: Play, server: Server) -> None:
    shown = play("/set temperature warm" + ENTER, "/set tempreature 1" + ENTER, "/set top_p 2" + ENTER, "hi" + ENTER)
    assert "temperature should be a number of at least 0, not 'warm'" in shown
    assert "Did you mean temperature?" in shown and "top_p should be a number from 0 to 1, not 2" in shown
    assert server.chats[-1]["tempreature"] == 1 and "top_p" not in server.chats[-1]


def test_commands_say_what_they_cannot_do(play: Play, server: Server, home: Path) -> None:
    (home / "prompt.txt").write_text("Be brief.")
    shown = play(
        "/sessions -1" + ENTER,
        "/open nothing-like-it" + ENTER,
        "/summary edit" + ENTER,
        "/system @" + str(home / "prompt.txt") + ENTER,
        "/help" + ENTER,
        "hi" + ENTER,
    )
    assert "'-1' is no number of sessions" in shown and "/new NAME begins one" in shown
    assert "There are no notes yet" in shown and "@path attaches" in shown and "Ctrl-R" in shown
    assert server.chats[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_path_that_is_not_there_keeps_the_line_in_the_prompt(play: Play, server: Server, home: Path) -> None:
    shown = play("see @no/such/file.txt" + ENTER, "\x03" + "see nothing" + ENTER)
    assert "is not there" in shown and asked(server) == ["see nothing"]


def test_who_leaves_with_something_unsaved_is_told_once(play: Play, server: Server, home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "sessions").write_text("a file where the folder should be")
    shown = play("hello" + ENTER, "/exit" + ENTER, "/exit" + ENTER)
    assert shown.count("leaving again drops it") == 1


def test_switches_and_minus_mean_what_they_say(play: Play, server: Server) -> None:
    shown = play("/multiline off" + ENTER, "/toolbar maybe" + ENTER, "/title One" + ENTER, "/title -" + ENTER)
    assert "Enter sends, Alt-Enter makes a new line" in shown and "on or off, not 'maybe'" in shown
    assert "Title: One" in shown and "Title: (none)" in shown


def test_new_never_opens_and_fork_needs_something_to_copy(play: Play, server: Server) -> None:
    shown = play("/fork two" + ENTER, "one" + ENTER, "/new WORK" + ENTER, "/retry nosuch" + ENTER)
    assert "nothing to copy yet" in shown and "There is already a session 'WORK'" in shown
    assert "does not list 'nosuch'" in shown and "> one" in shown
