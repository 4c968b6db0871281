"""How much of the evidence for a question is in the context, in long conversations of everyday life.

    python -m tests.benchmarks.dialogue [--quick] [--json | --ablation]

The conversations are in `dialogues.py`. Evidence counts if the text that answers the question is in the context
verbatim. Summaries are written by the built-in offline model, which extracts sentences, for every system alike.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from chatmem.history.session import Session
from chatmem.memory import passages, planner, retrieval, strategies
from chatmem.memory.budget import Limits
from chatmem.memory.planner import plan
from chatmem.memory.retrieval import PassageIndex
from chatmem.memory.strategies import base
from chatmem.memory.summarizer import SummaryJob, SummaryModel
from chatmem.models.offline import extract_summary
from chatmem.tokens.counter import Counter, counter_for_model
from tests.benchmarks.dialogues import Dialogue, Question
from tests.benchmarks.rows import Claim, Row, half, measured

BUDGETS = (2_000, 4_000, 16_000)
KINDS = ("direct", "paraphrase", "indirect", "corrected", "date", "unrelated")
Context = Callable[[str], str]
"""The context that a question is sent with, as one text."""

EVIDENCE = {
    budget: Claim(f"natural dialogue: evidence in the context at {budget:,} tokens", "", at_least=at_least)
    for budget, at_least in zip(BUDGETS, (0.6, 0.75, 0.9), strict=True)
}
DATES = Claim("natural dialogue: questions about dates with the day in the context at 4,000 tokens", "", at_least=0.75)
CLAIMS = (*EVIDENCE.values(), DATES)


def session_of(dialogue: Dialogue) -> Session:
    session = Session("dialogue")
    for number, line in enumerate(dialogue.lines):
        message = {"type": "message", "id": f"m{number}", "parent": session.head, "role": line.role}
        session.apply({**message, "content": line.text, "time": line.time})
    return session


def chatmem(dialogue: Dialogue, spec: str, budget: int, counter: Counter, index: PassageIndex | None = None) -> Context:
    """A strategy on a conversation, whose summaries were made as it went on."""
    strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec.format(budget)))
    limits, session = Limits(budget), session_of(dialogue)
    model = SummaryModel("offline", 8192, lambda messages, _: (extract_summary(messages[-1]["content"]), "complete"))
    grown = Session("dialogue")
    for message in session.messages.values():
        if message.role == "user":
            grown.apply(message.record())
            context = plan(grown, grown.path[-1], strategy, counter, limits)
            continue
        grown.apply({**message.record(), "sent": context.digest()})
        if context.summarize_before:
            job = SummaryJob.for_session(
                grown, context.summarize_before, strategy.summary_share(budget), model, counter
            )
            job.run()
            for segment in job.segments:
                grown.apply(segment.record())
    session = grown
    if index is None:
        index = PassageIndex()
        index.update(session)
    retriever = index if strategy.retrieval_share(budget) else None

    def context_of(question: str) -> str:
        planned = plan(session, question, strategy, counter, limits, now=dialogue.end, retriever=retriever)
        return "\n".join(message["content"] for message in planned.messages)

    return context_of


def langchain(dialogue: Dialogue, which: str, budget: int, counter: Counter) -> Context:
    """`trim_messages`, or the summary buffer, on a conversation."""
    warnings.simplefilter("ignore")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, trim_messages

    def count(messages: list[BaseMessage]) -> int:
        return 3 + sum(counter.count_message(str(m.content)) for m in messages)

    kinds = {"user": HumanMessage, "assistant": AIMessage}
    shown: list[BaseMessage] = [kinds[line.role](line.text) for line in dialogue.lines]
    if which == "ConversationSummaryBufferMemory":
        from langchain_classic.memory import ConversationSummaryBufferMemory

        class Model(GenericFakeChatModel):
            def _generate(self, messages: Any, *more: Any, **options: Any) -> Any:
                from langchain_core.outputs import ChatGeneration, ChatResult

                text = extract_summary(str(messages[-1].content))
                return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

            def get_num_tokens_from_messages(self, messages: Any, tools: Any = None) -> int:
                return count(messages)

        memory = ConversationSummaryBufferMemory(
            llm=Model(messages=iter(())), max_token_limit=budget - 300, return_messages=True
        )
        for asked, answered in zip(dialogue.lines[::2], dialogue.lines[1::2], strict=False):
            memory.save_context({"input": asked.text}, {"output": answered.text})
        shown = memory.load_memory_variables({})["history"]

    def context_of(question: str) -> str:
        messages = [*shown, HumanMessage(question)]
        if which == "trim_messages":
            messages = trim_messages(
                messages, max_tokens=budget, token_counter=count, strategy="last", start_on="human"
            )
        return "\n".join(str(message.content) for message in messages)

    return context_of


def share(dialogue: Dialogue, context_of: Context, kind: str = "") -> float:
    """The share of the evidence that is in the context of its question."""
    found = []
    for question in dialogue.questions:
        if kind in ("", question.kind):
            context = " ".join(context_of(question.text).split())
            found += [text in context for text, _ in question.evidence]
    return statistics.mean(found)


def days_known(dialogue: Dialogue, context_of: Context) -> float:
    """The share of the questions about dates whose evidence is in the context with its day."""

    def is_known(question: Question) -> bool:
        context = context_of(question.text)
        return all(text in context and day in context for text, day in question.evidence)

    return statistics.mean(is_known(question) for question in dialogue.questions if question.kind == "date")


PEERS = {"trim_messages": "langchain_core", "ConversationSummaryBufferMemory": "langchain_classic"}


def rows(quick: bool) -> Iterator[Row]:
    counter = counter_for_model("gpt-4o")
    dialogues = [Dialogue.make(seed) for seed in range(1, 3 if quick else 21)]
    how = f"{len(dialogues)} conversations, {sum(len(d.questions) for d in dialogues)} questions, {counter.method}"
    for budget in BUDGETS:
        others: dict[str, list[Context]] = {
            "buffer": [chatmem(d, "token-trim:{},low_water=1", budget, counter) for d in dialogues]
        }
        for name, package in PEERS.items():
            if importlib.util.find_spec(package):
                others[name] = [langchain(d, name, budget, counter) for d in dialogues]
        theirs = [f"{name} {statistics.mean(map(share, dialogues, found)):.2f}" for name, found in others.items()]
        ours = [chatmem(d, "summary:{}", budget, counter) for d in dialogues]
        values = list(map(share, dialogues, ours))
        yield EVIDENCE[budget].row(statistics.mean(values), half(values), how, ", ".join(theirs))
        if budget == 4_000:
            days = list(map(days_known, dialogues, ours))
            yield DATES.row(statistics.mean(days), half(days), how)


STEPS: dict[str, list[tuple[object, str, object]]] = {
    "everything": [],
    "whole messages instead of passages": [(passages, "MAX_CHARS", 5_000)],
    "no word is too frequent": [(retrieval, "MAX_TERM_FREQUENCY", 1.0)],
    "with earlier copies of the question": [(retrieval, "_normalized", lambda question: "")],
    "no more than the reserve": [(base, "MAX_RETRIEVAL_TOKENS", base.MAX_RETRIEVAL_RESERVE // 4)],
    "questions get no more than statements": [(planner, "is_question", lambda text: False)],
    "without neighbours": [(retrieval, "NEIGHBOUR_SHARES", ())],
    "without the speaker": [(retrieval, "SPEAKER_WEIGHT", 1.0)],
    "without dates": [(retrieval, "DATE_WEIGHT", 1.0)],
    "without irregular forms": [(retrieval, "IRREGULAR", {})],
    "with a rarity gate for questions": [(retrieval, "is_question", lambda text: False)],
    "only passages above 50 % of the best": [(retrieval, "MIN_RELATIVE_SCORE", 0.5)],
}


def ablation() -> None:
    """What each step of the retrieval brings: the evidence found without it."""
    counter = counter_for_model("gpt-4o")
    dialogues = [Dialogue.make(seed) for seed in range(1, 21)]
    print(f"| step | {' | '.join(f'{b:,}' for b in BUDGETS)} | {' | '.join(KINDS)} (at 4,000) |\n|{'---|' * 10}")
    for name, changes in STEPS.items():
        patches = [mock.patch.object(module, attribute, value) for module, attribute, value in changes]
        for patch in patches:
            patch.start()
        cells = []
        for budget in BUDGETS:
            contexts = [(d, chatmem(d, "token-trim:{},recall_tokens=auto", budget, counter)) for d in dialogues]
            cells.append(f"{statistics.mean(share(d, context_of) for d, context_of in contexts):.3f}")
            if budget == 4_000:
                kinds = [f"{statistics.mean(share(d, c, kind) for d, c in contexts):.2f}" for kind in KINDS]
        for patch in patches:
            patch.stop()
        print(f"| {name} | {' | '.join([*cells, *kinds])} |", flush=True)


if __name__ == "__main__":
    ablation() if "--ablation" in sys.argv else measured(rows)
