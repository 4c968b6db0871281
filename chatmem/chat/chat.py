"""One turn, told from start to end; and what else can be done to a conversation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatmem.chat.background_summaries import BackgroundSummaries
from chatmem.chat.background_title import BackgroundTitle
from chatmem.chat.fact_book import FactBook
from chatmem.chat.journal import Journal
from chatmem.chat.turn_config import ResolveTurn, TurnConfig
from chatmem.errors import (
    Action,
    ChatmemError,
    ContextBudgetError,
    ContextLengthError,
    IncompleteReplyError,
    Notice,
    Notify,
    StorageError,
    UsageError,
    ignore_notices,
)
from chatmem.history.records import Message, Record, Usage, new_id, utc_now
from chatmem.history.session import Session, Turn
from chatmem.memory.budget import proven_window
from chatmem.memory.pins import check_pin
from chatmem.memory.strategies import current_names
from chatmem.memory.strategies.base import Strategy
from chatmem.models.base import StreamChunk
from chatmem.process import defer_signals
from chatmem.stores.base import SessionStore
from chatmem.text import fix_surrogates, pluralize, truncate
from chatmem.tokens.calibration import calibrate
from chatmem.tokens.counter import Counter

if TYPE_CHECKING:  # the planner is imported when it is needed: the prompt is there before
    from chatmem.chat.summary_editor import SummaryEditor
    from chatmem.memory.compare import ComparisonRow
    from chatmem.memory.plan import ContextPlan
    from chatmem.memory.retrieval import PassageIndex

MATCHING_COUNTS = 0.1
"""The share by which a server's count of a prompt may differ from ours to be believed."""
MATCHING_TOKENS = 64
"""The tokens by which it may differ in any case: what a server adds to every request."""
MIN_SUMMARY_WAIT = 1.0
"""Seconds that `wait_for_summary` waits even after a fast reply."""
RENAMED_ID = "A program opens this session by its id {!r}, which leads to the former name: it will start a new one."
MAX_ATTEMPTS = 3
"""How often a question is sent if the server refuses it as too long."""


