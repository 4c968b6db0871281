"""Configuration: typed values, layers of precedence, and the origin of each value."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmem.app import SCHEMA, App
from chatmem.config.example import example_config, iter_settings
from chatmem.config.loading import Config, Layer, base_layers, load_file, resolve
from chatmem.config.schema import from_mapping, option_field
from chatmem.errors import UsageError
from chatmem.memory import strategies

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Example:
    """An example of settings."""

    turns: int = option_field(10, "A count.", minimum=0)
    share: float = option_field(0.5, "A share.", minimum=0.1, maximum=1.0)
    budget: int | Literal["auto"] = option_field("auto", "A length.", minimum=1, former_name="purse")
    on: bool = option_field(True, "A switch.")
    name: str | None = option_field(None, "A name.")


def config_of(path: Path, session: dict[str, Any] | None = None, flags: dict[str, Any] | None = None) -> Config:
    """The configuration of a session that stored some settings, under some flags."""
    upper = [Layer("session", SCHEMA.nested(session or {})), Layer("flags", SCHEMA.nested(flags or {}))]
    return resolve(SCHEMA, base_layers(SCHEMA, path) + upper)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"turns": "ten"}, "memory.turns must be a whole number of at least 0, not 'ten'"),
        ({"turns": -1}, "memory.turns must be a whole number of at least 0, not -1"),
        ({"turns": True}, "whole number"),
        ({"turn": 3}, "Unknown setting 'turn' in memory."),
        ({"share": 2}, "memory.share must be a number from 0.1 to 1.0, not 2"),
        ({"share": float("nan")}, "a number"),
        ({"budget": "much"}, "memory.budget must be a whole number of at least 1 or 'auto', not 'much'"),
        ({"on": 1}, "memory.on must be true or false, not 1"),
        ({"name": 3}, "memory.name must be a string, not 3"),
        ([], "memory must be a table"),
    ],
)
def test_an_invalid_value_is_refused_with_its_name_and_the_valid_values(table: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        from_mapping(Example, table, "memory")


def test_a_mistyped_setting_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError) as caught:
        from_mapping(Example, {"turn": 3}, "memory")
    assert caught.value.hint == "Did you mean 'turns'?"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [n for n, _, _ in iter_settings(SCHEMA.settings_class())] + ["memory", "options", "profiles"]
            ),
            x,
            max_size=3,
        )
    ),
)


@given(JSON)
def test_any_input_gives_settings_or_a_usage_error(table: Any) -> None:
    try:
        from_mapping(SCHEMA.settings_class, table)
    except UsageError:
        pass


def test_the_example_config_is_generated_and_names_every_setting() -> None:
    text = (ROOT / "config.example.toml").read_text()
    assert text == example_config(SCHEMA)
    for name, _, extra in iter_settings(SCHEMA.settings_class()):
        *_, last = name.split(".")
        assert re.search(rf"^# {last.replace('_', '[_-]')} = ", text, re.M), name
        assert extra["help"] in text


def test_every_line_of_the_example_config_is_valid_when_uncommented(tmp_path: Path) -> None:
    lines = (ROOT / "config.example.toml").read_text().splitlines()
    settings = [line[2:] for line in lines if re.match(r"# (\[[\w.\-\"]+\]$|[\w-]+ = )", line)]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(settings))
    path.chmod(0o600)
    table = tomllib.loads(path.read_text())
    assert table["profiles"]["local"]["model"] and load_file(SCHEMA, path) == table


def test_later_layers_win_and_each_value_knows_its_origin() -> None:
    found = resolve(SCHEMA, [Layer("file", {"model": "a", "system": "s"}), Layer("flags", {"model": "b"})])
    assert (found.settings.model, found.settings.system) == ("b", "s")
    assert found.origins == {"model": "flags", "system": "file"}


def test_precedence_is_flags_then_session_then_own_variables_then_usual_variables_then_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "config.toml"
    path.write_text('model = "file"\nbase_url = "http://file/v1"\n')

    def model(session: dict[str, Any], flags: dict[str, Any]) -> str | None:
        return config_of(path, session, flags).settings.model

    assert model({}, {}) == "file"
    monkeypatch.setenv("CHATMEM_MODEL", "variable")
    assert model({}, {}) == "variable"
    assert model({"model": "session"}, {}) == "session"
    assert model({"model": "session"}, {"model": "flag"}) == "flag"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    assert config_of(path).settings.base_url == "http://environment/v1"


def test_a_profile_ranks_where_it_was_chosen_and_above_the_usual_variables(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "config.toml"
    path.write_text(
        'profile = "local"\nmodel = "top"\n[profiles.local]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "small"\n'
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1")
    settings = config_of(path).settings
    assert (settings.base_url, settings.model) == ("http://127.0.0.1:9/v1", "small")
    settings = config_of(path, {"model": "session"}, {"profile": "local"}).settings
    assert settings.model == "small"


def test_the_key_of_one_server_is_not_sent_to_another(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('[profiles.local]\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert config_of(path, {}, {"profile": "local"}).settings.api_key_env == ""
    assert config_of(path).settings.api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = \n", "line 1, column 9"),
        ('modle = "x"\n', "line 1, column 1: Unknown setting 'modle'."),
        (
            "[memory.window]\nturns = 'ten'\n",
            "line 2, column 1: memory.window.turns must be a whole number of at least 0, not 'ten'",
        ),
        ("x = " + "[" * 5000, "is not valid TOML"),
        ("\x00", "is not valid TOML"),
    ],
)
def test_an_invalid_config_is_reported_with_line_and_column(home: Path, text: str, message: str) -> None:
    path = home / "config.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_file(SCHEMA, path)
    assert message in caught.value.message


def test_a_key_is_only_read_from_a_config_that_other_users_cannot_read(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('api_key = "sk-0123456789abcdef"\n')
    path.chmod(0o644)
    with pytest.raises(UsageError, match="other users can read it"):
        load_file(SCHEMA, path)
    path.chmod(0o600)
    assert load_file(SCHEMA, path)["api_key"] == "sk-0123456789abcdef"


@pytest.mark.parametrize(
    ("spec", "table"),
    [
        ("buffer", {"strategy": "buffer"}),
        ("window:6", {"strategy": "window", "turns": 6, "slack": 0, "max_messages": None}),
        ("window", {"strategy": "window"}),
        ("window:6,slack=2", {"strategy": "window", "turns": 6, "slack": 2, "max_messages": None}),
        ("token-trim:4000", {"strategy": "token-trim", "max_tokens": 4000}),
        ("summary:4000,recall_tokens=0", {"strategy": "summary", "max_tokens": 4000, "recall_tokens": 0}),
        ("token-trim,low-water=0.5", {"strategy": "token-trim", "low_water": 0.5}),
    ],
)
def test_a_memory_spec_is_parsed_and_formatted(spec: str, table: dict[str, Any]) -> None:
    assert strategies.parse_spec(spec) == table
    strategy = strategies.strategy_from_mapping(table)
    assert strategies.strategy_from_mapping(strategies.parse_spec(strategies.format_spec(strategy))) == strategy


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
def test_an_invalid_memory_spec_is_refused_with_a_hint(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        strategies.parse_spec(spec)
    assert caught.value.message and (caught.value.hint or "must be" in caught.value.message)


def test_a_setting_is_read_under_its_former_name() -> None:
    assert from_mapping(Example, {"purse": 5}).budget == 5
    assert from_mapping(Example, {"purse": 5, "budget": 7}).budget == 7


def test_former_names_are_read_from_the_config_and_their_origin_is_known(home: Path) -> None:
    path = home / "config.toml"
    path.write_text("[fold]\nwait = 3.0\n[timeouts]\nfirst = 9.0\nsilence = 8.0\n[memory.summary]\nnotes_tokens = 70\n")
    config = config_of(path)
    assert config.settings.summaries.wait == 3.0
    assert (config.settings.timeouts.first_token, config.settings.timeouts.idle) == (9.0, 8.0)
    assert config.settings.strategy.summary_tokens == 70
    assert config.origins == dict.fromkeys(
        ["summaries.wait", "timeouts.first_token", "timeouts.idle", "memory.summary.summary_tokens"], str(path)
    )


def test_former_names_are_read_from_a_spec_and_a_session() -> None:
    assert strategies.parse_spec("summary,notes_tokens=70") == {"strategy": "summary", "summary_tokens": 70}
    table = SCHEMA.nested({"memory": {"strategy": "summary", "notes_tokens": 70}})
    assert resolve(SCHEMA, [Layer("session", table)]).settings.strategy.summary_tokens == 70


def test_specs_under_former_names_compare_equal_to_current_ones() -> None:
    former, current = "summary:4000,notes_tokens=70", "summary:4000,summary_tokens=70"
    assert strategies.canonical_spec(former) == strategies.canonical_spec(current)


def test_the_prices_of_the_example_config_differ() -> None:
    text = (ROOT / "config.example.toml").read_text()
    prices = re.findall(r"^# (?:prompt|completion|cached) = ([\d.]+)", text, re.M)
    assert len(set(prices)) == 3


def test_an_error_under_a_former_name_is_reported_with_that_name_and_its_line(home: Path) -> None:
    path = home / "config.toml"
    path.write_text("[timeouts]\nsilence = 0\n")
    with pytest.raises(UsageError) as caught:
        load_file(SCHEMA, path)
    assert "line 2, column 1: timeouts.silence must be" in caught.value.message


def test_settings_under_former_and_current_names_are_merged_and_all_validated(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('[fold]\nmodel = "cheap"\nwait = 9\n[summaries]\nwait = 3\n')
    summaries = config_of(path).settings.summaries
    assert (summaries.model, summaries.wait) == ("cheap", 3.0)
    path.write_text('[timeouts]\nfirst = "junk"\nfirst_token = 3\n')
    with pytest.raises(UsageError, match="timeouts\\.first must be"):
        load_file(SCHEMA, path)


def test_a_change_of_the_config_file_is_used_from_the_next_turn_on(home: Path) -> None:
    path = home / "config.toml"
    path.write_text('model = "a"\n')
    app = App()
    first = app.resolve_turn({})
    assert app.resolve_turn({}) is first and app.config.settings.model == "a"
    path.write_text('model = "bb"\n[profiles.x]\nmodel = "px"\n')
    assert app.resolve_turn({}) is not first and app.config.settings.model == "bb"
    assert app.settings_for({"profile": "x"}).settings.model == "px"


def test_a_change_of_the_flags_is_used_from_the_next_turn_on(home: Path) -> None:
    flags = {"model": "a"}
    app = App(flags)
    first = app.resolve_turn({})
    assert app.resolve_turn({}) is first and app.config.settings.model == "a"
    flags["model"] = "b"
    assert app.resolve_turn({}) is not first and app.config.settings.model == "b"
