"""The `sessions` commands: list, search, rename, delete, prune, check and the rest."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatmem.history.records import header
from chatmem.stores.file.store import FileStore
from tests.conftest import Run
from tests.repl.test_pty import TerminalSession


@pytest.fixture
def store(home: Path) -> FileStore:
    return FileStore(home / "data" / "sessions")


def begin(store: FileStore, name: str, *texts: str, days: int = 0) -> None:
    time = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).isoformat()
    records: list[dict[str, Any]] = [header(name)]
    for n, text in enumerate(texts):
        role = ("user", "assistant")[n % 2]
        records.append(
            {
                "type": "message",
                "id": f"{name}{n}",
                "parent": f"{name}{n - 1}" if n else None,
                "role": role,
                "content": text,
                "time": time,
                "model": "m",
            }
        )
    store.open(name, records).close()


def listed(run: Run, *arguments: str) -> list[str]:
    return [session["name"] for session in json.loads(run("sessions", "list", "--json", *arguments).stdout)]


def test_lists_are_sorted_and_limited(run: Run, store: FileStore) -> None:
    begin(store, "b", "1", "2", days=3)
    begin(store, "a", "1", days=2)
    begin(store, "c", "1", "2", "3", "4", days=1)
    assert listed(run) == ["c", "a", "b"] and listed(run, "--sort", "name") == ["a", "b", "c"]
    assert (
        listed(run, "--sort", "turns", "-n", "1") == ["c"] and run("sessions", "list", "--sort", "size").returncode == 2
    )


def test_the_index_may_be_deleted_damaged_or_stale(run: Run, store: FileStore) -> None:
    begin(store, "a", "first")
    assert (
        listed(run) == ["a"] and store.directory.root.with_name("sessions.index.sqlite").stat().st_mode & 0o777 == 0o600
    )
    begin(store, "b", "second")
    run("chat", "-s", "a", input="more\n")
    assert (
        sorted(listed(run)) == ["a", "b"]
        and json.loads(run("sessions", "list", "--json", "--sort", "name").stdout)[0]["turns"] == 2
    )
    store.directory.root.with_name("sessions.index.sqlite").write_bytes(b"not a database at all" * 100)
    assert sorted(listed(run)) == ["a", "b"] == sorted(listed(run))
    store.directory.root.with_name("sessions.index.sqlite").unlink(missing_ok=True)
    store.delete("a", purge=True)
    assert listed(run) == ["b"]


def test_rename_changes_the_name_and_keeps_the_title(run: Run, store: FileStore) -> None:
    begin(store, "a", "hello")
    assert run("sessions", "rename", "a", "Lisbon trip").returncode == 0
    (one,) = json.loads(run("sessions", "list", "--json").stdout)
    assert (one["name"], one["title"]) == ("Lisbon trip", "hello")
    assert run("sessions", "rename", "Lisbon trip", "../x").returncode == 2


def test_delete_asks_for_confirmation_and_moves_to_the_trash(run: Run, store: FileStore, home: Path) -> None:
    begin(store, "a", "hello")
    done = run("sessions", "delete", "a")
    assert done.returncode == 2 and "--yes" in done.stderr and listed(run) == ["a"]
    assert run("sessions", "delete", "a", "--yes").returncode == 0 and listed(run) == []
    assert len(list((home / "data" / "trash").iterdir())) == 1
    begin(store, "b", "hello")
    run("sessions", "delete", "b", "--purge", "--yes")
    assert len(list((home / "data" / "trash").iterdir())) == 1


def test_restore_takes_a_session_out_of_the_trash_which_list_shows(run: Run, store: FileStore) -> None:
    assert run("sessions", "list", "--trash").stderr == "The trash is empty.\n"
    begin(store, "a b", "hello", "hi")
    deleted = run("sessions", "delete", "a b", "--yes")
    assert "chatmem sessions restore 'a b' brings it back." in deleted.stderr
    (entry,) = json.loads(run("sessions", "list", "--trash", "--json").stdout)
    assert (entry["name"], entry["title"], entry["turns"]) == ("a b", "hello", 1)
    assert run("sessions", "list", "--trash").stdout.startswith("a b\thello\t20")
    begin(store, "A b", "another")
    taken = run("sessions", "restore", "a b")
    assert taken.returncode == 2 and "restore 'a b' NEW" in taken.stderr
    assert run("sessions", "restore", "a b", "c").returncode == 0 and sorted(listed(run)) == ["A b", "c"]
    missing = run("sessions", "restore", "a b")
    assert missing.returncode == 9 and "is not in the trash" in missing.stderr


def test_a_fork_has_the_turns_up_to_the_given_one(run: Run, store: FileStore) -> None:
    begin(store, "a", "q1", "a1", "q2", "a2")
    assert run("sessions", "fork", "a", "b", "--at", "1").returncode == 0
    shown = json.loads(run("sessions", "show", "b", "--json").stdout)["messages"]
    assert [m["content"] for m in shown] == ["q1", "a1"] and len(store.session("a").path) == 4
    assert (
        run("sessions", "fork", "a", "b").returncode == 2
        and run("sessions", "fork", "a", "c", "--at", "9").returncode == 2
    )


def test_search_finds_all_words_in_one_message_and_phrases(run: Run, store: FileStore) -> None:
    begin(store, "a", "The sea horse swims.", "A horse is no Sea creature.")
    begin(store, "b", "Straße in ÖSTERREICH", 'quoted "sea horse" here')

    def found(*words: str) -> list[tuple[str, str]]:
        return [(h["session"], h["message"]) for h in json.loads(run("sessions", "search", "--json", *words).stdout)]

    assert sorted(found("SEA", "horse")) == [("a", "a0"), ("a", "a1"), ("b", "b1")]
    assert sorted(found('"sea horse"')) == [("a", "a0"), ("b", "b1")] == sorted(found("sea horse"))
    assert found("österreich") == [("b", "b0")] and found("straße") == [("b", "b0")]
    assert found("horse", "-s", "b") == [("b", "b1")] and found("zebra") == []
    done = run("sessions", "search", "sea horse")
    assert "sea horse" in done.stdout and "turn 1" in done.stdout and done.returncode == 0
    assert run("sessions", "search", "zebra").returncode == 9
    assert json.loads(run("sessions", "search", "--json", "swims").stdout)[0]["turn"] == 1


def test_prune_lists_asks_for_confirmation_and_keeps_the_newest(run: Run, store: FileStore) -> None:
    for days in (1, 40, 50, 60):
        begin(store, f"d{days}", "x", days=days)
    done = run("sessions", "prune", "--older-than", "30d")
    assert done.returncode == 2 and "d40" in done.stdout and len(listed(run)) == 4
    assert run("sessions", "prune", "--older-than", "30d", "--keep", "2", "--yes").returncode == 0
    assert (
        sorted(listed(run)) == ["d1", "d40"]
        and run("sessions", "prune", "--older-than", "soon", "--yes").returncode == 2
    )


def test_unused_sessions_expire_at_start_and_are_listed(run: Run, store: FileStore, home: Path) -> None:
    begin(store, "old", "x", days=40)
    begin(store, "new", "x", days=1)
    (home / "config.toml").write_text('discover = false\n[sessions]\nexpire = "30d"\n')
    done = run("chat", "-s", "t", input="hi\n")
    assert "Unused for 30d, now in the trash: old" in done.stderr and sorted(listed(run)) == ["new", "t"]


def test_stats_count_replies_by_model(run: Run, store: FileStore) -> None:
    begin(store, "a", "q", "a", "q", "a")
    body = json.loads(run("sessions", "stats", "--json").stdout)
    assert (body["sessions"], body["turns"], body["models"]["m"]["replies"]) == (1, 2, 2)
    assert "1 session, 2 turns, 2 replies" in run("sessions", "stats").stdout


def test_check_reports_damage(run: Run, store: FileStore) -> None:
    begin(store, "good", "x")
    assert run("sessions", "check").returncode == 0 and "ok" in run("sessions", "check", "good").stdout
    with store.path("good").open("a") as file:
        file.write("oops\n")
    done = run("sessions", "check", "--json")
    assert done.returncode == 7 and json.loads(done.stdout)[0]["broken_lines"] == [3]


def test_a_deep_check_names_lines_that_another_program_changed(run: Run, store: FileStore) -> None:
    begin(store, "good", "what is said")
    path = store.path("good")
    path.write_bytes(path.read_bytes().replace(b"what is said", b"what was said"))
    assert run("sessions", "check").returncode == 0
    done = run("sessions", "check", "--deep")
    assert done.returncode == 7 and "good: 1 message in 2 records, line 2 was changed outside chatmem" in done.stdout
    assert json.loads(run("sessions", "check", "--deep", "--json").stdout)[0]["changed_lines"] == [2]


def test_show_has_a_tree_of_branches(run: Run, store: FileStore) -> None:
    begin(store, "a", "q1", "a1")
    log = store.open("a")
    with log.exclusive():
        log.append(
            [{"type": "message", "id": "x", "parent": "a0", "role": "assistant", "content": "other", "time": ""}]
        )
    lines = run("sessions", "show", "a", "--tree").stdout.splitlines()
    assert lines == ["● > q1", "○     a1", "●     other"]


def test_path_prints_where_a_session_is(run: Run, store: FileStore) -> None:
    begin(store, "a", "x")
    assert run("sessions", "path", "a").stdout.strip() == str(store.path("a"))
    assert run("sessions", "path").stdout.strip() == str(store.directory.root)


def test_names_are_completed_with_their_titles(store: FileStore) -> None:
    from types import SimpleNamespace

    from chatmem.cli.options import session_names

    begin(store, "holiday", "Where to go in May?")
    context: Any = SimpleNamespace(params={})
    assert list(session_names(context, "ho")) == [("holiday", "Where to go in May?")]
    assert list(session_names(context, "x")) == []


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\tb", "x" * 300, "con", "link", "fifo"])
def test_an_invalid_name_never_leaves_the_directory_and_is_one_line(
    run: Run, store: FileStore, home: Path, name: str
) -> None:
    import os

    store.directory.make_dir(store.directory.root)
    (home / "outside").write_text("untouched")
    (store.directory.root / "link.jsonl").symlink_to(home / "outside")
    os.mkfifo(store.directory.root / "fifo.jsonl")
    os.mkfifo(store.directory.root / "fifo.link")
    before = sorted(str(p) for p in home.rglob("*") if "data" not in p.parts)
    for command in (["chat", "-s", name], ["sessions", "show", name], ["export", name]):
        done = run(*command, input="hi\n")
        assert done.returncode in (2, 9) and len(done.stderr.splitlines()) == 1, done
    assert run("chat", "-s", name, input="hi\n").returncode == 2
    assert (
        sorted(str(p) for p in home.rglob("*") if "data" not in p.parts) == before
        and (home / "outside").read_text() == "untouched"
    )


def test_a_context_of_many_turns_is_shown_as_runs_of_turns(run: Run, store: FileStore) -> None:
    begin(store, "long", *(f"text {number}" for number in range(122)))
    shown = run("context", "long", "--memory", "window:6").stdout
    assert "1–55" in shown and "56–61" in shown and shown.count("\n") < 10
    assert (
        sum("text" in line for line in run("context", "long", "--memory", "window:6", "--all").stdout.split("\n")) == 61
    )


def test_a_piped_list_tells_the_time_and_a_piped_comparison_names_its_columns(run: Run, store: FileStore) -> None:
    begin(store, "a", "first", "second", days=2)
    (line,) = run("sessions", "list").stdout.splitlines()
    assert re.fullmatch(r"a\tfirst\t\d{4}-\d\d-\d\dT[\d:.+]+\t1\t.*", line)
    assert run("compare", "a").stdout.startswith("strategy\tmessages\ttokens")


def test_show_renders_replies_on_a_terminal_and_prints_them_as_they_are_into_a_pipe(run: Run, store: FileStore) -> None:
    begin(store, "a", "a question of several words that is wider than the screen", "Use **bold**:\n\n```py\nx = 1\n```")
    assert "**bold**" in run("sessions", "show", "a").stdout
    one = TerminalSession(program=[sys.executable, "-m", "chatmem", "sessions", "show", "a"], columns=40)
    assert one.wait_for_exit() == 0
    assert "Use bold:" in one.everything and "── 1 · py ──" in one.everything and "**" not in one.everything
    assert "a question of several words that is\nwider than the screen" in one.everything


def test_a_long_output_starts_the_pager_and_ends_when_it_is_closed(run: Run, store: FileStore, home: Path) -> None:
    begin(store, "a", *(f"question or answer {n}" for n in range(2_000)))
    pager = home / "pager"
    pager.write_text("#!/bin/sh\nhead -n 30 > $0.seen\n")
    pager.chmod(0o700)
    one = TerminalSession(program=[sys.executable, "-m", "chatmem", "sessions", "show", "a"], PAGER=str(pager))
    assert one.wait_for_exit() == 0
    seen = Path(f"{pager}.seen").read_text()
    assert seen.count("question or answer") >= 9 and "question" not in one.everything


@pytest.mark.parametrize("pager", ["no-such-pager", 'less "', "", "cat"])
def test_an_output_without_a_pager_is_printed_whole(run: Run, store: FileStore, pager: str) -> None:
    begin(store, "a", *(f"text {n}" for n in range(60)))
    one = TerminalSession(program=[sys.executable, "-m", "chatmem", "sessions", "show", "a"], PAGER=pager)
    assert one.wait_for_exit() == 0
    assert all(f"text {n}\n" in one.everything for n in range(60))


def test_titles_are_cut_between_words(run: Run, store: FileStore) -> None:
    begin(store, "a", "remember everything about the extraordinarily comfortable accommodation in Lisbon and Porto")
    title = json.loads(run("sessions", "list", "--json").stdout)[0]["title"]
    assert title == "remember everything about the extraordinarily comfortable accommodation in…"
    one = TerminalSession(program=[sys.executable, "-m", "chatmem", "sessions", "list"], columns=58)
    one.wait_for_exit()
    assert "remember everything about the…" in one.everything


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("chatmem chat -s lis", "lisbon trip"),
        ("chatmem sessions show lis", "lisbon trip"),
        ("chatmem sessions res", "restore"),
        ("chatmem chat --memory tok", "token-trim"),
        ("chatmem export -f htm", "html"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_session_names_and_values(
    store: FileStore, shell: str, words: str, found: str
) -> None:
    begin(store, "lisbon trip", "hello")
    env = {**os.environ, "_CHATMEM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words}
    env |= {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run([sys.executable, "-m", "chatmem"], env=env, capture_output=True, text=True, check=False)
    assert found in done.stdout, done
