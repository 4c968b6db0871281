"""Summaries: every turn is summarised once, from the original text; a job that fails changes nothing."""

from __future__ import annotations

import math
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
from tests.memory.test_planner import make_session


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
