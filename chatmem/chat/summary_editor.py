"""What the user can do to the summary of a chat: read it, edit it, discard it, have it made now, and forget parts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from chatmem.chat.background_summaries import BackgroundSummaries, as_summary_model, calendar_for
from chatmem.chat.journal import Journal
from chatmem.chat.turn_config import TurnConfig
from chatmem.errors import UsageError
from chatmem.history.records import Summary, new_id, utc_now
from chatmem.memory.forgetting import Match, find_matches, has_words
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summaries import select_summaries
from chatmem.text import fix_surrogates, truncate
from chatmem.tokens.counter import Counter


class SummaryEditor:
    """The summary segments of a session. Every change ends a job that works from the state before it."""

    def __init__(
        self,
        journal: Journal,
        background: BackgroundSummaries,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._journal, self._background, self._transaction = journal, background, transaction

    def segments(self) -> list[Summary]:
        """The segments that represent turns of this path, oldest first."""
        session = self._journal.session
        return [segment for _, _, segment in select_summaries(session, session.turns, len(session.turns))]

    def discard(self) -> None:
        """Discard every segment on this path, so that they are made again from the turns."""
        session = self._journal.session
        index = session.turn_index
        found = [s for s in session.summaries.values() if s.start in index and s.end in index]
        self._append(*(segment._replace(id=new_id(), text="", sources=()) for segment in found))

    def edit(self, segment: Summary, text: str) -> None:
        """Replace the text of a segment. An empty text discards it, so that it is made again."""
        self._append(segment._replace(id=new_id(), text=fix_surrogates(text), edited=bool(text), sources=()))

    def add(self, segment: Summary) -> None:
        """Store a segment that `summarize` made."""
        self._append(segment)

    def summarize(self, config: TurnConfig, strategy: Strategy, counter: Counter, focus: str = "") -> Summary | None:
        """A segment for everything but the newest turn, not stored yet. None if there is nothing to summarise.

        Takes as long as the model takes. Raises ChatmemError.
        """
        from chatmem.memory.summarizer import SummaryJob  # imported lazily: rarely used

        self._background.discard()
        session, model = self._journal.session, config.summary_model or config.model
        share = strategy.summary_share(strategy.budget(config.limits).tokens)
        writer = as_summary_model(model, model.window)
        before, calendar = len(session.turns) - 1, calendar_for(strategy)
        job = SummaryJob.for_session(session, before, share, writer, counter, calendar=calendar)
        return job.compact(focus)

    def matches(self, text: str) -> list[Match]:
        """What `forget` would hide: lines of the summary, and passages of the conversation."""
        if not has_words(text):
            raise UsageError("The text has no words to search for.", "Name the words to forget.")
        return list(find_matches(self._journal.session, text, self.segments()))

    def forget(self, text: str) -> None:
        """Show what contains all words of a text, and was said so far, neither in summaries nor in excerpts again."""
        self._background.discard()
        with self._transaction():
            self._journal.append({"type": "forget", "text": fix_surrogates(text), "time": utc_now()})

    def remember(self, text: str) -> None:
        """Take back what was forgotten with exactly this text. Raises UsageError."""
        if not any(entry.text == text for entry in self._journal.session.forgotten):
            raise UsageError(f"{truncate(text)!r} was not forgotten.")
        self._background.discard()
        with self._transaction():
            self._journal.append({"type": "forget", "text": text, "undone": True, "time": utc_now()})

    def _append(self, *segments: Summary) -> None:
        self._background.discard()
        with self._transaction():
            self._journal.append(*(segment.record() for segment in segments))
