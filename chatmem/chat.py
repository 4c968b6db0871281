"""One turn, told from start to end; and what else may be done to a conversation.

`chat` alone writes: every record of a session passes `_keep` (see `keeping`), under the session's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chatmem.errors import ChatmemError, ContextExceeded, ReplyIncomplete, WrongUse
from chatmem.keeping import Keeping, undisturbed
from chatmem.memory.base import Strategy
from chatmem.memory.compare import Row, compare
from chatmem.memory.fold import Fold, Summariser
from chatmem.memory.limits import budget_of, fitted, silently_cut
from chatmem.memory.notes import cover
from chatmem.memory.plan import plan
from chatmem.memory.recall import FullText
from chatmem.memory.summary import SummaryStrategy
from chatmem.memory.view import Plan, Wire, cost
from chatmem.models.base import Model, Options, Piece
from chatmem.records import Message, Record, Summary, new_id, now, repaired
from chatmem.session import Turn
from chatmem.stores.base import Say, Store
from chatmem.tokens import Counter, calibration


@dataclass(frozen=True)
class Choice:
    """All that is chosen for a turn: who answers, what it is shown, and how."""

    model: Model
    strategy: Strategy
    count: Callable[[str], Counter]
    """From a model's name to its counter."""
    options: Options = field(default_factory=dict)
    system: str = ""
    window: int | None = None
    """The context window in tokens, where it is configured or was learned; else the model's word counts."""
    fold_model: Model | None = None
    """Who makes the notes; None is the chat's own model."""
    learn: Callable[..., None] = lambda **facts: None
    """Takes what a server taught: `ratio=` and `extra=` of its tokens to ours, `window=`."""

    @property
    def budget(self) -> int:
        return budget_of(self.window or self.model.window, self.options.get("max_tokens"))


Choose = Callable[[Mapping[str, Any]], Choice]
"""From a session's own settings to a choice; `assemble` knows how."""


