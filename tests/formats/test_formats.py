"""Export and import: round trips, the exports of other programs, and hostile files."""

from __future__ import annotations

import html.parser
import io
import json
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from chatmem.errors import UsageError
from chatmem.formats import FORMATS, READABLE, WRITABLE, format_for, importer
from chatmem.formats.html import write as write_html
from chatmem.formats.importer import read_conversations
from chatmem.formats.json import SCHEMA
from chatmem.history.records import Record, header
from chatmem.history.session import Session
from chatmem.stores.file.store import FileStore
from tests.conftest import Run
from tests.fakes import wait_until


def make_records(*texts: str, system: str = "") -> list[Record]:
    records: list[Record] = [header("work")]
    if system:
        records.append({"type": "settings", "system": system})
    for n, text in enumerate(texts):
        one = {
            "type": "message",
            "id": f"m{n}",
            "parent": f"m{n - 1}" if n else None,
            "role": ("user", "assistant")[n % 2],
            "content": text,
            "time": f"2026-05-03T10:00:{n:02}.000Z",
        }
        records.append(
            one | ({"model": "m", "status": "complete", "usage": {"prompt": 5, "completion": 3}} if n % 2 else {})
        )
    return records


TEXTS = (
    "Hi?\n## User\nnot a heading",
    "# Hello\n\n```python\nx = 1\n```",
    "Zwei ü 日本語 🎉",
    "three\n\n",
    "end?",
    "The end.",
)


def export(format_name: str, records: list[Record]) -> str:
    write = FORMATS[format_name].write
    assert write
    return write(Session.replay("work", records), records)


def path_of(records: list[Record]) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in Session.replay("x", records).path]


@pytest.mark.parametrize("format_name", [f for f in WRITABLE if f in READABLE])
def test_an_export_is_imported_unchanged(format_name: str, tmp_path: Path) -> None:
    records = make_records(*TEXTS, system="Be brief.")
    file = tmp_path / f"out{FORMATS[format_name].suffix}"
    file.write_text(export(format_name, records))
    found_form, (found,) = read_conversations(file)
    assert found_form.name in (format_name, "openai") or format_name == "openai-jsonl"
    session = Session.replay("x", found.records)
    assert path_of(found.records) == path_of(records) and session.system == "Be brief."
    if format_name not in ("openai", "openai-jsonl", "sharegpt"):
        assert [m.time for m in session.path] == [r["time"] for r in records if r["type"] == "message"]
        assert [m.id for m in session.path] == [f"m{n}" for n in range(6)]


@pytest.mark.parametrize("format_name", ["json", "jsonl"])
def test_every_record_of_a_session_is_imported_unchanged(format_name: str, run: Run, home: Path) -> None:
    run("chat", "-s", "a", "--memory", "window:6", input="one\ntwo\n")
    store = FileStore(home / "data" / "sessions")
    log = store.open("a")
    with log.exclusive():
        log.append(
            [
                {"type": "mark", "message": "x", "pinned": True},
                {"type": "later", "unknown": [1]},
                {"type": "head", "message": None},
            ]
        )
    out = home / f"a.{format_name}"
    run("export", "a", "-o", str(out))
    assert run("import", str(out), "-s", "b").returncode == 0
    again = home / f"b.{format_name}"
    run("export", "b", "-o", str(again))

    def strip(name: str) -> list[Record]:
        return [
            {k: v for k, v in r.items() if k not in ("name", "id") or r["type"] != "session"}
            for r in store.records(name)
        ]

    assert strip("a") == strip("b") and len(out.read_bytes()) == len(again.read_bytes())


def test_json_matches_its_schema() -> None:
    body = json.loads(export("json", make_records(*TEXTS)))
    jsonschema.validate(body, json.loads(SCHEMA.read_text()))
    assert [r["type"] for r in body["records"]] == ["session"] + ["message"] * 6 and body["messages"][1]["turn"] == 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"session": {}}, json.loads(SCHEMA.read_text()))


def test_an_openai_export_matches_the_types_of_the_openai_library() -> None:
    from openai.types.chat import ChatCompletionMessageParam
    from pydantic import TypeAdapter

    TypeAdapter(list[ChatCompletionMessageParam]).validate_python(
        json.loads(export("openai", make_records(*TEXTS, system="s")))
    )


