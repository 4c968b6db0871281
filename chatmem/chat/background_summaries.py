"""Summaries made in the background of a chat. A job outlives the turn that started it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from chatmem.history.records import Record
from chatmem.history.session import Session
from chatmem.memory.strategies.base import Strategy
from chatmem.models.base import Model, is_nearby
from chatmem.tokens.counter import Counter

if TYPE_CHECKING:
    from chatmem.memory.dates import Calendar
    from chatmem.memory.plan import ApiMessage, ContextPlan
    from chatmem.memory.summarizer import SummaryJob, SummaryModel

MAX_SKIPPED_TURNS = 8
CANCELLATIONS_BEFORE_SMALLER = 2
"""After as many cancelled jobs, the next one is made in pieces of half the size."""
REASONING_TOKENS = 1024
"""Added to the token limit of a summary, for models that spend tokens on reasoning."""


class BackgroundSummaries:
    """Runs at most one summary job at a time. After failures it pauses for 1, 2, 4, 8 turns."""

    def __init__(self) -> None:
        self.error = ""
        """Why the last job failed, empty if it did not."""
        self.job: SummaryJob | None = None
        self._model: Model | None = None
        """The model of the job, with a connection of its own."""
        self._cancellations = 0
        """How many jobs in a row were cancelled."""
        self._taken = 0
        self._failures = 0
        self._turns_to_skip = 0

    @property
    def running(self) -> bool:
        return self.job is not None and self.job.running

    @property
    def has_results(self) -> bool:
        """Whether there are segments that were not taken yet."""
        return self.job is not None and self._taken < len(self.job.segments)

    def start_if_due(self, context: ContextPlan, session: Session, model: Model, counter: Counter) -> None:
        """Summarise what was evicted, or soon will be."""
        self._turns_to_skip -= self._turns_to_skip > 0
        is_busy = self.job is not None and (not self.job.stopped or self.has_results)  # or not taken yet
        if not context.summarize_before or self._turns_to_skip or is_busy:
            return
        if share := context.strategy.summary_share(context.budget):
            from chatmem.memory.summarizer import SummaryJob  # imported lazily: most turns need no summary

            self._model = model.for_background()
            self.job = SummaryJob.for_session(
                session,
                context.summarize_before,
                share,
                as_summary_model(self._model, window=model.window),
                counter,
                smaller_by=self._cancellations // CANCELLATIONS_BEFORE_SMALLER,
                calendar=calendar_for(context.strategy),
            )
            self._taken = 0
            self.job.start()

    def make_way(self, server: str) -> None:
        """Cancel a running job if the question is sent to a server that may answer one request at a time.

        The job is made again after the reply, in smaller pieces if that happens repeatedly.
        """
        if not self.job or not self._model or self.job.stopped:
            return
        if server and self._model.server == server and is_nearby(server):
            self.job.stop()
            self._model.cancel()
            self._cancellations += 1

    def discard(self) -> None:
        """End a job and forget its results: the user changed the summary that it started from."""
        if self.job and self._model:
            self.job.stop()
            self._model.cancel()
            self.job = None

    def take_records(self, session: Session) -> list[Record]:
        """The records of new segments that are still valid on the path of the session."""
        if self.job is None:
            return []
        is_done, segments = not self.job.running, self.job.segments[self._taken :]
        self._taken += len(segments)
        if is_done:
            self.error = "" if self.job.stopped else self.job.error
            self._cancellations = self._cancellations if self.job.stopped else 0
            self._failures = self._failures + 1 if self.error else 0
            self._turns_to_skip = min(MAX_SKIPPED_TURNS, 2**self._failures // 2) if self.error else 0
            self.job = None
        index = session.turn_index
        return [segment.record() for segment in segments if segment.start in index and segment.end in index]

    def wait(self, seconds: float) -> bool:
        """Wait for a running job for at most `seconds`, and return whether one is done."""
        return self.job is not None and self.job.join(seconds)


def calendar_for(strategy: Strategy) -> Calendar | None:
    """The local days for the lines of a summary. None if the strategy tells no dates."""
    from chatmem.memory.dates import Calendar  # imported lazily: slow

    return Calendar(datetime.now().astimezone(), annotates=True) if strategy.tells_date else None


def as_summary_model(model: Model, window: int | None) -> SummaryModel:
    """A model with a context window as the writer of summaries."""
    from chatmem.memory.summarizer import SummaryModel

    def ask(messages: Sequence[ApiMessage], max_tokens: int) -> tuple[str, str | None]:
        chunks = list(model.stream(messages, {"max_tokens": max_tokens + REASONING_TOKENS}))
        status = next((chunk.status for chunk in reversed(chunks) if chunk.status), None)
        return "".join(chunk.text for chunk in chunks), status

    return SummaryModel(model.name, window, ask)
