"""A strategy, a store, a format and a slash command, each added as CONTRIBUTING.md says."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import chatmem.cli.actions
import chatmem.repl.actions
from chatmem.app import App
from chatmem.config.example import example_config
from chatmem.config.loading import Layer, resolve
from chatmem.config.schema import option_field
from chatmem.config.settings import ConfigSchema
from chatmem.errors import Action, ActionKind, ChatmemError
from chatmem.formats import FORMATS
from chatmem.formats.base import Format
from chatmem.history.records import Record, header
from chatmem.history.session import Session
from chatmem.memory.strategies import STRATEGIES, format_spec, parse_spec, strategy_from_mapping
from chatmem.memory.strategies.base import Strategy, TailContext
from chatmem.repl.commands.base import command
from chatmem.repl.commands.table import COMMANDS
from chatmem.repl.completer import ReplCompleter
from chatmem.repl.context import ReplContext
from chatmem.repl.repl import Repl
from chatmem.stores import DATABASES, DatabaseType, open_store
from chatmem.stores.database.sqlite import SqliteDatabase
from chatmem.terminal.terminal import Terminal
from tests.memory.test_planner import make_session, numbers, plan_with

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class EveryOtherStrategy(Strategy):
    """Send the last turns, rounded up to an even number."""

    name: ClassVar[str] = "even"
    example: ClassVar[str] = "even:4"
    spec_number: ClassVar[str | None] = "turns"

    turns: int = option_field(4, "How many turns are sent.", minimum=0)

    def tail_start(self, context: TailContext) -> int:
        return max(context.longest_tail(), len(context.turns) - self.turns - self.turns % 2)


def test_a_strategy_is_one_class_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "even", EveryOtherStrategy)
    assert format_spec(strategy_from_mapping(parse_spec("even:3"))) == "even:3"
    assert numbers(plan_with(make_session(20), "even:3")) == [17, 18, 19, 20]
    schema = ConfigSchema(STRATEGIES, parse_spec)
    layers = [Layer("flags", schema.nested({"memory": parse_spec("even:5")}))]
    assert resolve(schema, layers).settings.strategy == EveryOtherStrategy(5)
    assert "# [memory.even]\n# How many turns are sent.\n# turns = 4\n" in example_config(schema)


class RenamedSqliteDatabase(SqliteDatabase):
    """A database of another scheme."""

    def __init__(self, url: str, ttl: float | None = None) -> None:
        super().__init__(url.replace("renamed:", "sqlite:"), ttl)


def test_a_store_is_one_class_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATABASES, "renamed", DatabaseType(__name__, "RenamedSqliteDatabase"))
    url = f"renamed:///{tmp_path}/chats.db"
    chat = App({"store": url}, offline=True).chat("work", {"model": "offline"})
    list(chat.send("hello"))
    chat.close()
    assert [turn.question.content for turn in open_store(url, tmp_path).session("work").turns] == ["hello"]


def test_a_format_is_one_object_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(session: Session, records: list[Record]) -> str:
        return f"{session.name}: {len(session.turns)} turns\n"

    monkeypatch.setitem(FORMATS, "short", Format("short", ".short", write))
    monkeypatch.setattr("chatmem.formats.WRITABLE", ["short"])
    from chatmem.formats import format_for

    assert format_for(None, "x.short").name == "short"
    found = format_for("short").write
    assert found and found(Session.replay("work", [header("work")]), []) == "work: 0 turns\n"


def test_a_slash_command_is_one_function() -> None:
    screen = io.StringIO()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        app = App(offline=True)
        repl = Repl(app.chat("work"), app, Terminal(screen, screen))

        @command("hello", "[NAME]")
        def hello(repl: ReplContext, argument: str) -> None:
            """Say hello."""
            repl.terminal.info(f"Hello {argument}!")

        try:
            repl.handle_line("/hello Nemo")
            repl.handle_line("/help hello")
            found = [c.text for c in ReplCompleter(repl).get_completions(Document("/hel"), CompleteEvent())]
        finally:
            del COMMANDS["hello"]
    assert "Hello Nemo!" in screen.getvalue() and re.search(r"/hello \[NAME\]\s+Say hello\.", screen.getvalue())
    assert "/hello" in found


@pytest.mark.parametrize("kind", get_args(ActionKind))
def test_both_front_ends_describe_every_action(kind: ActionKind, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ChatmemError("It failed.", "The hint.", Action(kind, "3"))
    for describe in (chatmem.cli.actions.describe_action, chatmem.repl.actions.describe_action):
        screen = io.StringIO()
        terminal = Terminal(screen, screen)
        terminal.describe_action = describe
        terminal.error(error)
        assert "{}" not in screen.getvalue() and describe(error.action or Action(kind)) in screen.getvalue()
    assert chatmem.repl.actions.describe_action(Action(kind, "3"))
    assert "/" not in chatmem.cli.actions.describe_action(Action(kind, "x"))


def test_the_example_config_is_written_by_the_documented_command() -> None:
    document = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    assert "python -m tests.write_example_config" in document
    before = (ROOT / "config.example.toml").read_bytes()
    subprocess.run([sys.executable, "-m", "tests.write_example_config"], cwd=ROOT, check=True)
    assert (ROOT / "config.example.toml").read_bytes() == before


def test_every_file_that_the_documents_name_exists() -> None:
    for document in (ROOT / ".github").glob("*.md"):
        for name in re.findall(r"`((?:chatmem|tests|\.ci)/[\w./]+\w)`", document.read_text()):
            assert (ROOT / name.replace("NAME", "base")).exists() or "NAME" in name, f"{document.name}: {name}"
        for link in re.findall(r"\]\((?!http)([\w./]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
