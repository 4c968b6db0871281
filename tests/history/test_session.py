"""Sessions: built by applying records, whatever the records contain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chatmem.history.records import Message, new_id, parse_time, utc_now
from chatmem.history.session import Session
from chatmem.text import fix_surrogates


def message(ident: str, parent: str | None, role: str = "user", content: str = "x", **more: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "id": ident,
        "parent": parent,
        "role": role,
        "content": content,
        "time": utc_now(),
        **more,
    }


def make_session(turns: int) -> Session:
    session, head = Session("s"), None
    for n in range(1, turns + 1):
        session.apply(message(f"q{n}", head, "user", f"question {n}"))
        session.apply(message(f"a{n}", f"q{n}", "assistant", f"answer {n}"))
        head = f"a{n}"
    return session


def test_turns_are_numbered_from_one_along_the_path() -> None:
    session = make_session(3)
    assert [(t.number, t.question.content, t.reply) for t in session.turns] == [
        (n, f"question {n}", f"answer {n}") for n in (1, 2, 3)
    ]


def test_a_head_record_moves_the_path_and_deletes_nothing() -> None:
    session = make_session(3)
    session.apply({"type": "head", "message": "a1"})
    assert [m.id for m in session.path] == ["q1", "a1"] and len(session.messages) == 6
    session.apply(message("q2b", "a1"))
    assert [m.id for m in session.path] == ["q1", "a1", "q2b"]
    assert [m.id for m in session.leaves()] == ["a3", "q2b"]


def test_a_null_head_starts_an_empty_path_in_the_same_session() -> None:
    session = make_session(2)
    session.apply({"type": "head", "message": None})
    assert session.path == [] and session.turns == [] and len(session.messages) == 4


def test_replies_in_a_row_are_joined_by_a_blank_line() -> None:
    session = make_session(1)
    session.apply(message("a1b", "a1", "assistant", "more"))
    assert session.turns[0].reply == "answer 1\n\nmore"


def test_messages_before_the_first_question_are_the_preamble() -> None:
    session = Session.replay("s", [message("g", None, "assistant", "Hello!"), message("q", "g")])
    assert [m.id for m in session.preamble] == ["g"] and len(session.turns) == 1


def test_a_message_whose_parent_is_damaged_follows_the_one_before_it() -> None:
    session = Session.replay("s", [message("q1", None), message("a2", "lost", "assistant"), message("q3", "a2")])
    assert [m.id for m in session.path] == ["q1", "a2", "q3"]


def test_a_repeated_message_id_is_ignored() -> None:
    session = Session.replay("s", [message("q1", None, content="first"), message("q1", None, content="second")])
    assert [m.content for m in session.path] == ["first"]


def test_later_settings_win_key_by_key_and_null_removes_one() -> None:
    session = Session.replay(
        "s", [{"type": "settings", "model": "a", "title": "T"}, {"type": "settings", "model": "b", "title": None}]
    )
    assert session.settings == {"model": "b"}


def test_a_mark_applies_to_the_whole_turn() -> None:
    session = make_session(2)
    session.apply({"type": "mark", "message": "a1", "pinned": True})
    assert [t.pinned for t in session.turns] == [True, False]
    session.apply({"type": "mark", "message": "a1", "pinned": False})
    assert not session.turns[0].pinned


def test_the_last_summary_of_a_span_wins() -> None:
    session = make_session(2)
    for text in ("one", "two"):
        session.apply({"type": "summary", "id": text, "from": "q1", "to": "a1", "level": 0, "text": text})
    assert [s.text for s in session.summaries.values()] == ["two"]


def test_unknown_and_malformed_records_are_counted_and_change_nothing() -> None:
    session = make_session(1)
    before = list(session.path)
    unknown: list[dict[str, Any]] = [{"type": "later"}, {"type": ["x"]}, {}]
    malformed: list[dict[str, Any]] = [
        {"type": "message", "id": 3},
        {"type": "head", "message": "nowhere"},
        {"type": "mark"},
        {"type": "summary"},
    ]
    for record in unknown + malformed:
        session.apply(record)
    assert (session.unknown_count, session.malformed_count, session.path) == (3, 4, before)


def test_a_newer_major_version_is_read_only() -> None:
    assert Session.replay("s", [{"type": "session", "chatmem": 2}]).read_only
    assert not Session.replay("s", [{"type": "session", "chatmem": 1}]).read_only


def test_the_title_is_the_first_words_of_the_first_question_until_one_is_set() -> None:
    session = Session.replay("s", [message("q", None, content="one two  three\nfour " * 5)])
    assert session.title == "one two three four " * 4 + "one…"
    session.apply({"type": "settings", "title": "Counting"})
    assert session.title == "Counting"


def test_a_message_is_written_back_as_the_record_it_was_read_from() -> None:
    record = message(
        "a", None, "assistant", "hi", model="m", status="length", usage={"prompt": 3}, sent={"strategy": "buffer"}
    )
    session = Session.replay("s", [record])
    assert session.messages["a"].record() == record


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=8,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["session", "settings", "message", "summary", "mark", "head"]) | JSON},
        optional=dict.fromkeys(
            (
                "id",
                "parent",
                "role",
                "content",
                "message",
                "from",
                "to",
                "text",
                "level",
                "pinned",
                "chatmem",
                "title",
                "without",
            ),
            JSON,
        ),
    )
)


@pytest.mark.no_cover
@given(RECORDS)
@hypothesis_settings(max_examples=50)
def test_replaying_any_records_never_fails(records: list[dict[str, Any]]) -> None:
    session = Session.replay("s", records)
    for attribute in (
        "path",
        "turns",
        "preamble",
        "title",
        "model",
        "last_active",
        "created",
        "unanswered",
        "read_only",
        "turn_index",
    ):
        getattr(session, attribute)
    assert [m for t in session.turns for m in t.messages] == session.path[len(session.preamble) :]


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["user", "assistant"])), max_size=40))
def test_applying_records_one_by_one_and_replaying_them_give_the_same_turns(steps: list[tuple[int, str]]) -> None:
    records = []
    for number, (parent, role) in enumerate(steps):
        records.append(message(f"m{number}", f"m{parent % number}" if number else None, role, f"text {number}"))
    growing = Session("s")
    for record in records:
        growing.apply(record)
        growing.turns  # noqa: B018  # cached between records
    whole = Session.replay("s", records)
    assert growing.turns == whole.turns and growing.turn_index == whole.turn_index
    assert [turn.number for turn in growing.turns] == list(range(1, len(growing.turns) + 1))
    assert all(growing.turn(turn.number) is turn for turn in growing.turns)


def test_the_system_prompt_is_the_override_else_the_setting_else_empty() -> None:
    session = Session("s")
    assert session.system == ""
    session.apply({"type": "settings", "system": "from the session"})
    assert session.system == "from the session"
    session.system_override = ""
    assert session.system == ""


def test_the_model_is_that_of_the_newest_reply_else_the_setting() -> None:
    session = make_session(2)
    session.apply({"type": "settings", "model": "set"})
    assert session.model == "set"
    for number, model in enumerate(("first", "second", None)):
        reply = message(f"r{number}", session.head, "assistant", "reply")
        session.apply(reply | ({"model": model} if model else {}))
    assert session.model == "second"


def test_the_title_ignores_replies_and_blank_questions() -> None:
    session = Session("s")
    for number, (role, text) in enumerate((("assistant", "a greeting"), ("user", "  \n"), ("user", "the question"))):
        session.apply(message(f"m{number}", session.head, role, text))
    assert session.title == "the question"


def test_the_children_of_a_message_are_its_branches_oldest_first() -> None:
    session = make_session(1)
    question, reply = session.path
    session.apply(message("other", question.id, "assistant", "another reply"))
    assert [m.id for m in session.children(question.id)] == [reply.id, "other"]
    assert session.children("unknown id") == []


def test_ids_sort_by_age_and_times_are_utc() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert utc_now().endswith("Z") and parse_time(utc_now()) is not None and parse_time("yesterday") is None


def test_split_surrogates_are_joined_and_lone_ones_replaced() -> None:
    assert fix_surrogates("a\ud83c\udf89b\ud800") == "a🎉b\ufffd"
    json.dumps(fix_surrogates("\udfff"), ensure_ascii=False).encode()


def test_a_question_is_unanswered_until_it_has_a_reply() -> None:
    session = make_session(1)
    assert session.unanswered is None
    session.apply(message("q2", "a1"))
    assert isinstance(session.unanswered, Message) and session.unanswered.id == "q2"
