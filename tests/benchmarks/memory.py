"""How much of a long conversation each memory strategy sends, and what that costs. Measured without a model.

    python -m tests.benchmarks.memory [--quick] [--json | --table]

The conversations are seeded and have 300 turns with facts, some of which are corrected later. An oracle stands in for the
summary model: it returns the facts of the transcript it is sent, and loses each with a probability of 3 % per call. So
other losses are caused by the engine. A fact counts as sent if the context contains its newest value.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from chatmem.errors import ContextBudgetError
from chatmem.history.session import Session
from chatmem.memory import strategies
from chatmem.memory.budget import Limits
from chatmem.memory.compare import common_prefix_tokens
from chatmem.memory.plan import ApiMessage, ContextPlan
from chatmem.memory.planner import plan
from chatmem.memory.retrieval import PassageIndex
from chatmem.memory.strategies.base import Strategy
from chatmem.memory.summarizer import SummaryJob, SummaryModel
from chatmem.tokens.counter import Counter, counter_for_model
from tests.benchmarks.rows import Claim, Row, half, measured

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The day on which every message is sent."""

_THINGS = (
    "router garage locker bicycle piano greenhouse cellar office gate sauna library studio attic boiler safe".split()
)
_PEOPLE = (
    "dentist plumber cousin neighbour teacher landlord trainer lawyer baker painter pilot barber tailor nurse".split()
)
_OTHER = {  # synonyms that share no stem
    "router": "wifi box", "garage": "place for the car", "locker": "metal cabinet", "bicycle": "two-wheeler", "piano": "instrument with keys",
    "greenhouse": "glass shed", "cellar": "storage below ground", "office": "workplace", "gate": "front entrance", "sauna": "steam bath",
    "library": "book collection", "studio": "art space", "attic": "top floor", "boiler": "heating unit", "safe": "strongbox",
    "dentist": "person for my teeth", "plumber": "pipe fixer", "cousin": "relative", "neighbour": "person next door", "teacher": "educator",
    "landlord": "owner of the flat", "trainer": "gym coach", "lawyer": "attorney", "baker": "bread maker", "painter": "wall decorator",
    "pilot": "aviator", "barber": "hairdresser", "tailor": "suit maker", "nurse": "caregiver",
}  # fmt: skip
_FILLER = (
    "about above across actually afternoon almost along already although always among around asking away background became "
    "become before began behind below beside better between beyond breakfast bring brought build busy careful carry certain "
    "chance change choose clear close coffee common complete consider continue corner could course cover create cross daily "
    "dinner direct double early easy either enough entire evening every exact example expect explain family famous farther "
    "feeling figure final finish follow forget forward garden general gentle given glass ground happen hardly heard heavy help "
    "history hold hope hour however huge idea imagine important inside instead interest journey kitchen large later laugh learn "
    "leave letter level light little local lower lunch major manage matter maybe meaning measure middle minute moment morning "
    "mostly mountain music natural near nearly necessary never nothing notice number often open order other outside perhaps "
    "picture plain point possible pretty problem proper quarter question quick quiet quite rather reach ready real reason "
    "regular remain repeat rest result river road round season second seem several share short simple single small someone "
    "sometimes spring stand start station still stone story street strong sudden summer table teach thought through today "
    "together tomorrow toward travel trouble turn under until usual village visit wait walk water weather week weekend while "
    "window winter within without wonder wooden world write yesterday"
).split()


@dataclass
class Fact:
    """A statement that is asked for later. `value` is what the answer must contain."""

    key: str
    thing: str
    value: str
    turn: int
    role: str
    old: str = ""

    def sentence(self, corrected: bool = False) -> str:
        return (
            f"Correction: {self.key} is {self.value} now."
            if corrected
            else f"{self.key[0].upper()}{self.key[1:]} is {self.value}."
        )

    def questions(self) -> dict[str, str]:
        return {
            "same words": f"What is {self.key}?",
            "paraphrase": f"Can you tell me again which one I have for the {self.thing}?",
            "no shared word": f"Please remind me of that detail concerning my {_OTHER[self.thing]}.",
        }


