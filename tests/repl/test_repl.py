"""The interactive chat, through the real prompt: keys in, output out."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput

from chatmem.app import App
from chatmem.errors import StorageError
from chatmem.history.records import Record
from chatmem.repl.attachments import PasteBuffer
from chatmem.repl.commands.table import COMMANDS
from chatmem.repl.completer import MAX_PATHS
from chatmem.repl.input_history import MAX_ENTRY_CHARS, MAX_HISTORY_BYTES, PrivateHistory, RecentSuggestions
from chatmem.repl.repl import Repl
from chatmem.stores.file.directory import SessionDirectory
from chatmem.stores.file.log import FileLog
from chatmem.terminal.terminal import Terminal
from tests.repl.conftest import TypeKeys
from tests.server import OK, Answer, Request, Server, asked, delta, stream

ENTER, ALT_ENTER, CTRL_C, CTRL_D, CTRL_J, CTRL_R = "\r", "\x1b\r", "\x03", "\x04", "\n", "\x12"


def system(chat: Any) -> str:
    """The system prompt of a request, without the date after it."""
    first = chat["messages"][0]
    return str(first["content"]).partition("[Today is ")[0].rstrip() if first["role"] == "system" else ""


def questions(server: Server) -> list[str]:
    return [chat["messages"][-1]["content"] for chat in server.chats]


def test_enter_sends_and_the_reply_is_shown(type_keys: TypeKeys, server: Server) -> None:
    assert "1 messages; last: hello" in type_keys("hello" + ENTER)
    assert questions(server) == ["hello"]


def test_ctrl_d_quits_and_prints_the_command_that_resumes(type_keys: TypeKeys) -> None:
    assert type_keys("hello" + ENTER).endswith("Resume: chatmem chat -s work\n")
    assert "chatmem chat -s 'two words'" in type_keys("hello" + ENTER, name="two words")


def test_without_a_question_there_is_nothing_to_resume(type_keys: TypeKeys) -> None:
    assert "Resume:" not in type_keys()


@pytest.mark.parametrize("key", [ALT_ENTER, CTRL_J, "\x1b[13;2u", "\x1b[27;2;13~"])
def test_alt_enter_and_its_alternatives_insert_a_new_line(type_keys: TypeKeys, server: Server, key: str) -> None:
    type_keys("one" + key + "two" + ENTER)
    assert questions(server) == ["one\ntwo"]


def test_a_paste_of_several_lines_is_one_message_and_never_a_command(type_keys: TypeKeys, server: Server) -> None:
    type_keys("\x1b[200~/exit\r\ntwo\nthree\x1b[201~" + ENTER)
    assert questions(server) == ["/exit\ntwo\nthree"]


def test_ctrl_c_clears_the_line_and_on_an_empty_one_tells_how_to_quit(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys("never sent" + CTRL_C, CTRL_C, "sent" + ENTER)
    assert questions(server) == ["sent"] and "Ctrl-D to quit" in shown


def test_ctrl_r_finds_earlier_input(type_keys: TypeKeys, server: Server) -> None:
    type_keys("find me" + ENTER)
    type_keys(CTRL_R + "find" + ENTER + ENTER)
    assert questions(server) == ["find me", "find me"]


def test_a_line_that_starts_with_a_space_is_not_added_to_the_history(type_keys: TypeKeys, home: Any) -> None:
    type_keys(" secret" + ENTER, "known" + ENTER)
    history = (home / "data" / "state" / "history").read_text()
    assert "known" in history and "secret" not in history


def test_an_unknown_command_suggests_the_nearest(type_keys: TypeKeys, server: Server) -> None:
    assert "Did you mean /help?" in type_keys("/hlp" + ENTER) and server.chats == []


def test_two_slashes_send_a_message_that_starts_with_one(type_keys: TypeKeys, server: Server) -> None:
    type_keys("//etc/hosts" + ENTER)
    assert questions(server) == ["/etc/hosts"]


def test_help_names_every_command(type_keys: TypeKeys) -> None:
    shown = type_keys("/help" + ENTER)
    assert all(f"/{name}" in shown for name in COMMANDS)


def test_exit_quits(type_keys: TypeKeys, server: Server) -> None:
    type_keys("/exit" + ENTER, "never" + ENTER)
    assert server.chats == []


def test_an_error_is_one_line_and_the_chat_continues(type_keys: TypeKeys, server: Server) -> None:
    server.answers = [b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", stream("fine")]
    shown = type_keys("one" + ENTER, "two" + ENTER)
    assert "refused the API key" in shown and "fine" in shown and "Traceback" not in shown


def test_retry_asks_the_last_question_again(type_keys: TypeKeys, server: Server) -> None:
    server.answers = [OK + delta("half"), stream("whole")]
    type_keys("again" + ENTER, "/retry" + ENTER)
    assert questions(server) == ["again", "again"]


def test_opening_a_session_shows_its_title_and_last_turn(type_keys: TypeKeys) -> None:
    type_keys("the question" + ENTER)
    shown = type_keys()
    assert (
        "Session 'work' · the question · 1 turn ·" in shown
        and "> the question" in shown
        and "last: the question" in shown
    )


def test_a_pasted_line_with_its_newline_is_not_a_command(type_keys: TypeKeys, server: Server) -> None:
    type_keys("\x1b[200~/exit\n\x1b[201~" + ENTER)
    assert questions(server) == ["/exit\n"]


def test_a_file_named_in_a_paste_is_not_attached_but_a_typed_one_is(
    type_keys: TypeKeys, server: Server, home: Path
) -> None:
    (home / "secret.txt").write_text("the key")
    shown = type_keys(f"\x1b[200~see @{home}/secret.txt\x1b[201~" + ENTER, f"@{home}/secret.txt" + ENTER)
    first, second = questions(server)
    assert "the key" not in first and "the key" in second and "not attached" in shown


def test_ctrl_c_leaves_the_search_and_keeps_the_prompt(type_keys: TypeKeys, server: Server) -> None:
    type_keys("one" + ENTER, "\x12on" + CTRL_C, "two" + ENTER)
    assert questions(server) == ["one", "two"]


def test_undo_of_more_turns_than_there_are_is_an_error(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys("one" + ENTER, "/undo 9" + ENTER, "/undo 0" + ENTER, "two" + ENTER)
    assert shown.count("The conversation has only 1 turn.") == 1 and "'0' is not a turn number" in shown
    assert [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"] == ["one", "two"]


def test_a_missing_editor_is_reported_and_the_line_stays(
    type_keys: TypeKeys, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert "Cannot run the editor" in type_keys("kept\x18\x05" + ENTER)
    assert questions(server) == ["kept"]


def test_an_ephemeral_chat_leaves_no_file(keys: PipeInput, server: Server, home: Any) -> None:
    from chatmem.stores.memory import MemoryStore

    screen, app = io.StringIO(), App(offline=True)
    repl = Repl(app.chat("x", store=MemoryStore()), app, Terminal(screen, screen))
    keys.send_text("secret thing" + ENTER + CTRL_D)
    assert repl.run() == 0 and "This chat is not saved" in screen.getvalue() and "Resume:" not in screen.getvalue()
    assert not any(b"secret" in p.read_bytes() for p in (home / "data").rglob("*") if p.is_file())


def test_a_question_that_was_not_stored_returns_to_the_prompt(keys: PipeInput, server: Server) -> None:
    screen, app = io.StringIO(), App(offline=True, wait=False)
    first = app.chat("work")
    list(first.send("one"))
    assert first.journal._log
    with first.journal._log.exclusive():
        repl = Repl(app.chat("work"), app, Terminal(screen, screen))
        repl.handle_line("my precious text")
    assert "in use" in screen.getvalue()
    keys.send_text(ENTER + CTRL_D)
    repl.run()
    assert questions(server) == ["one", "my precious text"]


def test_pins_and_exclusions_are_set_by_number_and_shown(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys(
        *(f"question {n}" + ENTER for n in range(4)),
        "/pin 1" + ENTER,
        "/exclude 2" + ENTER,
        "/memory window:1" + ENTER,
        "last" + ENTER,
        "/context" + ENTER,
    )
    sent = [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"]
    assert sent == ["question 0", "question 3", "last"]
    assert "pinned by you" in shown and "excluded by you" in shown and "Memory: window:1" in shown


def test_the_plan_is_what_is_sent_next(type_keys: TypeKeys, server: Server) -> None:
    type_keys("one" + ENTER, "two" + ENTER)
    app = App(offline=True)
    expected = list(app.chat("work", read_only=True).plan("three").messages)
    type_keys("three" + ENTER)
    assert server.chats[-1]["messages"] == expected


def test_why_explains_which_context_a_reply_had(type_keys: TypeKeys) -> None:
    shown = type_keys("one" + ENTER, "two" + ENTER, "/why 2" + ENTER)
    assert "Turn 2 · test-model · summary" in shown and "sent verbatim: turn 1" in shown


def test_the_first_turn_that_is_left_out_is_named_with_the_offer_to_pin_it(type_keys: TypeKeys) -> None:
    shown = type_keys("/memory window:1" + ENTER, *(f"question {n}" + ENTER for n in range(4)))
    assert shown.count("is now left out of the context") == 1 and "Turn 1 (“question 0”)" in shown and "/pin 1" in shown


def test_compare_has_a_row_per_strategy(type_keys: TypeKeys) -> None:
    shown = type_keys("one" + ENTER, "two" + ENTER, "/compare" + ENTER)
    assert all(name in shown for name in ("buffer", "window", "token-trim", "summary"))


def test_summary_says_when_there_is_none_yet(type_keys: TypeKeys) -> None:
    assert "No summary yet" in type_keys("/summary" + ENTER)


@pytest.mark.parametrize("line", ["/pin", "/pin x", "/pin 99", "/memory windw", "/summary x", "/why x"])
def test_an_invalid_argument_is_one_line(type_keys: TypeKeys, line: str) -> None:
    shown = type_keys("one" + ENTER, line + ENTER)
    assert "Traceback" not in shown


def complete(repl: Repl, line: str) -> list[str]:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from chatmem.repl.completer import ReplCompleter

    return [c.text for c in ReplCompleter(repl).get_completions(Document(line), CompleteEvent())]


@pytest.fixture
def repl(keys: PipeInput, server: Server) -> Repl:
    server.models = [{"id": "test-model"}, {"id": "other-model", "context_length": 32768}]
    app = App(offline=True)
    list(app.chat("holiday").send("Where to?"))
    return Repl(app.chat("work"), app, Terminal(io.StringIO(), io.StringIO()))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/und", "/undo"),
        ("/cxt", "/context"),
        ("/open hol", "holiday"),
        ("/model oth", "other-model"),
        ("/model off", "offline"),
        ("/memory win", "window"),
        ("/memory summary:4000,rec", "summary:4000,recall_tokens="),
        ("/set temp", "temperature"),
        ("/help und", "undo"),
        ("/set reasoning_effort h", "high"),
        ("/set top_p ", "-"),
        ("/toolbar ", "off"),
        ("/delete hol", "holiday"),
        ("/copy ", "all"),
    ],
)
def test_commands_and_their_arguments_are_completed_fuzzily(repl: Repl, line: str, found: str) -> None:
    assert found in complete(repl, line)


@pytest.mark.parametrize("line", ["hello", "//und", "/set unknown 0", "a /und", "/und\nx"])
def test_nothing_else_is_completed(repl: Repl, line: str) -> None:
    assert complete(repl, line) == []


def test_paths_are_completed_after_an_at_sign_and_where_a_file_is_written(repl: Repl, home: Any) -> None:
    (home / "notes.txt").write_text("x")
    assert complete(repl, f"see @{home}/not") == ["es.txt"] == complete(repl, f"/save {home}/not")


def test_the_toolbar_shows_what_fits(repl: Repl) -> None:
    from chatmem.repl.toolbar import fit_to_width

    repl.prompt.refresh()
    items = repl.prompt._items
    assert [item[0] for item in items[:3]] == ["work", "test-model", "summary"] and "/6,144 " in items[3][0]
    assert fit_to_width(items, 60).count("▱") == 10 and fit_to_width(items, 50).endswith("estimated")
    assert fit_to_width(items, 32).endswith("%") and fit_to_width(items, 3) in ("wo…", "wor")
    long = [("x" * 64, "x" * 19 + "…", "x" * 7 + "…"), *items[1:]]
    assert "test-model" in fit_to_width(long, 80) and "6,144" in fit_to_width(long, 80)


def test_undo_removes_a_turn_and_branches_restores_it(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys(
        "one" + ENTER,
        "two" + ENTER,
        "/undo" + ENTER,
        "three" + ENTER,
        "/branches" + ENTER,
        "/branches 1" + ENTER,
        "four" + ENTER,
    )
    sent = [[m["content"] for m in c["messages"] if m["role"] == "user"] for c in server.chats]
    assert sent == [["one"], ["one", "two"], ["one", "three"], ["one", "two", "four"]] and "Removed turn 2" in shown


def test_edit_asks_a_changed_question(
    type_keys: TypeKeys, server: Server, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = home / "editor"
    editor.write_text('#!/bin/sh\necho "changed" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    type_keys("one" + ENTER, "two" + ENTER, "/edit 1" + ENTER)
    assert questions(server) == ["one", "two", "changed"] and len(asked(server.chats[-1])) == 1


def test_retry_with_another_model_applies_to_one_turn(type_keys: TypeKeys, server: Server) -> None:
    type_keys("one" + ENTER, "/retry other" + ENTER, "two" + ENTER)
    assert [c["model"] for c in server.chats] == ["test-model", "other", "test-model"]


def test_settings_are_stored_in_the_session_and_can_be_removed(type_keys: TypeKeys, server: Server) -> None:
    type_keys("/model other" + ENTER, "/set temperature 0.3" + ENTER, "/system Be brief." + ENTER, "one" + ENTER)
    type_keys("/set temperature -" + ENTER, "/system -" + ENTER, "two" + ENTER)
    first, second = server.chats
    assert (first["model"], first["temperature"], system(first)) == ("other", 0.3, "Be brief.")
    assert second["model"] == "other" and "temperature" not in second and not system(second)


def test_fork_open_new_and_title_move_between_sessions(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys(
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


def test_clear_starts_an_empty_path_in_the_same_session(type_keys: TypeKeys, server: Server) -> None:
    type_keys("one" + ENTER, "/clear" + ENTER, "two" + ENTER)
    assert [len(asked(c)) for c in server.chats] == [1, 1]


def test_copy_sends_a_code_block_to_the_clipboard(type_keys: TypeKeys, server: Server) -> None:
    server.answers = [stream("Here:\n\n```python\nprint(1)\n```\n")]
    shown = type_keys("code" + ENTER, "/copy 1" + ENTER, "/copy 2" + ENTER)
    assert "Copied 9 characters" in shown and "has 1 code block." in shown


def test_save_writes_a_copy_and_never_overwrites_a_file(type_keys: TypeKeys, home: Any) -> None:
    target = home / "out.json"
    shown = type_keys(
        "one" + ENTER, f"/save {target}" + ENTER, f"/save {target}" + ENTER, f"/export {home}/out.md" + ENTER
    )
    assert "one" in target.read_text() and "already exists" in shown and (home / "out.md").read_text().startswith("---")


def test_tokens_stats_multiline_and_help_print_something(type_keys: TypeKeys) -> None:
    shown = type_keys(
        "one" + ENTER,
        "/tokens" + ENTER,
        "/stats" + ENTER,
        "/help undo" + ENTER,
        "/multiline" + ENTER,
        "/multiline" + ALT_ENTER,
    )
    assert (
        "tokens (" in shown
        and "1 session" in shown
        and "/undo [N]" in shown
        and "Alt-Enter (or Esc, then Enter) sends" in shown
    )


def test_a_slash_command_takes_precedence_over_flags(keys: PipeInput, server: Server) -> None:
    from chatmem.cli.runner import CommandContext

    context = CommandContext()
    initial = context.apply_flags(model="flag-model", memory="window:2", system="SYSA")
    context.app.offline = True
    one = context.app.chat("work", initial)
    for name in initial:
        del context.flags[name]
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
    Repl(one, context.app, Terminal(screen, screen)).run()
    assert [c["model"] for c in server.chats] == ["flag-model", "m2", "m3", "test-model"]
    assert [system(c) for c in server.chats] == ["SYSA", "SYSB", "SYSB", ""]


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_number_that_is_not_finite_is_refused(type_keys: TypeKeys, server: Server, value: str) -> None:
    shown = type_keys(f"/set temperature {value}" + ENTER, "hello" + ENTER)
    assert "cannot be sent" in shown and questions(server) == ["hello"]


def test_undo_removes_no_turn_that_was_never_shown(keys: PipeInput, server: Server) -> None:
    screen, app = io.StringIO(), App(offline=True)
    repl = Repl(app.chat("work"), app, Terminal(screen, screen))
    repl.handle_line("q1")
    repl.handle_line("q2")
    list(App(offline=True).chat("work").send("q3"))
    repl.handle_line("/undo")
    assert "Another process has continued this session" in screen.getvalue()
    repl.handle_line("/context")
    assert "q3" in screen.getvalue()


def test_the_configured_system_prompt_applies_when_another_process_created_the_session(
    keys: PipeInput, server: Server, home: Any
) -> None:
    (home / "config.toml").write_text('system = "CONFIGSYS"\ntitles = "off"\n')
    screen, app = io.StringIO(), App(offline=True)
    repl = Repl(app.chat("work", {"model": "mine"}), app, Terminal(screen, screen))
    repl.chat.plan()
    list(App(offline=True).chat("work").send("from other"))
    repl.handle_line("hello")
    assert system(server.chats[-1]) == "CONFIGSYS" and server.chats[-1]["model"] == "mine"
    assert len(server.chats[-1]["messages"]) == 4


def test_a_server_that_truncates_silently_is_noticed(type_keys: TypeKeys, server: Server) -> None:
    server.otherwise = lambda request: stream("ok", usage={"prompt_tokens": 300, "completion_tokens": 2})
    shown = type_keys(*(f"{n} " + "word " * 90 + ENTER for n in range(6)))
    assert "If its context window is smaller" in shown


def test_options_are_validated_before_they_are_sent(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys(
        "/set temperature warm" + ENTER, "/set tempreature 1" + ENTER, "/set top_p 2" + ENTER, "hi" + ENTER
    )
    assert "temperature must be a number of at least 0, not 'warm'" in shown
    assert "Did you mean temperature?" in shown and "top_p must be a number from 0 to 1, not 2" in shown
    assert "tempreature" not in server.chats[-1] and "top_p" not in server.chats[-1]


def test_commands_report_what_they_cannot_do(type_keys: TypeKeys, server: Server, home: Path) -> None:
    (home / "prompt.txt").write_text("Be brief.")
    shown = type_keys(
        "/sessions -1" + ENTER,
        "/open nothing-like-it" + ENTER,
        "/summary edit" + ENTER,
        "/system @" + str(home / "prompt.txt") + ENTER,
        "/help" + ENTER,
        "hi" + ENTER,
    )
    assert "'-1' is not a number of sessions" in shown and "/new NAME starts one" in shown
    assert "No summary yet" in shown and "@path attaches" in shown and "Ctrl-R" in shown
    assert system(server.chats[-1]) == "Be brief."


def test_a_path_that_does_not_exist_keeps_the_line_in_the_prompt(
    type_keys: TypeKeys, server: Server, home: Path
) -> None:
    shown = type_keys("see @no/such/file.txt" + ENTER, "\x03" + "see nothing" + ENTER)
    assert "does not exist" in shown and questions(server) == ["see nothing"]


def test_a_question_that_cannot_be_stored_is_not_sent_and_back_in_the_prompt(
    type_keys: TypeKeys, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, make_dir = [StorageError("The disk is full.")], SessionDirectory.make_dir

    def fail_once(directory: SessionDirectory, path: Path | None = None) -> Path:
        if errors:
            raise errors.pop()
        return make_dir(directory, path)

    monkeypatch.setattr(SessionDirectory, "make_dir", fail_once)
    shown = type_keys("hello" + ENTER, " again" + ENTER)
    assert "The disk is full. Nothing was sent." in shown and questions(server) == ["hello again"]


def test_quitting_with_an_unsaved_reply_warns_once(
    type_keys: TypeKeys, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = FileLog.append

    def refuse_replies(log: FileLog, records: Iterable[Record]) -> None:
        records = list(records)
        if any(record.get("role") == "assistant" for record in records):
            raise StorageError("The disk is full.")
        append(log, records)

    monkeypatch.setattr(FileLog, "append", refuse_replies)
    shown = type_keys("hello" + ENTER, "/exit" + ENTER, "/exit" + ENTER)
    assert shown.count("Quit again to discard it") == 1 and shown.count("Not saved: The disk is full.") == 2


def test_switches_and_minus_work(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys("/multiline off" + ENTER, "/toolbar maybe" + ENTER, "/title One" + ENTER, "/title -" + ENTER)
    assert "Enter sends, Alt-Enter inserts a new line" in shown and "on or off, not 'maybe'" in shown
    assert "Title: One" in shown and "Title: (none)" in shown


def test_new_never_opens_and_fork_needs_something_to_copy(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys("/fork two" + ENTER, "one" + ENTER, "/new WORK" + ENTER, "/retry nosuch" + ENTER)
    assert "nothing to copy yet" in shown and "There is already a session 'WORK'" in shown
    assert "does not list 'nosuch'" in shown and "> one" in shown


def summarises(server: Server) -> None:
    """Make the server answer requests for a summary with one."""
    answer = server.otherwise

    def with_summaries(request: Request) -> Answer:
        is_summary = request.json["messages"][0]["content"].startswith("You summarise")
        return stream("User: likes tea.") if is_summary else answer(request)

    server.otherwise = with_summaries


def test_compact_summarises_all_but_the_newest_turn_and_asks_before_the_summary_is_used(
    type_keys: TypeKeys, server: Server
) -> None:
    summarises(server)
    shown = type_keys(
        "one" + ENTER, "two" + ENTER, "three" + ENTER, "/compact the tea" + ENTER, "y" + ENTER, "four" + ENTER
    )
    assert re.search(r"◐ turns 1 to 2, \d+ tokens instead of \d+:", shown) and "User: likes tea." in shown
    request, sent = server.chats[-2]["messages"], server.chats[-1]["messages"]
    assert (
        request[0]["content"].endswith("Pay particular attention to: the tea") and "user: one" in request[1]["content"]
    )
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert "User: likes tea." in sent[0]["content"] and sent[1]["content"] == "three"
    type_keys("/summary redo" + ENTER, "five" + ENTER)
    assert [m["content"] for m in server.chats[-1]["messages"] if m["role"] == "user"] == [
        "one",
        "two",
        "three",
        "four",
        "five",
    ]


def test_forget_lists_what_it_hides_and_asks(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys(
        "My locker code is XK-4821." + ENTER,
        "two" + ENTER,
        "/forget locker code" + ENTER,
        "n" + ENTER,
        "/forget" + ENTER,
    )
    assert "↩ turn 1: My locker code is XK-4821." in shown and "Nothing was changed." in shown
    assert "Nothing was forgotten." in shown
    shown = type_keys(
        "/forget locker code" + ENTER,
        "y" + ENTER,
        "/forget" + ENTER,
        "/forget locker code" + ENTER,
        "/forget zebra" + ENTER,
    )
    assert "Forgotten: neither" in shown and "Turn 1 is still sent as a whole. /exclude 1 hides it." in shown
    assert "✕ locker code" in shown and shown.count("Nothing in this conversation contains all of these words.") == 2
    type_keys("/memory window:1,recall_tokens=400" + ENTER, "Which locker code is it?" + ENTER)
    assert "4821" not in str(server.chats[-1]["messages"])
    shown = type_keys(
        "/forget undo zebra" + ENTER, "/forget undo locker code" + ENTER, "So which locker code is it?" + ENTER
    )
    assert (
        "'zebra' was not forgotten." in shown and "Taken back." in shown and "4821" in str(server.chats[-1]["messages"])
    )
    type_keys("/memory buffer" + ENTER, "And now?" + ENTER)
    assert "4821" in str(server.chats[-1]["messages"]), "a whole turn is still sent"


def test_why_shows_the_passages_and_the_turns_that_a_reply_was_based_on(type_keys: TypeKeys, server: Server) -> None:
    summarises(server)
    type_keys(
        "I like tea, my locker is XK-4821." + ENTER, "two" + ENTER, "three" + ENTER, "/compact" + ENTER, "y" + ENTER
    )
    shown = type_keys("Which locker is it?" + ENTER, "/why" + ENTER)
    assert "◐ summary: 1 segment" in shown and "its lines stem from turn 1" in shown
    assert "↩ retrieved from: turns 1, 2" in shown and "↩ turn 1: I like tea, my locker is XK-4821." in shown


def test_summary_shows_the_turns_of_each_line(type_keys: TypeKeys, server: Server) -> None:
    summarises(server)
    type_keys("I like tea." + ENTER, "two" + ENTER, "three" + ENTER, "/compact" + ENTER, "y" + ENTER)
    assert "likes tea.  [turn 1]" in type_keys("/summary" + ENTER)


def test_compact_changes_nothing_without_a_yes(type_keys: TypeKeys, server: Server) -> None:
    summarises(server)
    shown = type_keys("one" + ENTER, "two" + ENTER, "/compact" + ENTER, "n" + ENTER, "three" + ENTER)
    assert "Discarded. Nothing was changed." in shown and len(asked(server.chats[-1])) == 5
    shown = type_keys("/memory buffer" + ENTER, "/compact" + ENTER, "n" + ENTER)
    assert "Nothing was changed" in shown and "Summarising" not in shown


def test_compact_of_a_single_turn_has_nothing_to_summarise(type_keys: TypeKeys) -> None:
    assert "There is nothing to summarise" in type_keys("one" + ENTER, "/compact" + ENTER)


def test_a_directory_of_many_files_is_completed_from_some_of_them(repl: Repl, home: Path) -> None:
    for number in range(MAX_PATHS + 20):
        (home / f"file{number}").touch()
    (home / "folder").mkdir()
    assert len(complete(repl, f"see @{home}/fi")) == MAX_PATHS
    assert complete(repl, f"see @{home}/fo") == ["lder/"] and complete(repl, f"see @{home}/none/x") == []


def history_of(path: Path) -> list[str]:
    return list(PrivateHistory(str(path), PasteBuffer()).load_history_strings())


def test_the_end_of_a_long_history_is_read_and_very_long_messages_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "history"
    history = PrivateHistory(str(path), PasteBuffer())
    for entry in ("first", "two\nlines", "x" * (MAX_ENTRY_CHARS + 1), " secret", "last"):
        history.store_string(entry)
    assert history_of(path) == ["last", "two\nlines", "first"]
    entry = "\n# 2026-05-03\n+" + "y" * 1000 + "\n"
    path.write_text("\n# 2026-05-03\n+lost\n" + entry * (MAX_HISTORY_BYTES // len(entry) + 5))
    found = history_of(path)
    assert set(found) == {"y" * 1000} and MAX_HISTORY_BYTES // len(entry) - 2 <= len(found) <= MAX_HISTORY_BYTES // 1000


def test_suggestions_come_from_the_newest_entries_of_usual_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatmem.repl.input_history.MAX_SUGGESTIONS", 3)
    history = InMemoryHistory(["hello old", "hello " + "x" * 3000, "say hello\nhello world", "bye"])
    buffer = Buffer(history=history)

    def suggested(text: str) -> str | None:
        found = RecentSuggestions().get_suggestion(buffer, Document(text))
        return found.text if found else None

    asyncio.run(history_loaded(history))
    assert suggested("hello ") == "world" and suggested("b") == "ye" and suggested("hello o") is None
    assert suggested("first line\nsay") == " hello" and suggested(" ") is None


async def history_loaded(history: InMemoryHistory) -> None:
    async for _ in history.load():
        pass


def test_a_misspelled_option_is_refused_and_an_unknown_one_is_sent(type_keys: TypeKeys, server: Server) -> None:
    shown = type_keys("/set temperatur 0.5" + ENTER + "/set top_a 0.1" + ENTER)
    assert "Did you mean temperature?" in shown and "Options: top_a = 0.1" in shown


@pytest.mark.parametrize(("seconds", "has_left", "announced"), [(0, True, 1), (0, False, 0), (60, True, 0)])
def test_the_end_of_a_long_reply_is_announced_if_another_window_has_the_focus(
    keys: PipeInput, server: Server, monkeypatch: pytest.MonkeyPatch, seconds: int, has_left: bool, announced: int
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("chatmem.repl.repl.LONG_REPLY_SECONDS", seconds)
    monkeypatch.setenv("TERM", "dumb")
    screen, app = Screen(), App(offline=True)
    repl = Repl(app.chat("work"), app, Terminal(screen, screen))
    monkeypatch.setattr(repl.prompt, "end_wait", lambda: has_left)
    repl.handle_line("hello")
    assert screen.getvalue().count("\x1b]9;chatmem: the reply in work is there\x1b\\\x07") == announced