class Chat:
    """A conversation in progress: a session, a model that answers, and a memory strategy."""

    def __init__(
        self,
        store: SessionStore,
        name: str,
        resolve: ResolveTurn,
        notify: Notify = ignore_notices,
        wait: bool = True,
        initial_settings: Record | None = None,
        read_only: bool = False,
        facts: FactBook | None = None,
        external_id: str | None = None,
    ) -> None:
        """Open session `name`. If it does not exist, its first record creates it.

        `initial_settings` are stored in the session. With `read_only`, nothing is locked, repaired or stored.
        `external_id` is the name that a program gave a new session, see `name_for_id`.
        """
        self.journal = Journal(store, name, notify, wait)
        self.background = BackgroundSummaries()
        self._new_title = BackgroundTitle()
        self.facts = facts or FactBook(None)
        self.last_question: Message | None = None
        """The question of the current or last turn. None if it could not be stored."""
        self.last_reply: Message | None = None
        """The last reply that was stored. None if nothing arrived."""
        self.last_plan: ContextPlan | None = None
        """What the model was sent for it."""
        self._reply_seconds = 0.0
        self._resolve = resolve
        self._overrides: Record = {}
        self._resolved: TurnConfig | None = None
        self._turn_config: TurnConfig | None = None
        self._settings_version = -1
        self._index: PassageIndex | None = None
        self._index_generation = 0
        if read_only:
            self.journal.load()
            return
        initial_settings = initial_settings or {}
        self.journal.open(initial_settings, external_id)
        stored = self.session.settings
        changed = {
            n: v for n, v in initial_settings.items() if current_names({n: stored.get(n)}) != current_names({n: v})
        }
        if changed:
            self.update_settings(**changed)

    # The turn

    def send(self, text: str) -> Generator[StreamChunk]:
        """Ask the model. The question is on disk before the request is sent, the reply before this ends."""
        self.last_question = None
        self._make_way()
        with self._transaction(required=True):
            question = Message(new_id(), self.session.head, "user", fix_surrogates(text), utc_now())
            self._append_question(question)
            yield from self._answer(question)

    def retry(self, number: int | None = None, text: str | None = None) -> Generator[StreamChunk]:
        """Ask a question again, by default the last one, optionally with another text. The old reply stays.

        The conversation moves to the new branch with the first part of a reply. If nothing arrives, it stays as it was.
        """
        self._make_way()
        with self._transaction(required=True):
            question, head = self.turn(number).question, self.session.head
            if text is not None:
                question = Message(new_id(), question.parent, "user", fix_surrogates(text), utc_now())
                self._append_question(question, {"type": "head", "message": head})
            self.session.apply({"type": "head", "message": question.id})  # not stored: the record of a reply moves it
            try:
                yield from self._answer(question)
            finally:
                if self.session.head == question.id:
                    self.session.apply({"type": "head", "message": head})

    def _make_way(self) -> None:
        """End what is made in the background, if the server may not answer a question at the same time."""
        for job in (self.background, self._new_title):
            if job.running:
                job.make_way(self.turn_config.model.server)

    def _append_question(self, question: Message, *more: Record) -> None:
        """Make a question durable. Raises StorageError if that is not possible: then it is not sent."""
        self.facts.refresh()
        with defer_signals():  # so that an interrupt never returns a question to the prompt that is stored
            self.journal.append(question.record(), *more, required=True)
            self.last_question = question

    def _answer(self, question: Message) -> Iterator[StreamChunk]:
        """Stream the reply to a stored question. Whatever happens, the part that arrived is stored."""
        context, started = self.plan(question), time.monotonic()
        for notice in context.new_notices():
            yield StreamChunk(notice=notice)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                yield from self._stream(context)
                break
            except ContextLengthError as error:
                from chatmem.memory.window import window_after_overflow

                window = window_after_overflow(
                    error, context, self.turn_config.options.get("max_tokens"), self.turn_config.window
                )
                if window is None or attempt == MAX_ATTEMPTS:
                    raise
                self._turn_config = replace(self.turn_config, learned_window=window)
                reason = "The context is too long for the model."
                if error.limit:
                    self._turn_config.record_model_fact(window=error.limit)
                    reason = f"The model takes {error.limit:,} tokens."
                try:
                    context = self.plan(question)
                except ContextBudgetError:
                    raise error from None
                yield StreamChunk(notice=Notice(f"{reason} Sending a shorter context."))
        model = self.turn_config.summary_model or self.turn_config.model
        self._reply_seconds = time.monotonic() - started
        self.background.start_if_due(context, self.session, model, self.counter)
        if self.turn_config.makes_titles:
            self._new_title.start_if_due(self.session, model)

    def _stream(self, context: ContextPlan) -> Iterator[StreamChunk]:
        """Send a context, and store what arrives with its status."""
        model, self.last_plan = self.turn_config.model, context
        reply = Message(
            new_id(), self.session.head, "assistant", "", utc_now(), model.name, plan_digest=context.digest()
        )
        add_to_draft = self.journal.open_draft(reply.record())
        text, status, usage = "", "interrupted", None
        try:
            for chunk in model.stream(context.messages, self.turn_config.options):
                if chunk.text:
                    text += chunk.text
                    add_to_draft(chunk.text)
                usage = chunk.usage or usage
                status = chunk.status or status
                yield chunk
            status = "truncated" if status == "interrupted" else status
        except ChatmemError as error:
            status = "truncated" if isinstance(error, IncompleteReplyError) else "error"
            raise
        finally:
            with defer_signals():
                self.last_reply = None
                if text.strip():
                    usage = usage and usage._replace(cost=self.turn_config.cost_of(usage))
                    self.last_reply = reply._replace(
                        content=fix_surrogates(text), status=status, usage=usage, time=utc_now()
                    )
                    self.journal.append(self.last_reply.record())
                    if usage and (calibration := calibrate(reversed(self.session.path), model.name)):
                        self.turn_config.record_model_fact(ratio=calibration.ratio, extra=calibration.extra)
                self.journal.close_draft()
        if usage and status == "complete":
            self._learn_window(context, usage)
        from chatmem.memory.window import server_truncated

        if usage and usage.prompt and server_truncated(self.session, context.counted, usage.prompt):
            yield StreamChunk(
                notice=Notice(
                    f"The server counted only {usage.prompt:,} of about {context.counted:,} tokens. "
                    "If its context window is smaller (num_ctx in Ollama), set context_window to it."
                )
            )
        if status == "truncated":
            raise IncompleteReplyError(
                "The server ended the reply without saying that it is complete.",
                "The part that arrived is saved.",
                Action("retry"),
            )

    def _learn_window(self, context: ContextPlan, usage: Usage) -> None:
        """Assume a larger window if a prompt and its reply were larger than the assumed one allows."""
        prompt, completion = usage.prompt or 0, usage.completion or 0
        tolerance = max(MATCHING_TOKENS, MATCHING_COUNTS * context.tokens)
        if context.limits.is_assumed and abs(prompt - context.tokens) <= tolerance:
            reply_tokens = self.turn_config.options.get("max_tokens")
            if window := proven_window(context.limits, reply_tokens, prompt + completion):
                self.turn_config.record_model_fact(proven_window=window)
                self._turn_config = replace(self.turn_config, assumed_window=lambda: window)

    @contextlib.contextmanager
    def _transaction(self, required: bool = False) -> Iterator[None]:
        """Hold the session's lock, and store what was made in the background.

        A `required` transaction raises StorageError if nothing can be stored. See `Journal.transaction`.
        """
        try:
            with self.journal.transaction(required):
                if self.journal.is_locked:
                    jobs = self.background, self._new_title
                    if records := [record for job in jobs for record in job.take_records(self.session)]:
                        self.journal.append(*records)
                self._settings_version = -1  # the config may have changed since the last turn
                yield
        except StorageError as error:
            raise StorageError(error.message, "Nothing was sent.", error.action) from error

    @cached_property
    def summary(self) -> SummaryEditor:
        """What the user can do to the summary."""
        from chatmem.chat.summary_editor import SummaryEditor

        return SummaryEditor(self.journal, self.background, self._transaction)

    # Reading

    @property
    def session(self) -> Session:
        return self.journal.session

    @property
    def store(self) -> SessionStore:
        return self.journal.store

    @property
    def name(self) -> str:
        return self.journal.name

    @property
    def exists(self) -> bool:
        """Whether the session exists in the store."""
        return self.journal.exists

    @property
    def save_error(self) -> StorageError | None:
        """Why the last record could not be saved. None if everything is saved."""
        return self.journal.save_error

    @property
    def open_error(self) -> StorageError | None:
        """Why the session could not be opened for writing. Questions are not sent until it can be written."""
        return self.journal.open_error

    @property
    def has_unsaved_messages(self) -> bool:
        """Whether a reply would be lost if the process ended now."""
        return self.journal.has_unsaved_messages

    @property
    def turn_config(self) -> TurnConfig:
        """What turns use. Resolved again at each turn, and when the session's settings change."""
        if self._turn_config is None or self._settings_version != self.journal.settings_version:
            self._settings_version = self.journal.settings_version
            resolved = self._resolve({**self.session.settings, **self._overrides})
            if resolved is not self._resolved or self._turn_config is None:
                self._resolved = self._turn_config = resolved
        if self.session.system_override != self._turn_config.system:
            self.session.system_override = self._turn_config.system
        return self._turn_config

    @property
    def counter(self) -> Counter:
        """The model's counter, calibrated by what servers reported for the last prompts on the path."""
        name = self.turn_config.model.name
        counter, calibration = self.turn_config.counter_for(name), calibrate(reversed(self.session.path), name)
        return counter.with_calibration(*calibration) if calibration else counter

    def plan(self, question: Message | str | None = None, strategy: Strategy | None = None) -> ContextPlan:
        """What the model would be sent with this question, and why. Changes nothing."""
        from chatmem.memory.planner import plan

        config = self.turn_config
        strategy = strategy or config.strategy
        retrieves = strategy.retrieval_share(strategy.budget(config.limits).tokens) > 0
        question = fix_surrogates(question) if isinstance(question, str) else question
        question_id = question.id if isinstance(question, Message) else ""
        index = self.index(question_id) if retrieves else None
        now = datetime.now().astimezone()
        return plan(
            self.session,
            question,
            strategy,
            self.counter,
            config.limits,
            now=now,
            facts=self.facts.told_to(self.session),
            facts_tokens=config.facts_tokens,
            retriever=index,
        )

    def compare(self, question: str | None, strategies: Sequence[Strategy]) -> list[ComparisonRow]:
        """What each strategy would make of this session."""
        from chatmem.memory.compare import compare

        limits = self.turn_config.limits
        now = datetime.now().astimezone()
        facts, facts_tokens = self.facts.told_to(self.session), self.turn_config.facts_tokens
        return compare(self.session, question, strategies, self.counter, limits, self.index(), now, facts, facts_tokens)

    def turn(self, number: int | None = None) -> Turn:
        """A turn of the path by its number, by default the last one. Raises UsageError."""
        turns = self.session.turns
        turn = self.session.turn(number) if number is not None else (turns[-1] if turns else None)
        if turn is None and number is None:
            raise UsageError("This session has no questions.", "Ask a question first.")
        if turn is None:
            hint = f"The session has {pluralize(len(turns), 'turn')}." if turns else "Ask a question first."
            raise UsageError(f"Turn {number} does not exist.", hint)
        return turn

    def index(self, question_id: str = "") -> PassageIndex:
        """The passages of the session, indexed, up to date except for the question with the id `question_id`."""
        from chatmem.memory.retrieval import PassageIndex

        if self._index is None or self._index_generation != self.journal.generation:
            self._index, self._index_generation = PassageIndex(), self.journal.generation
        self._index.update(self.session, question_id)
        return self._index

    def records(self) -> list[Record]:
        """All records of the session, including those that could not be saved."""
        return self.journal.records()

    def refresh(self) -> None:
        """Read what other processes appended and store finished summaries, unless the session is in use."""
        if self.exists:
            with self._without_waiting(), contextlib.suppress(ChatmemError), self._transaction():
                pass

    # Writing

    def rename(self, name: str) -> None:
        """Give the session another name. Raises UsageError if it is taken."""
        self.journal.rename(name)
        if self.session.external_id is not None:
            self.journal.notify(RENAMED_ID.format(truncate(self.session.external_id)))

    def append(self, messages: Iterable[tuple[str, str]]) -> None:
        """Add messages, each a role and a content, to the end of the conversation, all or none. Raises StorageError."""
        with self._transaction(required=True):
            records, parent = [], self.session.head
            for role, content in messages:
                message = Message(new_id(), parent, role, fix_surrogates(content), utc_now())
                records.append(message.record())
                parent = message.id
            self.journal.append(*records, required=True)

    def update_settings(self, **settings: Any) -> None:
        """Store settings in this session, and use them from now on. None resets a setting."""
        with self._transaction():
            self.journal.append({"type": "settings", **settings})

    @contextlib.contextmanager
    def override_settings(self, **settings: Any) -> Iterator[None]:
        """Use settings inside the block without storing them."""
        self._overrides, self._turn_config = settings, None
        try:
            yield
        finally:
            self._overrides, self._turn_config = {}, None

    def set_turn_flags(self, number: int, **flags: bool) -> Turn:
        """Pin, unpin, exclude or include a turn. Raises UsageError if pins would take over half of the budget."""
        turn = self.turn(number)
        if flags.get("pinned"):
            check_pin(self.session, turn, self.counter, self.turn_config.strategy, self.turn_config.limits)
        with self._transaction():
            self.journal.append({"type": "mark", "message": turn.id, **flags})
        return self.turn(number)

    def undo(self, count: int = 1) -> Turn:
        """Remove the last turns from the conversation, and return the first of them. They stay on their branch."""
        turns, head = self.session.turns, self.session.head
        turn = self.turn(len(turns) - count + 1 if turns else None)
        with self._transaction():
            if self.session.head != head:
                raise UsageError(
                    "Another process has continued this session.", "Check it, then try again.", Action("show_context")
                )
            self.journal.append({"type": "head", "message": turn.question.parent})
        return turn

    def checkout(self, head: str | None) -> None:
        """Continue from another message: the path leads to it, everything else stays on its branch."""
        with self._transaction():
            self.journal.append({"type": "head", "message": head})

    def wait_for_summary(self, seconds: float) -> None:
        """Wait for a running summary, and store what is done: at most `seconds`, or twice as long as the reply took."""
        if self.background.wait(min(seconds, max(MIN_SUMMARY_WAIT, 2 * self._reply_seconds))) and self.exists:
            with self._transaction():
                pass

    def close(self) -> None:
        """Store what was made in the background, and what could not be saved before, and close. Waits for nothing."""
        if (self.background.has_results or self._new_title.has_result) and self.exists:
            self.journal.wait = False
            with contextlib.suppress(ChatmemError), self._transaction():
                pass
        self.journal.close()

    @contextlib.contextmanager
    def _without_waiting(self) -> Iterator[None]:
        wait, self.journal.wait = self.journal.wait, False
        try:
            yield
        finally:
            self.journal.wait = wait