def test_langchain_exports_are_compatible_in_both_directions(tmp_path: Path) -> None:
    messages = pytest.importorskip("langchain_core.messages", reason="langchain-core is not installed")
    loaded = messages.messages_from_dict(json.loads(export("langchain", make_records(*TEXTS, system="s"))))
    assert [(m.type, m.content) for m in loaded][1:] == [
        ({"user": "human", "assistant": "ai"}[r], c) for r, c in path_of(make_records(*TEXTS))
    ]
    file = tmp_path / "lc.json"
    file.write_text(
        json.dumps(
            messages.messages_to_dict(
                [
                    messages.SystemMessage("s"),
                    messages.HumanMessage("hi"),
                    messages.AIMessage([{"type": "text", "text": "hello"}]),
                ]
            )
        )
    )
    form, (found,) = read_conversations(file)
    assert form.name == "langchain" and path_of(found.records) == [("user", "hi"), ("assistant", "hello")]


def node(ident: str, parent: str | None, role: str = "user", parts: Any = ("x",), **more: Any) -> dict[str, Any]:
    message = {
        "id": ident,
        "author": {"role": role},
        "create_time": 1700000000.5,
        "content": {"content_type": "text", "parts": list(parts)},
        "recipient": "all",
        "metadata": {},
    }
    return {"id": ident, "parent": parent, "children": [], "message": {**message, **more}}


def chatgpt() -> list[dict[str, Any]]:
    nodes = [
        {"id": "root", "parent": None, "children": ["sys"], "message": None},
        node("sys", "root", "system", [""], metadata={"is_visually_hidden_from_conversation": True}),
        node(
            "q1",
            "sys",
            parts=["What is this?", {"content_type": "image_asset_pointer", "asset_pointer": "file://x"}],
            content={
                "content_type": "multimodal_text",
                "parts": ["What is this?", {"content_type": "image_asset_pointer"}],
            },
        ),
        node("tool", "q1", "assistant", ["search()"], recipient="browser"),
        node("a1", "tool", "assistant", ["A cat."], metadata={"model_slug": "gpt-4o"}, create_time=None),
        node("a1b", "q1", "assistant", ["A dog."]),
        node("thought", "a1", "assistant", content={"content_type": "thoughts", "thoughts": []}),
        node("q2", "thought", parts=["Sure?"]),
        node("a2", "q2", "assistant", ["Yes."]),
        node("late", "a1b", parts=["other branch"]),
    ]
    return [
        {
            "title": None,
            "create_time": 1700000000.0,
            "mapping": {n["id"]: n for n in nodes},
            "current_node": "a2",
            "conversation_id": "c-1",
        }
    ]


@pytest.mark.parametrize("packed", ["json", "zip", "split"])
def test_a_chatgpt_export_is_imported_with_its_branches(tmp_path: Path, packed: str) -> None:
    file = tmp_path / ("conversations.json" if packed == "json" else "export.zip")
    data = json.dumps(chatgpt())
    if packed == "json":
        file.write_text(data)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("export/conversations-000.json" if packed == "split" else "conversations.json", data)
            archive.writestr("chat.html", "x")
            if packed == "split":
                archive.writestr("export/conversations-001.json", data.replace("c-1", "c-2"))
    format_name, found = read_conversations(file)
    assert format_name.name == "chatgpt" and len(found) == (2 if packed == "split" else 1)
    session = Session.replay("x", found[0].records)
    assert [m.content for m in session.path] == ["What is this?\n[image asset pointer]", "A cat.", "Sure?", "Yes."]
    assert {m.content for m in session.messages.values()} >= {"A dog.", "other branch"} and session.path[
        1
    ].model == "gpt-4o"
    assert (
        session.path[0].time == "2023-11-14T22:13:20.500Z" and found[0].source == "chatgpt:c-1" and found[0].title == ""
    )


