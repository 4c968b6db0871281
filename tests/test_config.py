"""Configuration: read with types, laid in layers, each value with its origin."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem import config, memory
from chatmem.config import Layer, Settings, resolve, walk
from chatmem.errors import WrongUse
from chatmem.settings import read, setting

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Things:
    """An example of settings."""

    turns: int = setting(10, "How many.", least=0)
    share: float = setting(0.5, "How much.", least=0.1, most=1.0)
    budget: int | Literal["auto"] = setting("auto", "How long.", least=1)
    on: bool = setting(True, "Whether.")
    name: str | None = setting(None, "Who.")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"turns": "ten"}, "memory.turns should be a whole number of at least 0, not 'ten'"),
        ({"turns": -1}, "memory.turns should be a whole number of at least 0, not -1"),
        ({"turns": True}, "whole number"),
        ({"turn": 3}, "There is no setting 'turn' in memory."),
        ({"share": 2}, "memory.share should be a number from 0.1 to 1.0, not 2"),
        ({"share": float("nan")}, "a number"),
        ({"budget": "much"}, "memory.budget should be a whole number of at least 1 or 'auto', not 'much'"),
        ({"on": 1}, "memory.on should be true or false, not 1"),
        ({"name": 3}, "memory.name should be a text, not 3"),
        ([], "memory should be a table"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name_and_what_it_should_be(table: Any, words: str) -> None:
    with pytest.raises(WrongUse, match=re.escape(words)):
        read(Things, table, "memory")


def test_a_mistyped_setting_gets_the_nearest_one() -> None:
    with pytest.raises(WrongUse) as caught:
        read(Things, {"turn": 3}, "memory")
    assert caught.value.hint == "Did you mean 'turns'?"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from([n for n, _, _ in walk(Settings())] + ["memory", "options", "profiles"]), x, max_size=3
        )
    ),
)


@given(JSON)
def test_reading_anything_gives_settings_or_our_own_error(table: Any) -> None:
    try:
        read(Settings, table)
    except WrongUse:
        pass


def test_the_example_is_what_the_program_writes_and_names_every_setting() -> None:
    text = (ROOT / "config.example.toml").read_text()
    assert text == config.example()
    for name, _, extra in walk(Settings()):
        *_, last = name.split(".")
        assert re.search(rf"^# {last.replace('_', '[_-]')} = ", text, re.M), name
        assert extra["help"] in text


def test_every_line_of_the_example_is_good_when_it_is_uncommented(tmp_path: Path) -> None:
    lines = (ROOT / "config.example.toml").read_text().splitlines()
    live = [line[2:] for line in lines if re.match(r"# (\[[\w.\-\"]+\]$|[\w-]+ = )", line)]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(live))
    path.chmod(0o600)
    table = tomllib.loads(path.read_text())
    assert table["profiles"]["local"]["model"] and config.from_file(path) == table


def test_later_layers_win_and_each_value_knows_its_origin() -> None:
    found = resolve([Layer("file", {"model": "a", "system": "s"}), Layer("flags", {"model": "b"})])
    assert (found.settings.model, found.settings.system) == ("b", "s")
    assert found.origins == {"model": "flags", "system": "file"}


def test_precedence_is_flags_session_own_variables_usual_variables_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "config.toml"
    path.write_text('model = "file"\nbase_url = "http://file/v1"\n')

    def model(session: dict[str, Any], flags: dict[str, Any]) -> str | None:
        return resolve(config.layers_of(path, session, flags)).settings.model

    assert model({}, {}) == "file"
    monkeypatch.setenv("CHATMEM_MODEL", "variable")
    assert model({}, {}) == "variable"
    assert model({"model": "session"}, {}) == "session"
    assert model({"model": "session"}, {"model": "flag"}) == "flag"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert resolve(config.layers_of(path, {}, {})).settings.base_url == "http://environment/v1"


def test_a_profile_counts_where_it_was_chosen_and_over_the_usual_variables(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "config.toml"
    path.write_text(
        'profile = "local"\nmodel = "top"\n[profiles.local]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "small"\n'
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    settings = resolve(config.layers_of(path, {}, {})).settings
    assert (settings.base_url, settings.model) == ("http://127.0.0.1:9/v1", "small")
    settings = resolve(config.layers_of(path, {"model": "session"}, {"profile": "local"})).settings
    assert settings.model == "small"


def test_the_key_of_one_server_is_not_sent_to_another(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('[profiles.local]\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert resolve(config.layers_of(path, {}, {"profile": "local"})).settings.api_key_env == ""
    assert resolve(config.layers_of(path, {}, {})).settings.api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = \n", "line 1, column 9"),
        ('modle = "x"\n', "line 1, column 1: There is no setting 'modle' here"),
        (
            "[memory.window]\nturns = 'ten'\n",
            "line 2, column 1: memory.window.turns should be a whole number of at least 0, not 'ten'",
        ),
        ("x = " + "[" * 5000, "no TOML"),
        ("\x00", "no TOML"),
    ],
)
def test_a_broken_config_says_where_and_what(home: Path, text: str, words: str) -> None:
    path = home / "config.toml"
    path.write_text(text)
    with pytest.raises(WrongUse) as caught:
        config.from_file(path)
    assert words in caught.value.message


def test_a_key_is_only_read_from_a_config_nobody_else_can_read(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('api_key = "sk-0123456789abcdef"\n')
    path.chmod(0o644)
    with pytest.raises(WrongUse, match="can be read by others"):
        config.from_file(path)
    path.chmod(0o600)
    assert config.from_file(path)["api_key"] == "sk-0123456789abcdef"


@pytest.mark.parametrize(
    ("spec", "table"),
    [
        ("buffer", {"strategy": "buffer"}),
        ("window:6", {"strategy": "window", "turns": 6, "slack": 0, "max_messages": None}),
        ("window", {"strategy": "window"}),
        ("window:6,slack=2", {"strategy": "window", "turns": 6, "slack": 2, "max_messages": None}),
        ("token-trim:4000", {"strategy": "token-trim", "max_tokens": 4000, "low_water": 1.0}),
        ("summary:4000,recall_tokens=0", {"strategy": "summary", "max_tokens": 4000, "recall_tokens": 0}),
        ("token-trim,low-water=0.5", {"strategy": "token-trim", "low_water": 0.5}),
    ],
)
def test_a_memory_spec_means_what_it_says(spec: str, table: dict[str, Any]) -> None:
    assert memory.table_of(spec) == table
    strategy = memory.from_table(table)
    assert memory.from_table(memory.table_of(memory.spec_of(strategy))) == strategy


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "windw",
        "window:ten",
        "window:-1",
        "buffer:3",
        "window:6,slak=1",
        "window,turns",
        "summary:0",
        "token-trim:1.5",
    ],
)
def test_a_bad_memory_spec_is_refused_with_a_way_out(spec: str) -> None:
    with pytest.raises(WrongUse) as caught:
        memory.table_of(spec)
    assert caught.value.message
