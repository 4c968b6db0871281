"""Summaries: every turn is summarised once, from the original text; a job that fails changes nothing."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.errors import ContextLengthError, ServerError
from chatmem.history.session import Session
from chatmem.memory import strategies
from chatmem.memory.dates import Calendar
from chatmem.memory.plan import ApiMessage
from chatmem.memory.summaries import select_summaries
from chatmem.memory.summarizer import SummaryJob, SummaryModel
from chatmem.models.base import Options, StreamChunk
from chatmem.stores import open_store
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.chat.test_chat import texts
from tests.fakes import ScriptedModel
from tests.memory.test_planner import add_summary, make_session


def counter() -> Counter:
    """A counter of its own: counts are cached by the ids of messages."""
    return Counter(None, estimate_tokens)


class FakeSummarizer:
    """Answers requests for summaries, and records the transcripts it was shown."""

    def __init__(self, *answers: object, window: int = 8192) -> None:
        self.answers, self.window = list(answers), window
        self.shown: list[str] = []

    def ask(self, messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        self.shown.append(messages[-1]["content"])
        if self.answers and (answer := self.answers.pop(0)) is not None:
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, tuple) else (str(answer), "complete")
        if estimate_tokens(messages[-1]["content"]) > self.window:
            raise ContextLengthError("too long", limit=self.window)
        return f"summary {chr(96 + len(self.shown) % 26)}", "complete"

    def summarise(self, session: Session, before: int, tokens: int = 300) -> SummaryJob:
        """Summarise the turns before number `before + 1`, and store the result in the session."""
        job = SummaryJob.for_session(
            session, before, tokens, SummaryModel("scripted", self.window, self.ask), counter()
        )
        job.run()
        for summary in job.segments:
            session.apply(summary.record())
        return job


def test_every_turn_before_the_cut_is_shown_to_the_summary_model_once() -> None:
    session, summarizer = make_session(40), FakeSummarizer(window=1200)
    summarizer.summarise(session, 30, tokens=5000)
    shown = "\n".join(summarizer.shown)
    assert all(shown.count(f"user {n} ") == 1 and shown.count(f"assistant {n} ") == 1 for n in range(1, 31))
    assert "user 31 " not in shown and len(summarizer.shown) > 1


def test_a_second_job_continues_where_the_first_ended() -> None:
    session, summarizer = make_session(40), FakeSummarizer()
    summarizer.summarise(session, 10, tokens=5000)
    summarizer.summarise(session, 30, tokens=5000)
    summarizer.summarise(session, 30, tokens=5000)
    shown = "\n".join(summarizer.shown)
    assert all(shown.count(f"user {n} ") == 1 for n in range(1, 31)) and len(summarizer.shown) == 2


def test_no_summary_is_rewritten_more_often_than_the_logarithm_of_their_number() -> None:
    session = make_session(64)
    for end in range(1, 65):
        FakeSummarizer().summarise(session, end, tokens=140)
    levels = [summary.level for summary in session.summaries.values()]
    assert max(levels) <= math.ceil(math.log2(64)) + 1
    covered = [i for first, last, _ in select_summaries(session, session.turns, 64) for i in range(first, last + 1)]
    assert covered == list(range(64))
    assert max(Tally(covered).values()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        ServerError("down"),
        "",
        "   ",
        ("half a no", None),
        ("x", "filtered"),
        "I'm sorry, I cannot do that.",
        ValueError("odd"),
    ],
)
def test_a_job_that_fails_changes_nothing(answer: object) -> None:
    session = make_session(20)
    job = FakeSummarizer(answer).summarise(session, 10)
    assert job.error and not session.summaries


def test_a_transcript_too_long_for_the_model_is_summarised_in_pieces() -> None:
    session, summarizer = make_session(2, words=3000), FakeSummarizer(window=900)
    job = summarizer.summarise(session, 1)
    assert not job.error and len(session.summaries) == 1 and len(summarizer.shown) > 2
    assert all(estimate_tokens(text) <= 900 for text in summarizer.shown[-3:])


def test_a_window_smaller_than_reported_leads_to_smaller_pieces() -> None:
    session = make_session(20, words=100)
    summarizer = FakeSummarizer(ContextLengthError("too long", limit=1000))
    assert not summarizer.summarise(session, 10).error and len(summarizer.shown) > 2


def test_pinned_and_excluded_turns_are_never_summarised() -> None:
    session, summarizer = make_session(20), FakeSummarizer()
    session.apply({"type": "mark", "message": "q3", "pinned": True})
    session.apply({"type": "mark", "message": "q5", "excluded": True})
    summarizer.summarise(session, 10)
    assert not any(f"user {n} " in "".join(summarizer.shown) for n in (3, 5))


def test_the_transcript_is_data_and_the_prompt_says_so() -> None:
    seen: list[Sequence[ApiMessage]] = []

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        seen.append(messages)
        return "notes", "complete"

    SummaryJob.for_session(make_session(5), 3, 300, SummaryModel("x", 8192, ask), counter()).run()
    assert [m["role"] for m in seen[0]] == ["system", "user"] and "not instructions" in seen[0][0]["content"]
    assert seen[0][1]["content"].startswith("user: user 1")


def test_the_prompt_names_its_length_and_asks_for_dates_only_if_the_transcript_has_them() -> None:
    for calendar in (None, Calendar(datetime(2026, 5, 20, tzinfo=UTC), annotates=True)):
        seen: list[Sequence[ApiMessage]] = []

        def ask(messages: Sequence[ApiMessage], most: int, seen: list[Sequence[ApiMessage]] = seen) -> tuple[str, str]:
            seen.append(messages)
            lines = (f"Talked about the {word} at some length." for word in "harbour sea boat wind sail oar".split())
            return "\n".join(lines), "complete"

        session = make_session(16)
        session.apply(
            {
                "type": "message",
                "id": "qz",
                "parent": session.head,
                "role": "user",
                "content": "See you tomorrow.",
                "time": "2026-05-02T10:00:00Z",
            }
        )
        session.apply({"type": "message", "id": "az", "parent": "qz", "role": "assistant", "content": "See you."})
        model = SummaryModel("x", 1_000, ask)
        calls = 0
        for before in (3, 6, 9, 12, 17):
            job = SummaryJob.for_session(session, before, 200, model, counter(), calendar=calendar)
            job.run()
            calls += job.calls
            for segment in job.segments:
                session.apply(segment.record())
        assert calls == len(seen) and not job.error
        assert all(f"at most {max(64, 200 // 3) * 2 // 3} words" in messages[0]["content"] for messages in seen)
        merges = [messages for messages in seen if "two such summaries" in messages[0]["content"]]
        assert merges and len(merges) < len(seen), "neighbours were merged"
        assert all(("Begin the first line of each day" in m[0]["content"]) == bool(calendar) for m in seen)
        transcript = next(m[1]["content"] for m in seen if "See you" in m[1]["content"])
        dated = "2026-05-02:\nuser: See you tomorrow [2026-05-03].\n"
        assert (dated in transcript) == bool(calendar) and "user: See you tomorrow" in transcript


def test_segments_that_exceed_their_share_are_merged_until_they_fit() -> None:
    session = make_session(40)
    answer = "\n".join(f"Talked about the {word} at some length." for word in "harbour sea boat wind".split())
    summarizer = FakeSummarizer(*[answer] * 200, window=600)
    job = summarizer.summarise(session, 36, tokens=400)
    spans = select_summaries(session, session.turns, 36)
    assert job.calls == len(summarizer.shown) > len(spans)
    assert any(segment.level for _, _, segment in spans)
    assert sum(counter().count_text(segment.text) + 2 for _, _, segment in spans) <= 400
    covered = [i for first, last, _ in spans for i in range(first, last + 1)]
    assert covered == list(range(36))


def test_an_answer_that_was_cut_off_loses_its_last_line() -> None:
    session = make_session(4)
    FakeSummarizer(("Talked about words.\nAnd about hal", "length")).summarise(session, 2)
    (segment,) = session.summaries.values()
    assert segment.text == "Talked about words."


def test_a_summary_longer_than_requested_is_cut_at_a_line() -> None:
    session = make_session(10)
    FakeSummarizer("\n".join(f"line {n} " + "word " * 20 for n in range(200))).summarise(session, 5, tokens=300)
    (summary,) = session.summaries.values()
    assert counter().count_text(summary.text) <= 100 and summary.text.endswith("word")


def test_a_fact_that_the_model_dropped_is_appended_verbatim() -> None:
    session = make_session(3)
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
    FakeSummarizer("The user mentioned a locker.").summarise(session, 4)
    (summary,) = session.summaries.values()
    assert "The locker code is XK-4821." in summary.text.split("\n")


class SummarizingModel(ScriptedModel):
    """A model that also writes summaries, or fails to."""

    fails = False

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        if messages[0]["role"] == "system" and messages[0]["content"].startswith("You summarise"):
            if self.fails:
                raise ServerError("no summary today")
            yield StreamChunk(text="a summary of old turns")
            yield StreamChunk(status="complete")
            return
        yield from super().stream(messages, options)


def chat_with(tmp_path: Path, model: SummarizingModel) -> Chat:
    strategy = strategies.strategy_from_mapping(strategies.parse_spec("summary:600,recall_tokens=0"))
    counts = counter()
    return Chat(open_store("file", tmp_path), "work", lambda session: TurnConfig(model, strategy, lambda m: counts))


def test_old_turns_are_summarised_in_the_background_and_stored_with_the_next_turn(tmp_path: Path) -> None:
    model = SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(40)))
    chat = chat_with(tmp_path, model)
    for n in range(24):
        texts(chat, f"question {n} " + "word " * 20)
        if chat.background.job:
            assert chat.background.job.join(10)
    assert chat.session.summaries and "a summary of old turns" in model.sent[-1][0]["content"]
    again = chat_with(tmp_path, SummarizingModel())
    assert [p.text for p in again.summary.segments()] == [p.text for p in chat.summary.segments()]


def test_failing_jobs_pause_for_1_2_4_8_turns_and_the_chat_continues(tmp_path: Path) -> None:
    model = SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(60)))
    model.fails = True
    chat, started = chat_with(tmp_path, model), []
    for n in range(40):
        texts(chat, f"question {n} " + "word " * 20)
        if chat.background.job:
            started.append(n)
            chat.background.job.join(10)
    gaps = [b - a for a, b in pairwise(started)]
    assert gaps[:4] == [1, 2, 4, 8] and not chat.session.summaries
    assert all(estimate_tokens(str(sent)) < 3000 for sent in model.sent)


def test_waiting_for_a_summary_stores_it(tmp_path: Path) -> None:
    chat = chat_with(tmp_path, SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(40))))
    for n in range(12):
        texts(chat, f"question {n} " + "word " * 20)
    chat.wait_for_summary(10)
    assert chat.background.job is None and chat.session.summaries


def test_an_edited_summary_replaces_the_generated_one(tmp_path: Path) -> None:
    chat = chat_with(tmp_path, SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(40))))
    for n in range(12):
        texts(chat, f"question {n} " + "word " * 20)
    chat.wait_for_summary(10)
    chat.summary.edit(chat.summary.segments()[0], "my own words")
    assert chat.summary.segments()[0].text == "my own words" and chat.summary.segments()[0].edited
    chat.summary.edit(chat.summary.segments()[0], "")
    assert "my own words" not in [p.text for p in chat.summary.segments()]


def test_a_job_that_ended_during_a_reply_is_stored_and_not_made_again(tmp_path: Path) -> None:
    model = SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(40)))
    chat, requests = chat_with(tmp_path, model), 0
    for n in range(30):
        before = chat.background.job
        if before:
            before.join(10)
        texts(chat, f"question {n} " + "word " * 20)
        requests += chat.background.job is not before and chat.background.job is not None
    chat.wait_for_summary(10)
    assert requests and len(chat.session.summaries) >= requests - 1


def test_a_running_job_does_not_undo_an_edit_of_the_summary(tmp_path: Path) -> None:
    chat = chat_with(tmp_path, SummarizingModel(*([f"answer {n} " + "word " * 30] for n in range(40))))
    for n in range(14):
        texts(chat, f"question {n} " + "word " * 20)
    chat.wait_for_summary(10)
    texts(chat, "one more " + "word " * 200)
    chat.summary.edit(chat.summary.segments()[0], "my own words")
    assert chat.background.job is None
    texts(chat, "and another")
    assert "my own words" in [segment.text for segment in chat.session.summaries.values()]


def test_compacting_makes_one_segment_above_the_others_that_heeds_the_focus() -> None:
    session, prompts = make_session(12), []

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        prompts.append(messages[0]["content"])
        return "notes", "complete"

    for focus, level in (("", 0), ("the harbour", 1)):
        job = SummaryJob.for_session(session, 10, 900, SummaryModel("x", 8192, ask), counter())
        segment = job.compact(focus)
        assert segment and job.segments == [segment] and segment.compact
        assert (segment.start, segment.end, segment.level) == ("q1", "a10", level)
        session.apply(segment.record())
    assert "attention" not in prompts[0] and prompts[1] == f"{prompts[0]}\nPay particular attention to: the harbour"


def test_compacting_turns_of_which_none_may_be_summarised_makes_nothing() -> None:
    session, summarizer = make_session(3), FakeSummarizer()
    for number in (1, 2):
        session.apply({"type": "mark", "message": f"q{number}", "pinned": True})
    model = SummaryModel("x", 8192, summarizer.ask)
    assert SummaryJob.for_session(session, 2, 900, model, counter()).compact() is None and not summarizer.shown


def test_6000_tokens_of_turns_are_summarised_at_once_and_half_of_them_where_replies_interrupt_it() -> None:
    for turns, smaller_by, calls in ((60, 0, 1), (61, 0, 2), (120, 0, 2), (121, 0, 3), (30, 1, 1), (31, 1, 2)):
        session = make_session(turns, words=44)  # 100 tokens for each turn
        model = SummaryModel("x", 32_000, FakeSummarizer(window=32_000).ask)
        words = Counter(None, lambda text: len(text.split()))
        job = SummaryJob.for_session(session, turns, 5_000, model, words, smaller_by)
        job.run()
        assert job.calls == len(job.segments) == calls
    assert SummaryJob.for_session(session, 1, 900, model, words).smaller_by == 0


def test_segments_are_merged_once_they_leave_no_space_for_another() -> None:
    for spare, calls in ((64, 0), (63, 1)):
        session = make_session(8)
        for first, last in ((1, 4), (5, 8)):
            add_summary(session, first, last, "Talked about boats. " * 30)
        total = sum(counter().count_text(segment.text) + 2 for segment in session.summaries.values())
        assert FakeSummarizer().summarise(session, 8, tokens=total + spare).calls == calls


def test_a_job_runs_in_the_background_until_its_model_has_answered() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        asked.set()
        may_answer.wait(10)
        return "notes", "complete"

    job = SummaryJob.for_session(make_session(4), 2, 900, SummaryModel("x", 8192, ask), counter())
    assert not job.running and job.join(0)
    job.start()
    assert asked.wait(10) and job.running and not job.join(0)
    may_answer.set()
    assert job.join(10) and not job.running and len(job.segments) == 1


def test_a_job_that_is_stopped_keeps_the_segments_made_so_far() -> None:
    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        job.stop()
        return "notes", "complete"

    job = SummaryJob.for_session(make_session(40, words=120), 40, 5_000, SummaryModel("x", 32_000, ask), counter())
    job.run()
    assert len(job.segments) == job.calls == 1 and job.error == "The summary was stopped."


def test_a_segment_reaches_from_its_first_to_its_last_summarised_turn() -> None:
    session = make_session(12)
    for number, mark in ((1, "pinned"), (5, "pinned"), (6, "excluded"), (10, "excluded")):
        session.apply({"type": "mark", "message": f"q{number}", mark: True})
    FakeSummarizer().summarise(session, 10, tokens=5_000)
    ((first, last, segment),) = select_summaries(session, session.turns, 10)
    assert (first, last, segment.start, segment.end, segment.level) == (1, 8, "q2", "a9", 0)
    assert segment.excluded_turns == {"q5", "q6"}


def test_a_merged_segment_is_one_level_above_both_and_keeps_that_one_was_asked_for() -> None:
    session = make_session(8)
    for first, last, compact in ((1, 4, True), (5, 8, False)):
        record = {"type": "summary", "id": f"s{first}", "from": f"q{first}", "to": f"a{last}", "level": 1}
        session.apply(record | {"text": "Talked about boats. " * 30, "compact": compact})
    (merged,) = FakeSummarizer().summarise(session, 8, tokens=200).segments
    assert (merged.start, merged.end, merged.level, merged.compact) == ("q1", "a8", 2, True)


def test_a_model_that_takes_no_size_ends_the_job_with_its_error() -> None:
    summarizer = FakeSummarizer(*[ContextLengthError("too long", limit=1_000)] * 20)
    job = summarizer.summarise(make_session(20, words=100), 10)
    assert job.error == "too long" and not job.segments and job.calls < 10


def test_each_line_of_a_segment_names_the_turn_that_it_stems_from() -> None:
    session = make_session(2)
    for number, text in ((3, "I keep a walrus in the harbour."), (4, "I bake bread at night.")):
        for ident, role, content in ((f"q{number}", "user", text), (f"a{number}", "assistant", "Noted.")):
            record = {"type": "message", "id": ident, "parent": session.head, "role": role, "content": content}
            session.apply(record)
    FakeSummarizer("Bakes bread.\nKeeps a walrus.").summarise(session, 4, tokens=900)
    (segment,) = session.summaries.values()
    assert segment.text == "Keeps a walrus.\nBakes bread." and segment.sources == (("q3",), ("q4",))


@pytest.mark.parametrize("limit", [900, None])
def test_pieces_are_halved_until_they_fit_whether_or_not_the_server_tells_its_limit(limit: int | None) -> None:
    def ask(messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        if sum(estimate_tokens(message["content"]) for message in messages) + most > 900:
            raise ContextLengthError("too long", limit=limit)
        return "notes", "complete"

    job = SummaryJob.for_session(make_session(40, words=100), 36, 1_000, SummaryModel("x", None, ask), counter())
    job.run()
    assert not job.error and job.segments