def test_a_claude_export_is_imported_as_a_list_and_as_a_tree(tmp_path: Path) -> None:
    def claude_message(ident: str, sender: str, text: str, **more: Any) -> dict[str, Any]:
        parts = [{"type": "text", "text": text}, {"type": "thinking", "thinking": "hm"}]
        return {
            "uuid": ident,
            "sender": sender,
            "text": text,
            "content": parts,
            "created_at": "2026-01-01T00:00:00Z",
            **more,
        }

    flat = {
        "uuid": "u1",
        "name": "Cats",
        "created_at": "2026-01-01T00:00:00Z",
        "chat_messages": [
            claude_message("1", "human", "Cats?"),
            claude_message("2", "assistant", "Cats."),
            claude_message("3", "human", "", attachments=[{"file_name": "a.txt", "extracted_content": "in it"}]),
        ],
    }
    tree = {
        "uuid": "u2",
        "name": "",
        "current_leaf_message_uuid": "b2",
        "chat_messages": [
            claude_message("a", "human", "Q", parent_message_uuid="root"),
            claude_message("b2", "assistant", "A2", parent_message_uuid="a"),
            claude_message("b1", "assistant", "A1", parent_message_uuid="a"),
        ],
    }
    file = tmp_path / "claude.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("conversations.json", json.dumps([flat, tree]))
    format_name, (one, two) = read_conversations(file)
    assert format_name.name == "claude" and one.title == "Cats"
    assert [c for _, c in path_of(one.records)] == ["Cats?", "Cats.", "\n\na.txt:\nin it"]
    assert [c for _, c in path_of(two.records)] == ["Q", "A2"] and len(Session.replay("x", two.records).messages) == 3


@pytest.mark.parametrize("tree", [False, True])
def test_empty_late_and_repeated_messages_of_claude_are_imported(tmp_path: Path, tree: bool) -> None:
    rows = [("1", "human", "Q1"), ("2", "assistant", ""), ("3", "human", "Q2"), ("4", "assistant", "A2")]
    rows.append(("3" if not tree else "5", "human", "Q3"))
    messages: list[dict[str, Any]] = [
        {"uuid": ident, "sender": who, "text": text, "content": []} for ident, who, text in rows
    ]
    if tree:
        for before, message in zip([{"uuid": "root"}, *messages], messages, strict=False):
            message["parent_message_uuid"] = before["uuid"]
        messages = [messages[n] for n in (2, 0, 4, 1, 3)]
    body: dict[str, Any] = {"uuid": "u", "name": "n", "chat_messages": messages}
    if tree:
        body["current_leaf_message_uuid"] = "5"
    (tmp_path / "c.json").write_text(json.dumps([body]))
    _, (one,) = read_conversations(tmp_path / "c.json")
    assert [text for _, text in path_of(one.records)] == ["Q1", "Q2", "A2", "Q3"]


def test_both_schemas_of_llm_are_imported(tmp_path: Path) -> None:
    file = tmp_path / "logs.db"
    database = sqlite3.connect(file)
    database.executescript(
        """
        CREATE TABLE conversations(id TEXT, name TEXT, model TEXT);
        CREATE TABLE responses(id TEXT, model TEXT, prompt TEXT, system TEXT, response TEXT, conversation_id TEXT, datetime_utc TEXT, input_tokens INT, output_tokens INT);
        INSERT INTO conversations VALUES ('c1', 'Old one', 'gpt-4o');
        INSERT INTO responses VALUES ('1', 'gpt-4o', 'q1', 'Be brief.', 'a1', 'c1', '2025-01-01T00:00:00', 9, 2), ('2', 'gpt-4o', 'q2', NULL, 'a2', 'c1', '2025-01-01T00:01:00', NULL, NULL);
        CREATE TABLE threads(id TEXT, name TEXT, tip_message_hash TEXT);
        CREATE TABLE turns(id TEXT, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT, model TEXT, input_tokens INT, output_tokens INT, datetime_utc TEXT);
        CREATE TABLE messages(hash TEXT, parent_hash TEXT, role TEXT);
        CREATE TABLE parts(message_hash TEXT, position INT, type TEXT, text TEXT);
        INSERT INTO threads VALUES ('t1', 'New one', 'h2');
        INSERT INTO messages VALUES ('h1', NULL, 'user'), ('h2', 'h1', 'assistant');
        INSERT INTO parts VALUES ('h1', 0, 'text', 'new q'), ('h2', 0, 'text', 'new a');
        INSERT INTO turns VALUES ('x', 't1', NULL, 'h2', 'gpt-5', 4, 1, '2026-01-01T00:00:00');
        """
    )
    database.commit()
    database.close()
    before = file.read_bytes()
    format_name, (old, new) = read_conversations(file)
    assert format_name.name == "llm" and file.read_bytes() == before
    assert [c for _, c in path_of(old.records)] == ["q1", "a1", "q2", "a2"] and Session.replay(
        "x", old.records
    ).system == "Be brief."
    reply = Session.replay("x", new.records).path[1]
    assert (reply.content, reply.model, reply.usage and reply.usage.prompt) == ("new a", "gpt-5", 4)