@dataclass
class Conversation:
    """Turns of text with facts in them."""

    turns: list[tuple[str, str]] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    corrections: dict[int, Fact] = field(default_factory=dict)

    @classmethod
    def make(cls, seed: int, count: int = 300, facts: int = 42) -> Conversation:
        rng = random.Random(seed)
        conversation = cls()
        keys = [(f"the {kind} my {owner}", owner, value) for kind, owner, value in cls._kinds(rng, facts)]
        rng.shuffle(keys)
        places = sorted(rng.sample(range(2, count - 20), facts))
        for turn, (key, thing, value) in zip(places, keys, strict=False):
            conversation.facts.append(Fact(key, thing, value(), turn, "user" if rng.random() < 0.7 else "assistant"))
        for fact in rng.sample(conversation.facts, 10):
            later = rng.randrange(fact.turn + 5, count - 5)
            while later in conversation.corrections:  # a turn corrects one fact
                later += 1
            fact.old, fact.value = fact.value, next(v for k, _, v in keys if k == fact.key)()
            conversation.corrections[later] = fact
        planted = {f.turn: f for f in conversation.facts}
        for turn in range(count):
            texts = {"user": cls._filler(rng, 20, 60), "assistant": cls._filler(rng, 40, 130)}
            if said := planted.get(turn):
                shown = Fact(said.key, said.thing, said.old or said.value, turn, said.role)
                texts[said.role] += " " + shown.sentence()
            if correction := conversation.corrections.get(turn):
                texts["user"] += " " + correction.sentence(corrected=True)
            conversation.turns.append((texts["user"], texts["assistant"]))
        return conversation

    @staticmethod
    def _kinds(rng: random.Random, count: int) -> list[tuple[str, str, Callable[[], str]]]:
        """What can be said, of which thing or person, and how a value of it is made: at least `count` of them."""

        def code() -> str:
            return f"{rng.choice('KXQZJ')}{rng.choice('KXQZJ')}-{rng.randrange(1000, 9999)}"

        def name() -> str:
            parts = (
                ["Bra", "Kel", "Dro", "Mur", "Vas"],
                ["lin", "dor", "mit", "gar"],
                ["ski", "son", "vic", "ton", "ley"],
            )
            return "".join(map(rng.choice, parts)) + str(rng.randrange(10, 99))

        def phone() -> str:
            return f"0{rng.randrange(100, 999)} {rng.randrange(100000, 999999)}"

        found = [("code for", thing, code) for thing in _THINGS] + [("name of", person, name) for person in _PEOPLE]
        found += [("phone number of", person, phone) for person in _PEOPLE]
        more = (
            "serial number of",
            "invoice number for",
            "warranty code of",
            "article number of",
            "seal number of",
            "contract number for",
            "receipt number for",
        )
        for kind in more:
            if len(found) >= count:
                break
            found += [(kind, owner, code) for owner in (*_THINGS, *_PEOPLE)]
        return found

    @staticmethod
    def _filler(rng: random.Random, least: int, most: int) -> str:
        words = [rng.choice(_FILLER) for _ in range(rng.randrange(least, most))]
        for place in range(9, len(words), 11):
            words[place] += "."
        return " ".join(words).capitalize() + "."

    def known(self, turn: int) -> list[tuple[Fact, str]]:
        """The facts said by the end of a turn, with the value that holds then."""
        corrected = {f.key for t, f in self.corrections.items() if t <= turn}
        return [(f, f.value if not f.old or f.key in corrected else f.old) for f in self.facts if f.turn <= turn]


class Oracle:
    """A summary model that loses nothing but each fact with some probability per call."""

    def __init__(
        self, conversation: Conversation, rng: random.Random, keep: float, fail: float, counter: Counter
    ) -> None:
        self.conversation, self.rng, self.keep, self.fail, self.counter = conversation, rng, keep, fail, counter
        self.calls = 0
        self.tokens = 0

    def ask(self, messages: Sequence[ApiMessage], most: int) -> tuple[str, str | None]:
        self.calls += 1
        text = messages[-1]["content"]
        self.tokens += self.counter.count_text(text)
        if self.rng.random() < self.fail:
            raise ConnectionError("the summary model is down")
        lines = []
        for fact in self.conversation.facts:
            places = {value: text.rfind(value) for value in (fact.old, fact.value) if value}
            value, place = max(places.items(), key=lambda p: p[1])
            if place >= 0 and self.rng.random() < self.keep:
                lines.append((place, f"{fact.key}: {value}"))
        lines.sort(reverse=True)
        while lines and self.counter.count_text("\n".join(line for _, line in lines)) > most:
            lines.pop()
        return "\n".join(line for _, line in reversed(lines)) or "(nothing)", "complete"


@dataclass
class Figures:
    """The results of one run."""

    recall: float
    asked: dict[str, float]
    stale: int
    reuse: float
    tokens: float
    calls: int
    blocked: int
    violations: int
    lost: int


