"""Private parts of libraries: still there, and not needed where they are gone."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from chatmem.cli import fast_params
from chatmem.repl import key_sequences
from tests.test_architecture import loaded_after

APP = """
import sys, typer
from chatmem.cli.fast_params import FastParamsCommand
app = typer.Typer()
@app.command(cls=FastParamsCommand)
def main(name: str = "x", count: int = typer.Option(1, min=1)): print(name, count)
sys.argv = ["app", *{arguments!r}]
try: app()
except SystemExit: pass
"""


def test_typer_converts_defaults_and_strings_without_pydantic() -> None:
    assert "pydantic" not in loaded_after(APP.format(arguments=[]))
    assert "pydantic" not in loaded_after(APP.format(arguments=["--name", "y"]))


def test_typer_still_converts_and_validates_other_values() -> None:
    done = subprocess.run(
        [sys.executable, "-c", APP.format(arguments=["--count", "3"])], capture_output=True, text=True, check=True
    )
    assert done.stdout == "x 3\n"
    done = subprocess.run(
        [sys.executable, "-c", APP.format(arguments=["--count", "0"])], capture_output=True, text=True, check=False
    )
    assert "'--count'" in done.stderr and done.stdout == ""


def test_without_the_private_parts_of_typer_every_parameter_is_converted_by_typer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_params, "_make_fast", lambda params: params)
    app = typer.Typer()

    @app.command(cls=fast_params.FastParamsCommand)
    def main(name: str = "x", count: int = 1) -> None:
        print(name, count)

    assert CliRunner().invoke(app, ["--name", "y", "--count", "2"]).stdout == "y 2\n"


def test_the_key_table_of_prompt_toolkit_accepts_shift_enter_and_focus_events(monkeypatch: pytest.MonkeyPatch) -> None:
    from prompt_toolkit.input import ansi_escape_sequences
    from prompt_toolkit.input.vt100_parser import Vt100Parser
    from prompt_toolkit.keys import Keys

    key_sequences.add_key_sequences()
    expected = {key: [Keys.Escape, Keys.ControlM] for key in key_sequences.SHIFT_ENTER}
    expected |= {key: [Keys.Ignore] for key in key_sequences.FOCUS_EVENTS}
    for sequence, meant in expected.items():
        keys: list[object] = []
        parser = Vt100Parser(lambda press, keys=keys: keys.append(press.key))  # type: ignore[misc]
        parser.feed(sequence)
        assert keys == meant
    monkeypatch.delattr(ansi_escape_sequences, "ANSI_SEQUENCES")
    key_sequences.add_key_sequences()  # nothing happens without the table


def test_connection_wait_of_psycopg_has_the_expected_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    psycopg = pytest.importorskip("psycopg")
    from chatmem.stores.database import postgres_connection

    parameters = list(inspect.signature(psycopg.Connection.wait).parameters)
    assert parameters[:4] == ["self", "gen", "interval", "timeout"]
    assert postgres_connection.connection_class() is not psycopg.Connection
    monkeypatch.setattr(psycopg.Connection, "wait", lambda self, gen: None)
    assert postgres_connection.connection_class.__wrapped__() is psycopg.Connection
