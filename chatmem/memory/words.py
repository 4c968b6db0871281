"""Tables of words for retrieval: what carries no meaning, irregular forms, what makes a question, who is meant."""

from __future__ import annotations

import re

STOP_WORDS = frozenset(
    (
        "a about after again all also am an and any anything are aren as at be because been before being but "
        "by call called can could couldn did didn discuss discussed do does doesn doing don done dont down "
        "ever every few for from get gets getting give go goes going gone got had happen happened has hasn "
        "have haven having he hello her here hers hey hi him his how i if im in into is isn it its ive just "
        "kind know known let like ll long made make many may maybe me mention mentioned might mine more most "
        "much must my never no nor not now of off often oh ok okay on once one only or other our out over own "
        "please quite rather re really remember remind right said same say see she should since so some "
        "something speak spoke still such sure take talk talked talking tell than thank thanks that thats the "
        "their them then there these they thing things think this those though through to told too under "
        "until up upon us use used ve very want wanted was wasn way we well went were weren what whats when "
        "where which while who whom whose why will with without would wouldn yes yet you your yours"
    ).split()
)
"""Words that are neither indexed nor searched for."""

_IRREGULAR_FORMS = """
be: been being; beat: beaten; become: became; begin: began begun; bend: bent; bind: bound; bite: bit bitten;
blow: blew blown; break: broke broken; bring: brought; build: built; burn: burnt; buy: bought; catch: caught;
choose: chose chosen; come: came; deal: dealt; dig: dug; draw: drew drawn; dream: dreamt; drink: drank drunk;
drive: drove driven; eat: ate eaten; fall: fell fallen; feed: fed; feel: felt; fight: fought; find: found; flee:
fled; fly: flew flown flies; forget: forgot forgotten; freeze: froze frozen; grow: grew grown; hang: hung; hear:
heard; hide: hid hidden; hold: held; keep: kept; lay: laid; lead: led; learn: learnt; leave: left; lend: lent;
lie: lay lain; light: lit; lose: lost; mean: meant; meet: met; pay: paid; ride: rode ridden; ring: rang rung;
rise: rose risen; run: ran; seek: sought; sell: sold; send: sent; shake: shook shaken; shine: shone; shoot:
shot; sing: sang sung; sink: sank sunk; sit: sat; sleep: slept; speak: spoke spoken; spend: spent; stand: stood;
steal: stole stolen; stick: stuck; strike: struck; swear: swore sworn; swim: swam swum; swing: swung; teach:
taught; tear: tore torn; throw: threw thrown; understand: understood; wake: woke woken; wear: wore worn; win:
won; write: wrote written; child: children; man: men; woman: women; person: people; foot: feet; tooth: teeth;
goose: geese; mouse: mice; knife: knives; life: lives; wife: wives; leaf: leaves; half: halves; shelf: shelves;
wolf: wolves; loaf: loaves; good: better best; bad: worse worst; far: further furthest
"""
IRREGULAR = {
    form: base.strip()
    for base, forms in (entry.split(":") for entry in _IRREGULAR_FORMS.split(";"))
    for form in forms.split()
    if form not in STOP_WORDS and base.strip() not in STOP_WORDS
}
"""The base form of words that a stemmer does not reduce to it."""

FIRST_PERSON = frozenset("i my ich mein meine meinen meinem meiner je mon ma mes yo mi mis".split())
SECOND_PERSON = frozenset(
    "you your yours du dein deine deinen deinem deiner dir dich tu ton ta tes vous votre vos tú tus usted".split()
)

_QUESTION_WORDS = frozenset(
    "what whats when where who whom whose which why how was wer wann wo wie warum welche welcher welches wieso wem "
    "wen quel quelle quels quelles quand où qui comment pourquoi combien qué quién quiénes cuándo dónde cómo cuál "
    "cuánto".split()
)
_ASKS = frozenset(
    "is are was were am do does did have has had can could will would should may shall "  # "Did I mention the garage"
    "remind tell show list give find recall summarise summarize describe explain name repeat".split()
)
_ASKING_STEMS = (
    "什么",
    "谁",
    "哪",
    "怎么",
    "几点",
    "何",
    "誰",
    "どこ",
    "いつ",
    "なぜ",
    "どう",
    "무엇",
    "누구",
    "어디",
    "언제",
)
_WORD = re.compile(r"[^\W\d_]+")


def is_question(text: str) -> bool:
    """Whether a text asks for something: it has a question mark or a question word, or begins as a request."""
    if any(mark in text for mark in "?？؟¿"):
        return True
    words = [word.lower() for word in _WORD.findall(text[:2000])]
    return (
        not _QUESTION_WORDS.isdisjoint(words[:3])
        or not _ASKS.isdisjoint(words[: 2 if words[:1] == ["please"] else 1])
        or any(stem in text for stem in _ASKING_STEMS)
    )


def speaker_asked_about(question: str) -> str:
    """The role whose messages a question is about: `user` for "What is my name?". Empty if it does not tell."""
    words = {word.lower() for word in _WORD.findall(question)}
    first, second = not words.isdisjoint(FIRST_PERSON), not words.isdisjoint(SECOND_PERSON)
    return "" if first == second else "user" if first else "assistant"


_IGNORANCE = re.compile(
    r"\b(?:i (?:do not|don['’]t|cannot|can['’]t|could not|couldn['’]t) (?:know|have|see|find|recall|remember)"
    r"|i['’]?a?m not sure|i am not aware|no (?:information|mention|record)|not in the [\d,]* ?messages?"
    r"|(?:have|has)(?:n['’]t| not) (?:told|mentioned|said|shared)"
    r"|ich wei(?:ß|ss) (?:es |das )?nicht|je ne sais pas|no (?:lo )?sé)",
    re.IGNORECASE,
)
_SAYS_MORE = re.compile(r"\d|;|\b(?:but|however|though|although|aber|mais|pero)\b", re.IGNORECASE)
MAX_IGNORANCE_CHARS = 160
"""A reply that says more than this says something."""


def is_ignorance(text: str) -> bool:
    """Whether a reply only says that it does not know."""
    if len(text) > MAX_IGNORANCE_CHARS:
        return False
    rest, count = _IGNORANCE.subn("", text)
    return count > 0 and not _SAYS_MORE.search(rest)