def replay(
    conversation: Conversation,
    strategy: Strategy,
    budget: int,
    counter: Counter,
    keep: float = 0.97,
    fail: float = 0.0,
    seed: int = 0,
    writer: type[Oracle] | None = None,
) -> Figures:
    """Play a conversation under a strategy: plan, reply, summarise; check every plan."""
    session, index = Session("bench"), PassageIndex()
    counter = Counter(counter.encoding, counter.tokenize)  # counts are cached by ids, which repeat in conversations
    oracle = (writer or Oracle)(conversation, random.Random(seed), keep, fail, counter)
    summary_model = SummaryModel("oracle", 128_000, oracle.ask)
    recall, sizes, stale = [], [], 0
    total = same = violations = blocked = 0
    before: ContextPlan | None = None
    failures = rest = 0
    for number, (question, reply) in enumerate(conversation.turns):
        session.apply(
            {
                "type": "message",
                "id": f"q{number}",
                "parent": session.head,
                "role": "user",
                "content": question,
                "time": "2026-01-01T00:00:00Z",
            }
        )
        index.update(session)
        uses = index if strategy.retrieval_share(strategy.budget(Limits(budget)).tokens) else None
        try:
            context = plan(session, session.path[-1], strategy, counter, Limits(budget), now=NOW, retriever=uses)
        except ContextBudgetError:
            blocked += 1
            continue
        text = "\n".join(m["content"] for m in context.messages)
        roles = [m["role"] for m in context.messages if m["role"] != "system"]
        violations += context.tokens > budget or roles[0] != "user" or any(a == b for a, b in pairwise(roles))
        violations += not context.messages[-1]["content"].endswith(question)
        sizes.append(context.tokens)
        if before is not None and number > 20:
            total += context.tokens
            same += common_prefix_tokens(before.messages, context.messages, counter)
        before = context
        if number and number % 10 == 0:
            known = conversation.known(number)
            if known:
                recall.append(sum(value in text for _, value in known) / len(known))
            stale += sum(
                bool(f.old) and value == f.value and f.old in text and f.value not in text for f, value in known
            )
        session.apply(
            {
                "type": "message",
                "id": f"a{number}",
                "parent": f"q{number}",
                "role": "assistant",
                "content": reply,
                "time": "2026-01-01T00:00:00Z",
                "sent": context.digest(),
            }
        )
        rest -= rest > 0
        if context.summarize_before and not rest and strategy.summary_share(context.budget):
            job = SummaryJob.for_session(
                session, context.summarize_before, strategy.summary_share(context.budget), summary_model, counter
            )
            job.run()
            for segment in job.segments:
                session.apply(segment.record())
            failures = failures + 1 if job.error else 0
            rest = min(8, 2**failures // 2) if job.error else 0
    asked = {}
    index.update(session)
    uses = index if strategy.retrieval_share(strategy.budget(Limits(budget)).tokens) else None
    for form in ("same words", "paraphrase", "no shared word"):
        hits = []
        for fact in conversation.facts:
            context = plan(session, fact.questions()[form], strategy, counter, Limits(budget), now=NOW, retriever=uses)
            hits.append(fact.value in "\n".join(m["content"] for m in context.messages))
        asked[form] = statistics.mean(hits)
    stored = {m.content for m in session.messages.values()}
    lost = sum(text not in stored for turn in conversation.turns for text in turn)
    return Figures(
        statistics.mean(recall),
        asked,
        stale,
        same / max(1, total),
        statistics.mean(sizes),
        oracle.calls,
        blocked,
        violations,
        lost,
    )


def langchain(conversation: Conversation, which: str, budget: int, counter: Counter, seed: int) -> Figures:
    """The same conversation through langchain: `trim_messages` in its best configuration for a chat, or its summary buffer."""
    import warnings

    warnings.simplefilter("ignore")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, trim_messages

    oracle = Oracle(conversation, random.Random(seed), 0.97, 0.0, counter)

    def count(messages: list[BaseMessage]) -> int:
        return 3 + sum(counter.count_message(str(m.content)) for m in messages)

    summary: Any = None
    if which == "ConversationSummaryBufferMemory":
        from langchain_classic.memory import ConversationSummaryBufferMemory

        class Model(GenericFakeChatModel):
            def _generate(self, messages: Any, *more: Any, **options: Any) -> Any:
                from langchain_core.outputs import ChatGeneration, ChatResult

                text, _ = oracle.ask([{"role": "user", "content": str(messages[-1].content)}], budget // 4)
                return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

            def get_num_tokens_from_messages(self, messages: Any, tools: Any = None) -> int:
                return count(messages)

        summary = ConversationSummaryBufferMemory(
            llm=Model(messages=iter(())), max_token_limit=budget - 300, return_messages=True
        )
    history: list[BaseMessage] = []
    recall, sizes, stale, total, same, violations = [], [], 0, 0, 0, 0
    before: list[ApiMessage] = []

    def context_of(question: str) -> list[ApiMessage]:
        shown = history if summary is None else summary.load_memory_variables({})["history"]
        shown = [*shown, HumanMessage(question)]
        if summary is None:
            shown = trim_messages(
                shown, max_tokens=budget, token_counter=count, strategy="last", include_system=True, start_on="human"
            )
        return [
            {"role": {"human": "user", "ai": "assistant"}.get(m.type, m.type), "content": str(m.content)} for m in shown
        ]

    for number, (question, reply) in enumerate(conversation.turns):
        context = context_of(question)
        text = "\n".join(m["content"] for m in context)
        size = counter.request_overhead + sum(counter.count_message(m["content"]) for m in context)
        first = next((m["role"] for m in context if m["role"] != "system"), "")
        violations += size > budget or first != "user" or not text.endswith(question)
        sizes.append(size)
        if before and number > 20:
            total += size
            same += common_prefix_tokens(before, context, counter)
        before = context
        if number and number % 10 == 0 and (known := conversation.known(number)):
            recall.append(sum(value in text for _, value in known) / len(known))
            stale += sum(
                bool(f.old) and value == f.value and f.old in text and f.value not in text for f, value in known
            )
        if summary is None:
            history += [HumanMessage(question), AIMessage(reply)]
        else:
            summary.save_context({"input": question}, {"output": reply})
    asked = {}
    for form in ("same words", "paraphrase", "no shared word"):
        hits = [f.value in "\n".join(m["content"] for m in context_of(f.questions()[form])) for f in conversation.facts]
        asked[form] = statistics.mean(hits)
    return Figures(
        statistics.mean(recall),
        asked,
        stale,
        same / max(1, total),
        statistics.mean(sizes),
        oracle.calls,
        0,
        violations,
        0,
    )


PEERS = {"trim_messages": "langchain_core", "ConversationSummaryBufferMemory": "langchain_classic"}
SPECS = (
    "buffer",
    "window:17",
    "token-trim:{}",
    "token-trim:{},low_water=1",
    "summary,max_tokens={},recall_tokens=0",
    "summary:{}",
)
SUMMARY, LOW_WATER = "summary:{}", "token-trim:{}"
KEPT = Claim("summary: facts in the context", "", at_least=0.99)
KEPT_MANY = {
    count: Claim(f"summary: {count} facts in the context", "", at_least=at_least)
    for count, at_least in ((120, 0.97), (240, 0.9))
}
REUSE_MANY = {
    count: Claim(f"summary: prompt cache reuse with {count} facts", "", at_least=at_least)
    for count, at_least in ((120, 0.78), (240, 0.7))
}
KEPT_FAILING = Claim("summary with 30 % failing summaries: facts in the context", "", at_least=0.94)
ASKED = {
    form: Claim(f"summary: a fact asked for, {form}", "", at_least=at_least)
    for form, at_least in (("same words", 1.0), ("paraphrase", 0.99), ("no shared word", 0.92))
}
ASKED_MANY = {
    (count, form): Claim(f"summary: a fact of {count} asked for, {form}", "", at_least=at_least)
    for count, limits in ((120, (0.99, 0.95, 0.85)), (240, (0.97, 0.9, 0.75)))
    for form, at_least in zip(ASKED, limits, strict=True)
}
STALE = Claim("summary: stale facts", "", at_most=1)
STALE_MANY = {
    count: Claim(f"summary: stale facts of {count}", "", at_most=at_most) for count, at_most in ((120, 3), (240, 6))
}
BROKEN = Claim("plans over budget, without their question, or malformed", "", at_most=0)
REUSE = Claim("summary: prompt cache reuse", "", at_least=0.86)
REUSE_4 = Claim("token-trim: prompt cache reuse at 4,000 tokens", "", at_least=0.85)
REUSE_12 = Claim("token-trim: prompt cache reuse at 12,000 tokens", "", at_least=0.94)
CLAIMS = (
    KEPT,
    *KEPT_MANY.values(),
    KEPT_FAILING,
    *ASKED.values(),
    *ASKED_MANY.values(),
    STALE,
    *STALE_MANY.values(),
    BROKEN,
    REUSE,
    *REUSE_MANY.values(),
    REUSE_4,
    REUSE_12,
)


def rows(quick: bool) -> Iterator[Row]:
    counter, seeds = counter_for_model("gpt-4o"), (1,) if quick else (1, 2, 3, 4, 5)
    how = f"seeds {', '.join(map(str, seeds))}; 4,000 tokens, {counter.method}"
    conversations = {seed: Conversation.make(seed) for seed in seeds}

    def replayed(spec: str, budget: int = 4000, fail: float = 0.0) -> list[Figures]:
        strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec.format(budget)))
        return [replay(conversations[seed], strategy, budget, counter, fail=fail, seed=seed) for seed in seeds]

    peers = {
        name: [langchain(conversations[seed], name, 4000, counter, seed) for seed in seeds]
        for name, package in PEERS.items()
        if importlib.util.find_spec(package)
    }

    def row(claim: Claim, found: list[Figures], get: Callable[[Figures], float]) -> Row:
        compared_to = [f"{name} {statistics.mean(map(get, theirs)):.2f}" for name, theirs in peers.items()]
        compared_to += [f"{name} cannot be installed" for name in PEERS if name not in peers]
        values = [get(one) for one in found]
        return claim.row(statistics.mean(values), half(values), how, ", ".join(compared_to))

    summary, failing = replayed(SUMMARY), replayed(SUMMARY, fail=0.3)
    yield row(KEPT, summary, lambda f: f.recall)
    yield row(KEPT_FAILING, failing, lambda f: f.recall)
    for form, claim in ASKED.items():
        yield row(claim, summary, lambda f, form=form: f.asked[form])  # type: ignore[misc]
    yield row(STALE, summary, lambda f: f.stale)
    yield row(REUSE, summary, lambda f: f.reuse)
    for count, claim in KEPT_MANY.items():
        conversations = {seed: Conversation.make(seed, facts=count) for seed in seeds}
        found = replayed(SUMMARY)
        values = [one.recall for one in found]
        yield claim.row(statistics.mean(values), half(values), how)
        values = [one.reuse for one in found]
        yield REUSE_MANY[count].row(statistics.mean(values), half(values), how)
        for form in ASKED:
            values = [one.asked[form] for one in found]
            yield ASKED_MANY[count, form].row(statistics.mean(values), half(values), how)
        values = [one.stale for one in found]
        yield STALE_MANY[count].row(statistics.mean(values), half(values), how)
    conversations = {seed: Conversation.make(seed) for seed in seeds}
    trimmed = replayed(LOW_WATER)
    yield row(REUSE_4, trimmed, lambda f: f.reuse)
    if not quick:
        long = [f.reuse for f in replayed(LOW_WATER, 12_000)]
        yield REUSE_12.row(statistics.mean(long), half(long), how.replace("4,000", "12,000"))
    yield row(BROKEN, summary + failing + trimmed, lambda f: f.violations + f.blocked + f.lost)