class Chat(Keeping):
    """A conversation that goes on: a session, a model that answers, a memory strategy that chooses."""

    def __init__(
        self,
        store: Store,
        name: str,
        choose: Choose,
        say: Say = lambda line: None,
        wait: bool = True,
        wanted: Record | None = None,
        look: bool = False,
    ) -> None:
        """Open session `name`, or begin it with the first thing that is kept. `wanted` are settings to store in it.

        To `look` is to read it and no more: nothing is repaired, locked or stored.
        """
        super().__init__(store, name, say, wait)
        self.choose = choose
        self.reply: Message | None = None
        """The last reply that was stored."""
        self.asked: Message | None = None
        """The last question, once it was taken into the session."""
        self._choice: Choice | None = None
        self._recall: FullText | None = None
        self.fold: Fold | None = None
        """The fold that runs, or ran last."""
        self.fold_error = ""
        """Why the last fold failed, empty if it did not."""
        self._fold_taken = 0
        self._fold_failures = 0
        self._fold_rest = 0
        if look:
            self.session = store.session(name)
            return
        self._open(wanted or {})
        if changed := {k: v for k, v in (wanted or {}).items() if self.session.settings.get(k) != v}:
            self.set(**changed)

    # The turn

    def say(self, text: str) -> Generator[Piece]:
        """Ask the model `text`: the question is on disk before it leaves, the reply before this ends."""
        self.asked = None
        with self._turn():
            self.asked = question = Message(new_id(), self.session.head, "user", repaired(text), now())
            self._keep(question.record())
            yield from self._answer(question)

    def retry(self, number: int | None = None, text: str | None = None) -> Generator[Piece]:
        """Ask a question again, by default the newest; with `text`, in other words. The old reply stays on a branch."""
        with self._turn():
            turn = self.turn(number)
            question = turn.question
            if text is not None:
                question = Message(new_id(), question.parent, "user", repaired(text), now())
                self._keep({"type": "head", "message": question.parent}, question.record())
            elif self.session.head != question.id:
                self._keep({"type": "head", "message": question.id})
            yield from self._answer(question)

    def _answer(self, question: Message) -> Iterator[Piece]:
        """The reply to a stored question, piece by piece; however it ends, what arrived is kept."""
        view = self.plan(question)
        for notice in (*view.notices, *self._first_left_out(view)):
            yield Piece(notice=notice)
        for attempt in range(3):
            try:
                yield from self._stream(view)
                break
            except ContextExceeded as error:
                known = self.choice.window or self.choice.model.window
                window = fitted(error, view, self.choice.options.get("max_tokens"), known)
                if window is None or attempt == 2:
                    raise
                self._choice = replace(self.choice, window=window)
                self._choice.learn(window=error.limit)
                yield Piece(
                    notice=f"The model takes {error.limit:,} tokens: the memory is fitted into them and sent again."
                )
                view = self.plan(question)
        self._begin_fold(view)

    def _stream(self, view: Plan) -> Iterator[Piece]:
        model = self.choice.model
        reply = Message(new_id(), self.session.head, "assistant", "", now(), model.name, sent=view.digest())
        keep = self._log.partial(reply.record()) if self._log else lambda text: None
        text, status, usage = "", "interrupted", None
        try:
            for piece in model.stream(view.messages, self.choice.options):
                if piece.text:
                    text += piece.text
                    keep(piece.text)
                usage = piece.usage or usage
                status = piece.finish or status
                yield piece
            status = "truncated" if status == "interrupted" else status
        except ChatmemError as error:
            status = "truncated" if isinstance(error, ReplyIncomplete) else "error"
            raise
        finally:
            with undisturbed():
                self.reply = None
                if text:
                    self.reply = reply._replace(content=repaired(text), status=status, usage=usage, time=now())
                    self._keep(self.reply.record())
                    if usage and (reported := calibration(reversed(self.session.path), model.name)):
                        self.choice.learn(ratio=reported.ratio, extra=reported.extra)
                if self._log:
                    self._log.partial_done(stored=not self._unsaved)
        if usage and usage.prompt and silently_cut(self.session, view.counted, usage.prompt):
            yield Piece(
                notice=f"The server counted only {usage.prompt:,} of about {view.counted:,} tokens. Is its window "
                "smaller (for Ollama, num_ctx)? Set context_window to it."
            )
        if status == "truncated":
            raise ReplyIncomplete(
                "The server ended the reply without saying that it is complete.",
                "What arrived is kept. /retry asks again.",
            )

    # Looking

    @property
    def choice(self) -> Choice:
        if self._choice is None:
            self._choice = self.choose(self.session.settings)
            self.session.prompt = self._choice.system
        return self._choice

    @property
    def counter(self) -> Counter:
        """The model's counter, scaled by what servers reported for the last prompts on the path."""
        name = self.choice.model.name
        counter, reported = self.choice.count(name), calibration(reversed(self.session.path), name)
        return counter.scaled(*reported) if reported else counter

    def plan(self, question: Message | str | None = None, strategy: Strategy | None = None) -> Plan:
        """What the model would be shown with this question, and why. Changes nothing."""
        choice = self.choice
        strategy = strategy or choice.strategy
        recalls = strategy.recall(strategy.limit(choice.budget)) > 0
        question = repaired(question) if isinstance(question, str) else question
        asked = question.id if isinstance(question, Message) else ""
        index = self.index(asked) if recalls else None
        return plan(self.session, question, strategy, self.counter, choice.budget, index)

    def compare(self, question: str | None, strategies: Sequence[Strategy]) -> list[Row]:
        """What each strategy would make of this session."""
        return compare(self.session, question, strategies, self.counter, self.choice.budget, self.index())

    def refresh(self) -> None:
        """Pick up what others added and what a fold has made, unless the session is in use just now."""
        if self._log:
            wait, self.wait = self.wait, False
            try:
                with contextlib.suppress(ChatmemError), self._turn():
                    pass
            finally:
                self.wait = wait

    def redo_notes(self) -> None:
        """Take back every part on this path, so that the notes are made anew from the turns themselves."""
        places = self.session.places
        gone = [part for part in self.session.summaries.values() if part.start in places and part.end in places]
        with self._turn():
            self._keep(*(part._replace(id=new_id(), text="").record() for part in gone))

    def records(self) -> list[Record]:
        """All records of the session, those that could not be saved included."""
        try:
            stored = self.store.records(self.name) if self._log else []
        except ChatmemError:
            stored = [m.record() for m in self.session.messages.values()]
        known = {record.get("id") for record in stored if record.get("type") == "message"}
        return stored + [r for r in self._unsaved if r.get("id") not in known]

    def notes(self) -> list[Summary]:
        """The parts that stand for turns of this path, oldest first."""
        return [part for _, _, part in cover(self.session, self.session.turns, len(self.session.turns))]

    def index(self, asked: str = "") -> FullText:
        """The full-text index of the session, up to date; built on first use, or early, in the background."""
        if self._recall is None:
            self._recall = FullText()
        self._recall.update(self.session, asked)
        return self._recall

    def _first_left_out(self, view: Plan) -> Iterator[str]:
        """A line the first time that a turn is no longer sent word for word."""
        last = next((m.sent for m in reversed(self.session.path) if m.sent), {})
        gone = next(view.left_out, None)
        if gone and not last.get("left_out"):
            title = " ".join(gone.question.content.split())[:40]
            yield f"Turn {gone.number} (“{title}”) is no longer sent word for word: /pin {gone.number} keeps it."

    # Changing what is kept

    def set(self, **settings: Any) -> None:
        """Store settings for this session (None takes one back), and use them from now on."""
        with self._turn():
            self._keep({"type": "settings", **settings})
        self._choice = None

    def mark(self, number: int, **flags: bool) -> Turn:
        """Pin, unpin, exclude or include a turn. Raises WrongUse, also for pins of over half the budget."""
        turn = self.turn(number)
        if flags.get("pinned"):
            pins = [t for t in self.session.turns if t.pinned or t is turn]
            tokens, most = (
                sum(cost(self.counter, t) for t in pins),
                self.choice.strategy.limit(self.choice.budget) // 2,
            )
            if tokens > most:
                raise WrongUse(
                    f"Pins of {tokens:,} tokens would take over half of the budget of {most * 2:,}.",
                    "/unpin another turn first.",
                )
        with self._turn():
            self._keep({"type": "mark", "message": turn.id, **flags})
        return self.turn(number)

    def edit_notes(self, part: Summary, text: str) -> None:
        """Put other words in place of a part's; empty ones take it back, so that it is made anew."""
        with self._turn():
            self._keep(part._replace(id=new_id(), text=repaired(text), edited=bool(text)).record())

    def undo(self, count: int = 1) -> Turn:
        """Take back the last turns; returns the first of them. They stay on their branch."""
        turns, head = self.session.turns, self.session.head
        turn = self.turn(len(turns) - count + 1 if turns else None)
        with self._turn():
            if self.session.head != head:
                raise WrongUse(
                    "Another process went on with this session meanwhile.",
                    "Look at it with /context, then /undo again.",
                )
            self._keep({"type": "head", "message": turn.question.parent})
        return turn

    @contextlib.contextmanager
    def using(self, **settings: Any) -> Iterator[None]:
        """Choose as if these were set for the session, for one turn and without storing them."""
        self._choice = self.choose({**self.session.settings, **settings})
        try:
            yield
        finally:
            self._choice = None

    def move(self, head: str | None) -> None:
        """Go on from another message: the conversation up to it is the path, the rest stays on its branch."""
        with self._turn():
            self._keep({"type": "head", "message": head})

    def finish_fold(self, seconds: float) -> None:
        """Wait for a fold that runs, for at most so long, and keep what it made."""
        if self.fold and self.fold.join(seconds) and self._log:
            with self._turn():
                pass

    def close(self) -> None:
        """Leave. What a fold has made is kept, what could not be saved is tried once more; nothing is waited for."""
        if self.fold and self._fold_taken < len(self.fold.parts) and self._log:
            self.wait = False
            with contextlib.suppress(ChatmemError), self._turn():
                pass
        super().close()

    # What a turn of the session brings along

    def _news(self, settings: bool, anew: bool) -> None:
        if settings or anew:
            self._choice = None
        if anew:
            self._recall = None

    def _in_turn(self) -> None:
        self._take_fold()

    def _begin_fold(self, view: Plan) -> None:
        """Fold what has fallen out, or soon will, in the background; after a failure, rest for 1, 2, 4, 8 turns."""
        self._fold_rest -= self._fold_rest > 0
        strategy = view.strategy
        if not view.fold_before or self._fold_rest or (self.fold and self.fold.running):
            return
        if isinstance(strategy, SummaryStrategy) and (notes := strategy.notes(view.budget)):
            model = self.choice.fold_model or self.choice.model
            self.fold = Fold.of(self.session, view.fold_before, notes, _summariser(model), self.counter)
            self._fold_taken = 0
            self.fold.start()

    def _take_fold(self) -> None:
        """Keep the parts a fold has made, those that are still true of this path."""
        if self.fold is None:
            return
        over, parts = not self.fold.running, self.fold.parts[self._fold_taken :]
        self._fold_taken += len(parts)
        places = self.session.places
        if true := [part.record() for part in parts if part.start in places and part.end in places]:
            self._keep(*true)
        if over:
            self._fold_failures = self._fold_failures + 1 if self.fold.error else 0
            self._fold_rest = min(8, 2**self._fold_failures // 2) if self.fold.error else 0
            self.fold_error = self.fold.error
            self.fold = None

    def turn(self, number: int | None = None) -> Turn:
        """Turn number N of the path, the last one without a number. Raises WrongUse."""
        turns = self.session.turns
        turn = self.session.turn(number) if number is not None else (turns[-1] if turns else None)
        if turn is None:
            there = f"There are turns 1 to {len(turns)}." if turns else "Ask one first."
            raise WrongUse(f"There is no turn {number}." if number is not None else "There is no question yet.", there)
        return turn


def _summariser(model: Model) -> Summariser:
    """A model as who makes notes."""

    def ask(messages: Sequence[Wire], most: int) -> tuple[str, str | None]:
        # Models that think spend tokens on it; what is too long of the answer is cut by the fold.
        pieces = list(model.stream(messages, {"max_tokens": most + 1024}))
        return "".join(p.text for p in pieces), next((p.finish for p in reversed(pieces) if p.finish), None)

    return Summariser(model.name, model.window, ask)