def test_a_shell_gpt_cache_is_imported_under_its_name(tmp_path: Path) -> None:
    file = tmp_path / "demo"
    file.write_text(
        '[{"role":"system","content":"s"},{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]'
    )
    form, (found,) = read_conversations(file)
    assert (form.name, found.name, path_of(found.records)) == (
        "shell-gpt",
        "demo",
        [("user", "hi"), ("assistant", "ho")],
    )


INVALID: dict[str, bytes] = {
    "empty": b"",
    "truncated": json.dumps(chatgpt()).encode()[:-40],
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "NaN": b'[{"role":"user","content":NaN}]',
    "huge number": b"[" + b"9" * 5000 + b"]",
    "not UTF-8": b'["\xff\xfe"]',
    "binary": bytes(range(256)),
    "other JSON": b'{"hello": 1}',
    "wrong types": json.dumps([{"mapping": {"a": 3, "b": {"message": [1]}}}]).encode(),
    "wrong mapping": json.dumps(
        [{"mapping": {"a": {"message": {"author": 3, "content": "x"}, "parent": ["a"]}}}]
    ).encode(),
    "wrong messages": b'[{"role":"user","content":{"a":1}},{"role":["x"],"content":3}]',
    "lone surrogates only": b'[{"role":"user"}]',
    "a page": b"<html></html>",
    "cut JSON Lines": b'{"messages":[{"role":"user","content":"a"}]}\n{"messages":[{"role":"user","con',
    "deep in a line": b'{"messages":[{"role":"user","content":"a"}]}\n' + b"[" * 100_000,
    "cut in the second of two": json.dumps(chatgpt() + chatgpt()).encode()[:-400],
    "duplicate keys": b'[{"role":"user","content":"a","content":"b"}]',
    "no records of ours": b'{"session":{"name":5},"records":[{"type":"session"},'
    b'{"type":"message","id":[],"content":7},{"type":"message","id":"a","role":"user","content":"x"}]}',
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_one_line_and_nothing_is_imported(name: str, run: Run, home: Path) -> None:
    file = home / "bad.json"
    file.write_bytes(INVALID[name])
    done = run("import", str(file))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert run("sessions", "list").stdout == ""


def test_lone_surrogates_in_a_message_are_repaired(run: Run, home: Path) -> None:
    file = home / "odd.json"
    file.write_text('[{"role":"user","content":"b\\ud83d"},{"role":"assistant","content":"ok"}]')
    assert run("import", str(file), "-s", "odd").returncode == 0
    assert json.loads(run("sessions", "show", "odd", "--json").stdout)["messages"][0]["content"] == "b\ufffd"


def test_lone_surrogates_anywhere_are_repaired(run: Run, home: Path) -> None:
    bad = "x\ud800"
    asked = {"uuid": bad, "sender": "human", "text": f"Q{bad}", "created_at": bad}
    reply = {"uuid": "2", "sender": "assistant", "text": "A", "content": []}
    conversation = {"uuid": bad, "name": bad, "created_at": bad, "model": bad, "chat_messages": [asked, reply]}
    (home / "s.json").write_text(json.dumps([conversation]))
    assert run("import", str(home / "s.json")).returncode == 0
    torn = {"type": "settings", "title": bad, "model": bad}
    lines = [{"type": "session", "chatmem": 1, "id": bad, "imported": bad, "created": bad}, torn]
    (home / "data" / "sessions" / "by-hand.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for command in (("sessions", "list"), ("sessions", "list", "--json"), ("sessions", "search", "Q"), ("export",)):
        done = run(*command)
        assert done.returncode == 0, done.stderr


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", json.dumps(chatgpt() * 50))
    data = bytearray(file.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 60] = bytes(60)
    file.write_bytes(data)
    with pytest.raises(UsageError):
        read_conversations(file)


def test_a_hostile_id_cannot_add_a_heading_to_markdown(tmp_path: Path) -> None:
    records = make_records("Q", "A")
    ids = {str(r["id"]): f"x -->\n## Assistant <!-- chatmem {n}" for n, r in enumerate(records) if "id" in r}
    hostile = [{k: ids.get(str(v), v) if k in ("id", "parent") else v for k, v in r.items()} for r in records]
    file = tmp_path / "x.md"
    file.write_text(export("markdown", hostile))
    assert path_of(read_conversations(file)[1][0].records) == path_of(records)


def test_an_empty_part_of_an_export_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("conversations-000.json", json.dumps(chatgpt()))
        archive.writestr("conversations-001.json", "[]")
    assert len(read_conversations(file)[1]) == len([one for one in chatgpt() if one["mapping"]])


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_an_array_is_read_item_by_item_with_any_chunk_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "CHUNK_BYTES", chunk)
    values = [1, -2.5, 'ä😀\\" ]', [], {"a": [None, True]}, "", 12345678901234567890]
    for text in (json.dumps(values), json.dumps(values, indent=2, ensure_ascii=False), "[]", " [ ] ", "[1 ,2\n]\n"):
        assert list(importer._items(io.BytesIO(text.encode()))) == json.loads(text)
    for broken in ("[1", "[1,]", "[1 2]", "[,1]", "[1]]", "[1] x", '["a', "[tru", "[1,"):
        with pytest.raises(ValueError):
            list(importer._items(io.BytesIO(broken.encode())))


@pytest.mark.parametrize("format_name", ["json", "jsonl", "markdown"])
def test_a_backup_of_all_sessions_is_imported_again(format_name: str, run: Run, home: Path) -> None:
    run("chat", "-s", "a", input="one\n")
    run("chat", "-s", "b", input="two\n")
    assert run("export", "--all", "-o", str(home / "all.zip"), "-f", format_name).returncode == 0
    again = run("import", str(home / "all.zip"), "--json")
    assert json.loads(again.stdout)["skipped"] == 2, again.stderr  # they exist already
    for name in ("a", "b"):
        run("sessions", "delete", name, "--purge", "--yes")
    assert sorted(json.loads(run("import", str(home / "all.zip"), "--json").stdout)["imported"]) == ["a", "b"]


def test_a_zip_bomb_and_an_unknown_database_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", b"0" * (200 << 20))
    assert bomb.stat().st_size < 1 << 20
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("CREATE TABLE cats(name)")
    database.commit()
    for file, words in ((bomb, "implausible 200 MB"), (tmp_path / "other.db", "but not one of llm")):
        with pytest.raises(UsageError, match=words):
            read_conversations(file)


def test_an_import_reports_what_it_found_and_imports_nothing_twice(run: Run, home: Path) -> None:
    file = home / "conversations.json"
    data = chatgpt()
    data[0]["title"] = "Cats: a/b?"
    data.append({**chatgpt()[0], "conversation_id": "c-2", "title": "Cats: a/b?"})
    file.write_text(json.dumps(data))
    done = run("import", str(file))
    assert "chatgpt: 2 conversations, 12 messages, 2023-11-14 to 2023-11-14" in done.stderr and done.returncode == 0
    names = [s["name"] for s in json.loads(run("sessions", "list", "--json").stdout)]
    assert sorted(names) == ["Cats- a-b", "Cats- a-b-2"]
    again = run("import", str(file), "--json")
    assert json.loads(again.stdout) == {"format": "chatgpt", "imported": [], "skipped": 2}
    assert (
        run("import", str(file), "-s", "x").returncode == 2
        and run("import", str(file), "--only", "zebra").returncode == 2
    )


def test_conflicts_are_skipped_renamed_or_replaced(run: Run, home: Path) -> None:
    file = home / "demo"
    for n, (mode, names) in enumerate(
        [("rename", ["demo", "demo-2"]), ("skip", ["demo", "demo-2"]), ("replace", ["demo", "demo-2"])]
    ):
        if n == 0:
            run("chat", "-s", "demo", input="first\n")
        file.write_text(json.dumps([{"role": "user", "content": f"text {n}"}, {"role": "assistant", "content": "ok"}]))
        assert run("import", str(file), "--on-conflict", mode).returncode == 0
        assert sorted(s["name"] for s in json.loads(run("sessions", "list", "--json").stdout)) == names
    assert json.loads(run("sessions", "show", "demo", "--json").stdout)["messages"][0]["content"] == "text 2"


def test_ctrl_c_while_replacing_leaves_the_old_session(home: Path, run: Run) -> None:
    import signal

    run("chat", "-s", "conversation 0", input="mine\n")
    conversations = [
        {
            "conversation_id": f"c{n}",
            "title": f"conversation {n}",
            "mapping": {"q": node("q", None)},
            "current_node": "q",
        }
        for n in range(300)
    ]
    file = home / "conversations.json"
    file.write_text(json.dumps(conversations))
    command = [sys.executable, "-m", "chatmem", "import", str(file), "--on-conflict", "replace"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(list((home / "data" / "sessions").glob("*.jsonl"))) >= 5 or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert [s["name"] for s in json.loads(run("sessions", "list", "--json").stdout)] == ["conversation 0"]
    assert json.loads(run("sessions", "show", "conversation 0", "--json").stdout)["messages"][0]["content"] == "mine"


def test_two_conversations_of_one_title_do_not_replace_each_other(home: Path, run: Run) -> None:
    conversation = [
        {"conversation_id": c, "title": "t", "mapping": {"q": node("q", None)}, "current_node": "q"} for c in "ab"
    ]
    (home / "c.json").write_text(json.dumps(conversation))
    assert run("import", str(home / "c.json"), "--on-conflict", "replace").returncode == 0
    assert sorted(s["name"] for s in json.loads(run("sessions", "list", "--json").stdout)) == ["t", "t-2"]


def test_an_import_from_stdin(run: Run) -> None:
    assert run("import", "-", "-s", "piped", input='[{"role":"user","content":"hi"}]').returncode == 0
    assert json.loads(run("sessions", "show", "piped", "--json").stdout)["messages"][0]["content"] == "hi"


def test_all_sessions_are_exported_to_a_directory_or_an_archive(run: Run, home: Path) -> None:
    run("chat", "-s", "a", input="one\n")
    run("chat", "-s", "b", input="two\n")
    assert run("export", "--all", "-o", str(home / "out"), "-f", "text").returncode == 0
    assert sorted(p.name for p in (home / "out").iterdir()) == ["a.txt", "b.txt"]
    assert run("export", "--all", "-o", str(home / "out.zip")).returncode == 0
    with zipfile.ZipFile(home / "out.zip") as archive:
        assert sorted(archive.namelist()) == ["a.md", "b.md"]
    assert (
        run("export", "--all").returncode == 2 and run("export", "--all", "-o", str(home / "out.zip")).returncode == 2
    )


def test_the_format_follows_from_the_file_name() -> None:
    endings = {
        "a.md": "markdown",
        "a.html": "html",
        "a.json": "json",
        "a.jsonl": "jsonl",
        "a.txt": "text",
        "a.openai.json": "openai",
        "a.sharegpt.json": "sharegpt",
        "a.langchain.json": "langchain",
        "a": "markdown",
    }
    assert {file: format_for(None, file).name for file in endings} == endings
    with pytest.raises(UsageError):
        format_for("pdf")


def test_an_export_that_contains_a_key_causes_a_warning(run: Run) -> None:
    run("chat", "-s", "k", input="my key is sk-abcdefghij0123456789\n")
    assert "seems to contain an API key" in run("export", "k").stderr


VECTORS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<iframe src=javascript:alert(1)>", "<body onload=alert(1)>",
    "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x](data:text/html;base64,PHNjcmlwdD4=)", "[x](vbscript:msgbox(1))", "![x](javascript:alert(1))",
    "![x](https://evil.example/track.png)", "<a href='javascript:alert(1)'>x</a>", "<style>@import 'https://evil.example/x.css'</style>", "<link rel=stylesheet href=https://evil.example>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>", "<base href=https://evil.example>", "<format_name action=https://evil.example><input>", "<object data=https://evil.example>",
    "<embed src=https://evil.example>", "<video src=x onerror=alert(1)>", "</article></main><script>alert(1)</script>", "</title><script>alert(1)</script>", "</style><script>alert(1)</script>",
    "```html\n<script>alert(1)</script>\n```", "`<script>`", "```\"onclick=alert(1)\nx\n```", "[x](<javascript:alert(1)>)", "[x]: javascript:alert(1)\n\n[x]", "<javascript:alert(1)>",
    "<https://evil.example/\"onmouseover=alert(1)>", "[a](https://x/\"onclick=alert(1))", "![\"onerror=alert(1)](x)", "&lt;script&gt;", "&#60;script&#62;", "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>]]>", "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>", "<details open ontoggle=alert(1)>", "[x](file:///etc/passwd)", "\x00<script>\x00alert(1)</script>", "<scr\x00ipt>alert(1)</scr\x00ipt>",
]  # fmt: skip
TAGS = set(
    "html head meta title style body header h1 h2 h3 h4 h5 h6 p nav ol ul li a main article pre code span em strong s blockquote table thead tbody tr th td hr br details summary".split()
)


class Page(html.parser.HTMLParser):
    """Reads a page as a browser would, and refuses what must not be in it."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert not name.startswith("on") and name not in (
                "src",
                "srcset",
                "action",
                "data",
                "formaction",
                "poster",
            ), name
            if name == "href" and value:
                assert value.startswith(("https:", "http:", "mailto:", "#")) or ":" not in value.partition("/")[0], (
                    value
                )


@pytest.mark.parametrize("vector", VECTORS)
def test_nothing_can_be_injected_into_a_page(vector: str) -> None:
    records = make_records(vector, vector)
    records.insert(1, {"type": "settings", "title": vector})
    records.append(
        {
            "type": "message",
            "id": "branch",
            "parent": "m0",
            "role": "assistant",
            "content": vector,
            "time": "",
            "model": vector,
        }
    )
    records.append({"type": "head", "message": "m1"})
    page = write_html(Session.replay(vector, records), records)
    Page().feed(page)
    assert "default-src 'none'" in page and "<details>" in page


def test_a_page_has_links_highlighting_and_no_scripts() -> None:
    records = make_records(*TEXTS)
    page = write_html(Session.replay("work", records), records)
    assert (
        '<a href="#t1">' in page
        and 'id="t3"' in page
        and '<span class="' in page
        and "日本語" in page
        and "<script" not in page
    )


def test_an_import_that_was_killed_is_completed_by_repeating_it(home: Path, run: Run) -> None:
    many = [
        {
            "conversation_id": f"c{n}",
            "title": f"conversation {n}",
            "mapping": {"q": node("q", None, parts=[f"text {n} " + "word " * 2000])},
            "current_node": "q",
        }
        for n in range(150)
    ]
    file = home / "conversations.json"
    file.write_text(json.dumps(many))
    sessions = home / "data" / "sessions"
    with subprocess.Popen([sys.executable, "-m", "chatmem", "import", str(file)], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(list(sessions.glob("*.jsonl"))) >= 5 or process.poll() is not None)
        assert process.poll() is None
        process.kill()
    assert run("import", str(file)).returncode == 0
    assert len(json.loads(run("sessions", "list", "--json").stdout)) == 150
    assert run("sessions", "check").returncode == 0


def test_ctrl_c_during_an_import_leaves_no_session(home: Path, run: Run) -> None:
    import signal

    many = [
        {
            "conversation_id": f"c{n}",
            "title": f"conversation {n}",
            "mapping": {"q": node("q", None, parts=["word " * 20])},
            "current_node": "q",
        }
        for n in range(4000)
    ]
    file = home / "conversations.json"
    file.write_text(json.dumps(many))
    sessions = home / "data" / "sessions"
    with subprocess.Popen([sys.executable, "-m", "chatmem", "import", str(file)], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: len(list(sessions.glob("*.jsonl"))) >= 5 or process.poll() is not None)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert json.loads(run("sessions", "list", "--json").stdout) == []


def test_a_real_database_of_llm_is_imported(run: Run, home: Path, server: Any) -> None:
    import os
    import shutil

    llm = os.environ.get("CHATMEM_TEST_LLM") or shutil.which(
        "llm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if llm is None:
        pytest.skip("simonw's llm is not installed: pip install '.[peers]', or CHATMEM_TEST_LLM=…/bin/llm")
    (home / "extra-openai-models.yaml").write_text(
        f'- model_id: fake\n  model_name: fake\n  api_base: "{server.url}"\n'
    )
    env = {**os.environ, "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "x"}
    for arguments in (["plain one"], ["-c", "second one"]):
        subprocess.run(
            [llm, "-m", "fake", *arguments], check=True, env=env, capture_output=True, stdin=subprocess.DEVNULL
        )
    done = run("import", str(home / "logs.db"), "-s", "from-llm")
    assert done.returncode == 0, done.stderr
    shown = [m["content"] for m in json.loads(run("sessions", "show", "from-llm", "--json").stdout)["messages"]]
    assert shown[0] == "plain one" and shown[2] == "second one" and "plain one" in shown[1] and len(shown) == 4


def tool(name: str) -> str:
    """A command of an optional group, from CHATMEM_TEST_TOOLS (a bin directory) or beside this Python; skips without."""
    import os
    import shutil

    directories = os.pathsep.join([os.environ.get("CHATMEM_TEST_TOOLS", ""), str(Path(sys.executable).parent)])
    found = shutil.which(name, path=directories)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install '.[peers]'")
    return found


def test_chatgpt_to_sqlite_reads_the_same_path(tmp_path: Path) -> None:
    program = tool("chatgpt-to-sqlite")
    file, database = tmp_path / "conversations.json", tmp_path / "out.db"
    file.write_text(
        json.dumps(
            [{**c, "id": c["conversation_id"], "title": "Cats", "update_time": c["create_time"]} for c in chatgpt()]
        )
    )
    subprocess.run([program, str(file), str(database)], check=True, capture_output=True)
    rows = sqlite3.connect(database).execute("SELECT * FROM messages").fetchall()
    _, (found,) = read_conversations(file)
    everything = json.dumps([[str(cell) for cell in row] for row in rows], ensure_ascii=False)
    assert all(m.content.split("\n")[0] in everything for m in Session.replay("x", found.records).path)


def test_claude_to_sqlite_reads_the_same_messages(tmp_path: Path) -> None:
    program = tool("claude-to-sqlite")
    conversation: dict[str, Any] = {
        "uuid": "u1",
        "name": "Cats",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "account": {"uuid": "a"},
        "chat_messages": [],
    }
    for n, (sender, text) in enumerate([("human", "Cats?"), ("assistant", "Cats.")]):
        conversation["chat_messages"].append(
            {
                "uuid": str(n),
                "sender": sender,
                "text": text,
                "content": [{"type": "text", "text": text}],
                "created_at": "2026-01-01T00:00:00Z",
                "updated_at": "2026-01-01T00:00:00Z",
                "attachments": [],
                "files": [],
            }
        )
    file, database = tmp_path / "claude.zip", tmp_path / "out.db"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("conversations.json", json.dumps([conversation]))
    (tmp_path / "conversations.json").write_text(json.dumps([conversation]))
    subprocess.run([program, str(tmp_path / "conversations.json"), str(database)], check=True, capture_output=True)
    rows = sqlite3.connect(database).execute("SELECT text FROM messages ORDER BY created_at, uuid").fetchall()
    _, (found,) = read_conversations(file)
    assert [c for _, c in path_of(found.records)] == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("url", "is_link"),
    [
        ("https://example.org/x", True), ("http://example.org", True), ("mailto:a@example.org", True), ("tel:+123", True),
        ("HTTPS://EXAMPLE.ORG", True), ("#anchor", True), ("relative/path", True),
        ("ms-msdt:/id", False), ("blob:https://x", False), ("intent://x", False), ("view-source:https://x", False), ("about:blank", False),
        ("javascript:alert(1)", False), ("data:text/html,x", False), ("vbscript:x", False), ("file:///etc/passwd", False), ("//example.org", False),
        (" javascript:x", False), ("java\tscript:x", False),
    ],
)  # fmt: skip
def test_html_has_links_to_the_web_mail_and_phones_only(url: str, is_link: bool) -> None:
    for markdown in (f"[x](<{url}>)", f"![x](<{url}>)"):
        page = export("html", make_records("q", markdown))
        assert ('href="' in page.partition("<article")[2].replace('href="#', "") or url == "#anchor") == is_link, page