def table(budgets: Sequence[int] = (2000, 4000, 12000), seeds: Sequence[int] = (1, 2, 3)) -> None:
    """Every strategy at every budget, for work on the strategies."""
    counter = counter_for_model("gpt-4o")
    heads = ("budget", "strategy", "failing summaries", "facts", "same words", "paraphrase", "no shared word", "stale")
    print(f"counted: {counter.method}; seeds {list(seeds)}\n")
    print(f"| {' | '.join((*heads, 'prefix reuse', 'tokens', 'summary calls', 'violations'))} |\n|{'---|' * 12}")
    conversations = {seed: Conversation.make(seed) for seed in seeds}
    for budget in budgets:
        for spec in SPECS:
            strategy = strategies.strategy_from_mapping(strategies.parse_spec(spec.format(budget)))
            for fail in (0.0, 0.3) if strategy.summary_share(budget) else (0.0,):
                found = [replay(conversations[s], strategy, budget, counter, fail=fail, seed=s) for s in seeds]
                print(_line(budget, spec.format(budget), fail, found), flush=True)
        for peer, package in PEERS.items():
            if importlib.util.find_spec(package):
                found = [langchain(conversations[s], peer, budget, counter, s) for s in seeds]
                print(_line(budget, f"LangChain {peer}", 0.0, found), flush=True)


def _line(budget: int, name: str, fail: float, found: list[Figures]) -> str:
    def mean(get: Callable[[Figures], float]) -> float:
        return statistics.mean(map(get, found))

    cells = [str(budget), name, f"{fail:.0%}", f"{mean(lambda f: f.recall):.2f}"]
    cells += [f"{mean(lambda f, form=form: f.asked[form]):.2f}" for form in found[0].asked]  # type: ignore[misc]
    cells += [str(sum(f.stale for f in found)), f"{mean(lambda f: f.reuse):.2f}", f"{mean(lambda f: f.tokens):.0f}"]
    cells += [f"{mean(lambda f: f.calls):.0f}", str(sum(f.violations + f.blocked + f.lost for f in found))]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    table() if "--table" in sys.argv else measured(rows)
