"""Unusual servers, settings and sessions: bugs that were found and fixed, one test each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chatmem import app
from chatmem.models import discovery
from tests.conftest import Run
from tests.fakes import wait_until
from tests.server import OK, Server, asked, delta, event, status, stream


def sent(server: Server) -> list[Any]:
    messages: list[Any] = server.chats[-1]["messages"]
    return messages


def test_a_profile_with_its_own_server_inherits_neither_key_nor_organization(
    run: Run, server: Server, home: Path
) -> None:
    profile = f'base_url="{server.url}"\nmodel="m"\n'
    (home / "config.toml").write_text(
        f'api_key_cmd = "echo sk-OPENAI-SECRET"\norganization = "org-mine"\n[profiles.local]\n{profile}[profiles.other]\n{profile}api_key_env="OTHER_KEY"\n'
    )
    run("ask", "--profile", "local", "hi")
    run("ask", "--profile", "other", "hi", OTHER_KEY="sk-other-key")
    local, other = (r.headers for r in server.requests if r.method == "POST")
    assert "SECRET" not in str(local) + str(other) and "org-mine" not in str(local) + str(other)
    assert other["authorization"] == "Bearer sk-other-key"


@pytest.mark.parametrize("lie", [int("9" * 400), -5, 10**18, "many", None, 1.5])
def test_an_absurd_usage_is_tolerated(run: Run, server: Server, lie: Any) -> None:
    server.answers = [stream("fine", usage={"prompt_tokens": lie, "completion_tokens": lie})]
    assert run("ask", "-s", "h", "hello").returncode == 0
    assert run("ask", "-s", "h", "again").returncode == 0 and run("context", "h").returncode == 0


def test_an_absurd_context_length_is_ignored(run: Run, server: Server) -> None:
    server.models = [{"id": "test-model", "context_length": 10**30}]
    assert json.loads(run("models", "--json").stdout)[0]["context_window"] is None


@pytest.mark.parametrize("options", ["temperature = nan", "temperature = inf", "messages = []", 'model = "x"', "n = 2"])
def test_an_option_that_cannot_be_sent_exits_2(run: Run, server: Server, home: Path, options: str) -> None:
    (home / "config.toml").write_text(f"[options]\n{options}\n")
    done = run("ask", "hi")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not server.chats


@pytest.mark.parametrize("word", ["zebrafish", "Quentin notice the walrus", "ordinary"])
@pytest.mark.parametrize("said", [1, 5])
def test_context_shows_what_is_sent_including_retrieved_lines(run: Run, server: Server, word: str, said: int) -> None:
    lines = [
        f"line {n} of ordinary words about {'the zebrafish and the walrus' if n < said else 'nothing'}"
        for n in range(20)
    ]
    run("chat", "-s", "r", "--memory", "window:2,recall_tokens=200", input="\n".join(lines) + "\n")
    question = f"Did {word} come up?"
    shown = json.loads(run("context", "r", "--ask", question, "--json").stdout)["messages"]
    run("ask", "-s", "r", question)
    assert sent(server) == shown


def test_context_accepts_the_flags_of_ask_and_repairs_surrogates_alike(run: Run, server: Server) -> None:
    run("ask", "-s", "r", "first")
    arguments = ["--memory", "window:0", "--system", "Be brief.", "-m", "other"]
    shown = json.loads(run("context", "r", "--ask", "h\udcffi", "--json", *arguments).stdout)["messages"]
    run("ask", "-s", "r", "h\udcffi", *arguments)
    assert sent(server) == shown and shown[0]["content"] == "Be brief."


def test_opening_an_old_session_does_not_expire_it(run: Run, server: Server, home: Path) -> None:
    run("chat", "-s", "old", input="one\n")
    path = home / "data" / "sessions" / "old.jsonl"
    path.write_text(path.read_text().replace(time.strftime("%Y-"), "2019-"))
    (home / "config.toml").write_text('[sessions]\nexpire = "30d"\n')
    run("chat", "-s", "old", input="two\n")
    assert len(asked(server.chats[-1])) == 3


def test_a_learned_window_expires(run: Run, server: Server, home: Path) -> None:
    server.answers = [status(400, {"error": {"message": "maximum context length is 100 tokens"}}), stream("ok")]
    run("ask", "-s", "o", "hello")
    learned = home / "data" / "cache" / "servers.json"
    assert json.loads(run("context", "o", "--json").stdout)["budget"] == 75
    learned.write_text(learned.read_text().replace('"window_at": 1', '"window_at": 0.1'))
    assert json.loads(run("context", "o", "--json").stdout)["budget"] == 6144


def test_a_learned_limit_counts_unless_a_window_is_configured(run: Run, server: Server, home: Path) -> None:
    server.answers = [status(400, {"error": {"message": "maximum context length is 1000 tokens"}}), stream("ok")]
    run("ask", "-s", "o", "hello")
    assert json.loads(run("context", "o", "--json").stdout)["budget"] == 750
    (home / "config.toml").write_text("discover = false\ncontext_window = 8192\n")
    assert json.loads(run("context", "o", "--json").stdout)["budget"] == 6144


def test_an_overflow_that_includes_the_reply_drops_only_what_is_necessary(run: Run, server: Server, home: Path) -> None:
    (home / "config.toml").write_text("[options]\nmax_tokens = 3000\n")
    words = "word " * 180
    run("chat", "-s", "mt", "--memory", "buffer", input="".join(f"{n} {words}\n" for n in range(10)))
    message = "maximum context length is 4096 tokens. However, you requested 5737 tokens (2737 in the messages, 3000 in the completion)"
    server.answers = [status(400, {"error": {"message": message}}), stream("ok")]
    assert run("ask", "-s", "mt", "now", "--memory", "buffer").returncode == 0
    before, after = server.chats[-2]["messages"], server.chats[-1]["messages"]
    assert 1 < len(after) < len(before)


def test_a_context_error_during_a_reply_is_an_incomplete_reply_and_not_retried(run: Run, server: Server) -> None:
    server.answers = [
        OK
        + delta("partial ")
        + event({"error": {"message": "context size exceeded: maximum context length is 4096 tokens"}})
    ]
    done = run("ask", "-s", "ov", "hello")
    assert done.returncode == 6 and done.stdout == "partial \n" and len(server.chats) == 1


def test_a_key_command_does_not_read_the_piped_questions(run: Run, server: Server, home: Path) -> None:
    (home / "config.toml").write_text("api_key_cmd = \"sh -c 'cat >/dev/null; echo sk-from-command'\"\n")
    run("chat", "-s", "s", input="one\ntwo\nthree\n")
    assert len(server.chats) == 3


def test_a_key_that_a_server_quotes_is_masked(run: Run, server: Server) -> None:
    server.answers = [status(401, {"error": {"message": "Invalid key: Bearer sk-test-canary-0123456789"}})]
    done = run("ask", "hi")
    assert done.returncode == 4 and "canary" not in done.stderr and "Bearer …" in done.stderr


def test_max_tokens_is_sent_under_the_name_that_the_server_expects(run: Run, server: Server, home: Path) -> None:
    (home / "config.toml").write_text("[options]\nmax_tokens = 50\n")
    server.answers = [
        status(
            400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
        ),
        stream("ok"),
    ]
    assert run("ask", "hi").returncode == 0
    assert server.chats[1]["max_completion_tokens"] == 50 and "max_tokens" not in server.chats[1]


def test_purging_erases_torn_files_even_after_a_rename(run: Run, home: Path) -> None:
    run("chat", "-s", "s", input="hello\n")
    with (home / "data" / "sessions" / "s.jsonl").open("a") as file:
        file.write('{"torn":"SECRETTEXT')
    run("chat", "-s", "s", input="more\n")
    run("sessions", "rename", "s", "t")
    run("sessions", "delete", "t", "--yes", "--purge")
    assert not any(b"SECRETTEXT" in p.read_bytes() for p in (home / "data").rglob("*") if p.is_file())


def test_a_json_reply_does_not_wait_for_a_summary(server: Server, run: Run, home: Path) -> None:
    import threading

    (home / "config.toml").write_text("[summaries]\nwait = 30\n[memory.summary]\nmax_tokens = 300\n")
    gate = threading.Event()

    def answer(request: Any) -> Any:
        def pause(request: Any, connection: Any) -> None:
            gate.wait(30)

        return pause if "You summarise" in request.json["messages"][0]["content"] else stream("reply " * 20)

    server.otherwise = answer
    for n in range(6):
        run("ask", "-s", "f", f"question {n} " + "word " * 20, CHATMEM_MEMORY="buffer")
    command = [sys.executable, "-m", "chatmem", "ask", "-s", "f", "--json", "question 6 " + "word " * 20]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout and json.loads(process.stdout.readline())["content"].startswith("reply")
        wait_until(lambda: any("You summarise" in c["messages"][0]["content"] for c in server.chats))
        assert process.poll() is None
        process.kill()
    gate.set()


def test_compare_uses_the_settings_of_the_config(run: Run, home: Path) -> None:
    (home / "config.toml").write_text(
        'discover = false\n[memory]\nstrategy="buffer"\n[memory.window]\nturns=2\nslack=0\n'
    )
    run("chat", "-s", "c", "-m", "offline", input="".join(f"line {n}\n" for n in range(8)))
    rows = {r["strategy"]: r for r in json.loads(run("compare", "c", "--json").stdout)}
    assert rows["window:2"]["verbatim_turns"] == 2 and rows["buffer"]["verbatim_turns"] == 8
    assert run("compare", "c", "--ask", "word " * 9000).returncode == 10


def test_an_exact_number_of_turns_overrides_the_config(run: Run, server: Server, home: Path) -> None:
    (home / "config.toml").write_text("[memory.window]\nmax_messages = 4\nslack = 9\n")
    run("chat", "-s", "w", input="".join(f"line {n}\n" for n in range(8)))
    run("ask", "-s", "w", "--memory", "window:5", "last")
    assert len(sent(server)) == 11


def test_an_unknown_local_model_is_reported_with_similar_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from chatmem.errors import ServerError
    from chatmem.models.discovery import LocalServer

    monkeypatch.setattr(
        app, "find_local_servers", lambda: [LocalServer("Ollama", "http://127.0.0.1:11434/v1", ({"id": "llama3.2"},))]
    )
    with pytest.raises(ServerError, match="No server on this machine has the model 'lama3'") as caught:
        app.App().resolve_model(app.SCHEMA.settings_class(model="lama3"))
    assert "llama3.2" in caught.value.hint
    assert app.App().resolve_model(app.SCHEMA.settings_class()).name == "llama3.2"


def test_a_discovered_server_receives_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(discovery, "KNOWN_PORTS", {server.port: ("Test", "/v1")})
    model = app.App().resolve_model(app.SCHEMA.settings_class(api_key_env=""))
    list(model.stream([{"role": "user", "content": "hi"}], {}))
    assert [r.headers.get("authorization") for r in server.requests] == [None, "Bearer none"]


def test_doctor_tells_scripts_how_to_fix_what_it_can_fix(run: Run, home: Path) -> None:
    run("chat", "-s", "t", "-m", "offline", input="hi\n")
    (home / "data" / "sessions" / "t.jsonl").chmod(0o644)
    results = {r["what"]: r for r in json.loads(run("doctor", "--json").stdout)}
    assert results["permissions"]["hint"] == "chatmem doctor --fix fixes it."


def test_debug_keeps_the_exit_code_and_shows_no_secret(run: Run, server: Server) -> None:
    key = "sk-test-canary-0123456789"
    server.answers = [status(401, {"error": {"message": f"Incorrect API key provided: {key}"}})]
    done = run("ask", "--debug", "hi")
    assert done.returncode == 4 and "Traceback" in done.stderr and "Incorrect API key provided" in done.stderr
    assert key not in done.stderr + done.stdout
    server.answers = [status(429, {"error": {"message": "slow down"}}, "Retry-After: 300")]
    assert run("ask", "--debug", "hi").returncode == 5


def test_json_is_safe_to_print_and_has_the_same_value(run: Run, home: Path) -> None:
    text = "\x9b31m \u202e \u2066 \ufeff \U000e0041 é 漢 \x7f \u2028"
    run("chat", "-s", "t", "-m", "offline", input="hello\n")
    path = home / "data" / "sessions" / "t.jsonl"
    path.write_text(path.read_text().replace("hello", text))
    for command in (["sessions", "show", "t", "--json"], ["context", "t", "--json"]):
        done = run(*command)
        assert not re.search(
            "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]", done.stdout
        )
        assert text in json.dumps(json.loads(done.stdout), ensure_ascii=False) and "é 漢" in done.stdout


def test_odd_digests_and_times_are_shown_without_a_failure(run: Run, home: Path) -> None:
    run("chat", "-s", "t", "-m", "offline", input="one\ntwo\n")
    path = home / "data" / "sessions" / "t.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "time" in line:
            line["time"] = "9999-12-31T23:59:59-23:59"
        if "sent" in line:
            line["sent"] = {
                "left_out": ["x"],
                "pins": [{}, []],
                "recalled": 7,
                "passages": [[[], 1, 2], ["x", 0, 1], 3, ["x"]],
                "parts": 3,
                "tail": [],
                "tokens": {},
            }
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for command in (
        ["sessions", "list"],
        ["sessions", "show", "t"],
        ["sessions", "stats"],
        ["context", "t"],
        ["export", "t"],
    ):
        done = run(*command)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["yes", "cat /dev/zero", "sh -c 'echo key; exit 3'", "true", "/nonexistent"])
def test_a_key_command_that_prints_no_key_is_an_error_whatever_it_prints(run: Run, home: Path, command: str) -> None:
    (home / "config.toml").write_text(f'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\napi_key_cmd = "{command}"\n')
    done = run("ask", "hi")
    assert done.returncode == 4 and done.stderr.count("\n") == 1 and "printed no key" in done.stderr, done.stderr
