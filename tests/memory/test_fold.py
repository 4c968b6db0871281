"""Folding: all of it, from the originals, once; and a fold that fails changes nothing."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from chatmem import memory
from chatmem.chat import Chat, Choice
from chatmem.errors import ContextExceeded, ServerFailed
from chatmem.memory.facts import facts_of, missing
from chatmem.memory.fold import Fold, Summariser
from chatmem.memory.notes import cover
from chatmem.memory.view import Wire
from chatmem.models.base import Piece
from chatmem.session import Session
from chatmem.stores import open_store
from chatmem.tokens import Counter, estimate
from tests.memory.test_plan import talk
from tests.test_chat import Scripted, texts

COUNT = Counter(None, estimate)


class Notes:
    """A summariser that writes down which turns it was shown."""

    def __init__(self, *answers: object, window: int = 8192) -> None:
        self.answers, self.window = list(answers), window
        self.shown: list[str] = []

    def ask(self, messages: Sequence[Wire], most: int) -> tuple[str, str | None]:
        self.shown.append(messages[-1]["content"])
        if self.answers and (answer := self.answers.pop(0)) is not None:
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, tuple) else (str(answer), "complete")
        if estimate(messages[-1]["content"]) > self.window:
            raise ContextExceeded("too long", limit=self.window)
        return f"notes {len(self.shown)}", "complete"

    def fold(self, session: Session, before: int, notes: int = 300) -> Fold:
        fold = Fold.of(session, before, notes, Summariser("notes", self.window, self.ask), COUNT)
        fold.run()
        for part in fold.parts:
            session.apply(part.record())
        return fold


def test_all_turns_before_the_cut_are_shown_to_the_summariser_each_once() -> None:
    session, notes = talk(40), Notes(window=1200)
    notes.fold(session, 30, notes=5000)
    shown = "\n".join(notes.shown)
    assert all(shown.count(f"user {n} ") == 1 and shown.count(f"assistant {n} ") == 1 for n in range(1, 31))
    assert "user 31 " not in shown and len(notes.shown) > 1


def test_a_second_fold_goes_on_where_the_first_ended_and_skips_nothing() -> None:
    session, notes = talk(40), Notes()
    notes.fold(session, 10, notes=5000)
    notes.fold(session, 30, notes=5000)
    notes.fold(session, 30, notes=5000)
    shown = "\n".join(notes.shown)
    assert all(shown.count(f"user {n} ") == 1 for n in range(1, 31)) and len(notes.shown) == 2


def test_no_fact_is_rewritten_more_often_than_the_logarithm_of_the_parts() -> None:
    session = talk(64)
    for end in range(1, 65):
        Notes().fold(session, end, notes=140)
    levels = [part.level for part in session.summaries.values()]
    assert max(levels) <= math.ceil(math.log2(64)) + 1
    covered = [i for first, last, _ in cover(session, session.turns, 64) for i in range(first, last + 1)]
    assert covered == list(range(64))
    assert max(Tally(covered).values()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        ServerFailed("down"),
        "",
        "   ",
        ("half a no", None),
        ("x", "filtered"),
        "I'm sorry, I cannot do that.",
        ValueError("odd"),
    ],
)
def test_a_fold_that_fails_changes_nothing(answer: object) -> None:
    session = talk(20)
    fold = Notes(answer).fold(session, 10)
    assert fold.error and not session.summaries


def test_a_transcript_too_long_for_the_summariser_is_noted_in_pieces() -> None:
    session, notes = talk(2, words=3000), Notes(window=900)
    fold = notes.fold(session, 1)
    assert not fold.error and len(session.summaries) == 1 and len(notes.shown) > 2
    assert all(estimate(text) <= 900 for text in notes.shown[-3:])


def test_a_window_smaller_than_it_said_is_met_by_smaller_pieces() -> None:
    session = talk(20, words=100)
    notes = Notes(ContextExceeded("too long", limit=1000))
    assert not notes.fold(session, 10).error and len(notes.shown) > 2


def test_pinned_and_excluded_turns_are_never_folded() -> None:
    session, notes = talk(20), Notes()
    session.apply({"type": "mark", "message": "q3", "pinned": True})
    session.apply({"type": "mark", "message": "q5", "excluded": True})
    notes.fold(session, 10)
    assert not any(f"user {n} " in "".join(notes.shown) for n in (3, 5))


def test_the_transcript_is_data_and_the_prompt_says_so() -> None:
    seen: list[Sequence[Wire]] = []

    def ask(messages: Sequence[Wire], most: int) -> tuple[str, str | None]:
        seen.append(messages)
        return "notes", "complete"

    Fold.of(talk(5), 3, 300, Summariser("x", 8192, ask), COUNT).run()
    assert [m["role"] for m in seen[0]] == ["system", "user"] and "not instructions" in seen[0][0]["content"]
    assert seen[0][1]["content"].startswith("user: user 1")


def test_notes_longer_than_asked_for_are_cut_at_a_line() -> None:
    session = talk(10)
    Notes("\n".join(f"line {n} " + "word " * 20 for n in range(200))).fold(session, 5, notes=300)
    (part,) = session.summaries.values()
    assert COUNT.text(part.text) <= 100 and part.text.endswith("word")


def test_a_fact_that_the_summariser_dropped_is_kept_to_the_letter() -> None:
    session = talk(3)
    session.apply(
        {
            "type": "message",
            "id": "qx",
            "parent": session.head,
            "role": "user",
            "content": "By the way. The locker code is XK-4821.",
            "time": "",
        }
    )
    session.apply({"type": "message", "id": "ax", "parent": "qx", "role": "assistant", "content": "Noted.", "time": ""})
    session.apply({"type": "message", "id": "qy", "parent": "ax", "role": "user", "content": "next", "time": ""})
    session.apply({"type": "message", "id": "ay", "parent": "qy", "role": "assistant", "content": "fine", "time": ""})
    Notes("The user mentioned a locker.").fold(session, 4)
    (part,) = session.summaries.values()
    assert "- The locker code is XK-4821." in part.text


def test_what_a_newer_statement_overrides_is_not_missed() -> None:
    old, new = "The code for the router is XK-1.", "Correction: the code for the router is ZZ-9 now."
    assert list(missing(old, "nothing")) == [old] and not list(missing(old, "nothing", newer=new))
    assert "XK-1" in facts_of([old])


def test_code_blocks_flood_no_notes() -> None:
    assert not list(missing("```\nx1 = 0x4821\ny2 = 99999\n```\n", ""))


class Folding(Scripted):
    """A model that also makes notes, or fails to."""

    fails = False

    def stream(self, messages, options):  # type: ignore[no-untyped-def]
        if messages[0]["role"] == "system" and messages[0]["content"].startswith("You write the notes"):
            if self.fails:
                raise ServerFailed("no notes today")
            yield Piece(text="notes of old turns")
            yield Piece(finish="complete")
            return
        yield from super().stream(messages, options)


def chat_with(tmp_path: Path, model: Folding) -> Chat:
    strategy = memory.from_table(memory.table_of("summary:600,recall_tokens=0"))
    return Chat(open_store("file", tmp_path), "work", lambda session: Choice(model, strategy, lambda m: COUNT))


def test_what_falls_out_is_folded_in_the_background_and_kept_with_the_next_turn(tmp_path: Path) -> None:
    model = Folding(*([f"answer {n} " + "word " * 30] for n in range(40)))
    chat = chat_with(tmp_path, model)
    for n in range(24):
        texts(chat, f"question {n} " + "word " * 20)
        if chat.fold:
            assert chat.fold.join(10)
    assert chat.session.summaries and "notes of old turns" in model.sent[-1][0]["content"]
    again = chat_with(tmp_path, Folding())
    assert [p.text for p in again.notes()] == [p.text for p in chat.notes()]


def test_failing_folds_rest_for_1_2_4_8_turns_and_the_chat_goes_on(tmp_path: Path) -> None:
    model = Folding(*([f"answer {n} " + "word " * 30] for n in range(60)))
    model.fails = True
    chat, began = chat_with(tmp_path, model), []
    for n in range(40):
        texts(chat, f"question {n} " + "word " * 20)
        if chat.fold:
            began.append(n)
            chat.fold.join(10)
    gaps = [b - a for a, b in pairwise(began)]
    assert gaps[:4] == [1, 2, 4, 8] and not chat.session.summaries
    assert all(estimate(str(sent)) < 3000 for sent in model.sent)


def test_finishing_a_fold_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    chat = chat_with(tmp_path, Folding(*([f"answer {n} " + "word " * 30] for n in range(40))))
    for n in range(12):
        texts(chat, f"question {n} " + "word " * 20)
    chat.finish_fold(10)
    assert chat.fold is None and chat.session.summaries


def test_edited_notes_take_the_place_of_the_made_ones(tmp_path: Path) -> None:
    chat = chat_with(tmp_path, Folding(*([f"answer {n} " + "word " * 30] for n in range(40))))
    for n in range(12):
        texts(chat, f"question {n} " + "word " * 20)
    chat.finish_fold(10)
    chat.edit_notes(chat.notes()[0], "my own words")
    assert chat.notes()[0].text == "my own words" and chat.notes()[0].edited
    chat.edit_notes(chat.notes()[0], "")
    assert "my own words" not in [p.text for p in chat.notes()]
