"""A long text is shortened to its beginning and its end, whatever it is made of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest
from wcwidth import iter_graphemes

from chatmem.history.session import Session
from chatmem.memory import shortening
from chatmem.memory.shortening import shorten, truncate_to
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.memory import histories

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
TEXTS = {
    "paragraphs": "\n\n".join(f"Paragraph {n}. " + "Some more words follow here. " * 12 for n in range(60)),
    "list": "\n".join(f"- item {n} of the list, with a few words" for n in range(900)),
    "table": "| a | b |\n|---|---|\n" + "\n".join(f"| {n} | {n * n} |" for n in range(900)),
    "code": "Look:\n\n```python\n"
    + "\n".join(f"value_{n} = compute({n})" for n in range(900))
    + "\n```\n\nThat is all.",
    "one line": "x" * 200_000,
    "one line of words": "word " * 40_000,
    "chinese": "这是一个很长的句子没有空格" * 3000,
    "hebrew": "זהו משפט ארוך מאוד " * 3000,
    "combining": "e\u0301\u0323" * 20_000,
    "families": FAMILY * 5_000,
    "flags": "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7" * 5_000,
    "hangul": "\u1112\u1161\u11ab" * 10_000,
}


def words(text: str) -> int:
    return len(text.split())


def characters(text: str) -> int:
    return len(text)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("tokens", [64, 333, 1000])
def test_a_shortened_text_fits_and_has_its_beginning_and_its_end(name: str, tokens: int) -> None:
    text = TEXTS[name]
    short, left_out = shorten(text, tokens, estimate_tokens)
    assert estimate_tokens(short) <= tokens and left_out > 0
    head, tail = re.split(r"\s?\[… [\d,]+ tokens left out …\]\s?", short)
    assert f"{left_out:,} tokens left out" in short
    assert estimate_tokens(short) >= tokens * 0.4, "most of the space is used"
    plain_head, plain_tail = (part.replace("```python", "").replace("```", "").strip("\n") for part in (head, tail))
    assert text.replace("```python", "").startswith(plain_head.rstrip()) and plain_head.strip()
    assert text.replace("```", "").rstrip().endswith(plain_tail.strip()) and plain_tail.strip()


@pytest.mark.parametrize("name", ["combining", "families", "flags", "hangul"])
@pytest.mark.parametrize("tokens", [*range(64, 100), 500])
def test_no_grapheme_is_cut(name: str, tokens: int) -> None:
    short, _ = shorten(TEXTS[name], tokens, estimate_tokens)
    head, _, tail = (part for part in re.split(r" ?(\[… [\d,]+ tokens left out …\]) ?", short))
    whole = set(iter_graphemes(TEXTS[name]))
    assert {*iter_graphemes(head), *iter_graphemes(tail)} <= whole


def test_a_code_fence_that_is_cut_is_closed_and_opened_again() -> None:
    short, _ = shorten(TEXTS["code"], 300, estimate_tokens)
    before, after = re.split(r"\n\n\[… [\d,]+ tokens left out …\]\n\n", short)
    assert before.startswith("Look:\n\n```python\nvalue_0") and before.endswith("\n```")
    assert after.startswith("```python\nvalue_") and after.rstrip().endswith("```\n\nThat is all.")


def test_text_is_cut_between_paragraphs_and_lines() -> None:
    short, _ = shorten(TEXTS["paragraphs"], 1000, estimate_tokens)
    head, tail = re.split(r"\n\n\[… [\d,]+ tokens left out …\]\n\n", short)
    assert head.endswith("follow here.") and tail.startswith("Paragraph")
    short, _ = shorten(TEXTS["table"], 1000, estimate_tokens)
    assert all(line.startswith(("|", "[…")) and line.endswith(("|", "…]")) for line in short.split("\n") if line)


def test_two_thirds_of_the_space_go_to_the_beginning() -> None:
    short, left_out = shorten("".join(f"{n:06} " for n in range(5000)), 3000, characters)
    head, _, tail = short.partition("[…")
    assert 1.7 < len(head) / len(tail.partition("…]")[2]) < 2.3
    assert left_out == 35_000 - len(head.rstrip()) - len(tail.partition("…]")[2].lstrip())


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert shorten("short", 5, characters) == ("short", 0)


@pytest.mark.parametrize("tokens", [64, 333])
def test_white_space_is_shortened_too(tokens: int) -> None:
    short, left_out = shorten("\n" * 5000 + " " * 5000 + "x " * 5000, tokens, characters)
    assert len(short) <= tokens and left_out > 14_000


@pytest.mark.parametrize("tokens", range(40))
def test_very_little_space_leaves_the_marker_or_nothing(tokens: int) -> None:
    short, left_out = shorten("word " * 1000, tokens, characters)
    assert len(short) <= tokens and left_out > 4900 and (not short or "tokens left out" in short)


def test_random_texts_are_shortened_within_the_space(rng: random.Random) -> None:
    for _ in range(300):
        parts = [rng.choice([*TEXTS.values()])[: rng.randrange(400)] for _ in range(rng.randrange(1, 30))]
        text = rng.choice(["\n", "\n\n", " ", ""]).join([*parts, histories.short_text(rng)])
        tokens = rng.randrange(16, 800)
        short, left_out = shorten(text, tokens, estimate_tokens)
        assert estimate_tokens(short) <= tokens and (left_out == 0) == (short == text)


def counted_work(text: str) -> int:
    """The characters that are counted to shorten a text."""
    work = 0

    def count(part: str) -> int:
        nonlocal work
        work += len(part)
        return estimate_tokens(part)

    shorten(text, 500, count)
    return work


@pytest.mark.parametrize("unit", ["word ", "x", "这", "a line\n", "```\ncode\n```\n"])
def test_the_work_is_linear_in_the_length_of_the_text(unit: str) -> None:
    work: Callable[[int], int] = lambda n: counted_work(unit * (n // len(unit)))  # noqa: E731
    assert work(800_000) < 4.5 * work(200_000)


def test_a_truncated_text_takes_as_many_tokens_as_it_may() -> None:
    text = "\n".join(f"line{n}" for n in range(100))
    for tokens in (1, 2, 10, 99):
        assert truncate_to(text, tokens, words) == "\n".join(f"line{n}" for n in range(tokens))
    assert truncate_to(text, 100, words) == text and truncate_to(text, 0, words) == ""
    assert truncate_to("one two three", 1, words) == "one"


# Exactly where a text is cut. One character is one token.


@pytest.mark.parametrize("tokens", [1, 5, 11, 12, 13, 24, 99])
def test_the_longest_prefix_and_suffix_are_found_across_pieces(tokens: int) -> None:
    for text in ("first line\nsecond line\nthird line", "x" * 200, "\n" * 30, "ab\n" * 40):
        kept = min(tokens, len(text))
        assert shortening._prefix_end(text, tokens, characters) == kept
        assert shortening._suffix_start(text, tokens, characters) == len(text) - kept


def test_pieces_of_a_long_line_are_counted_together() -> None:
    text = "x" * (3 * shortening.MAX_PIECE_CHARS + 7)
    for tokens in (shortening.MAX_PIECE_CHARS, 2 * shortening.MAX_PIECE_CHARS + 5, len(text)):
        assert shortening._prefix_end(text, tokens, characters) == tokens
        assert shortening._suffix_start(text, tokens, characters) == len(text) - tokens


def test_a_beginning_ends_at_a_paragraph_or_line_in_its_second_half_or_at_a_word_in_its_last_quarter() -> None:
    last = shortening._last_break
    assert last("a" * 51 + "\n\n" + "b" * 47, 99) == 51 and last("a" * 49 + "\n" + "b" * 50, 98) == 98
    assert last("a" * 60 + "\n" + "b" * 20 + "\n\n" + "c" * 30, 100) == 81, "a paragraph before a line"
    assert last("a" * 60 + "\n" + "b" * 50, 100) == 60 and last("a" * 40 + "\n" + "b" * 70, 100) == 100
    assert last("a" * 76 + " " + "b" * 50, 100) == 76 and last("a" * 75 + " " + "b" * 50, 100) == 100
    assert last("abc", 3) == 3 and last("abc\n", 3) == 3 and last("a" * 10 + " b", 10) == 10


def test_an_end_begins_after_a_paragraph_or_line_in_its_first_half_or_a_word_in_its_first_quarter() -> None:
    first = shortening._first_break
    assert first("a" * 40 + "\n\n" + "b" * 100, 20) == 42 and first("a" * 90 + "\n\n" + "b" * 8, 20) == 20
    assert first("a" * 30 + "\n" + "b" * 9 + "\n\n" + "c" * 60, 20) == 42, "a paragraph before a line"
    assert first("a" * 30 + "\n" + "b" * 70, 20) == 31
    assert first("a" * 30 + " " + "b" * 89, 20) == 31 and first("a" * 50 + " " + "b" * 69, 20) == 20
    assert first("a\nb", 2) == 2 and first("abc", 0) == 0 and first("\nabc", 0) == 1


@pytest.mark.parametrize("grapheme", ["👩‍👩‍👧‍👦", "🇵🇹", "e\u0301", "क्षि", "👍🏽"])
def test_the_two_ends_of_a_grapheme_are_found_from_every_place_in_it(grapheme: str) -> None:
    for before in ("", "x", "x" * 300, "🇩🇪", "🇩🇪" * 100):
        text = before + grapheme + "y"
        for place in range(len(before), len(before) + len(grapheme)):
            assert shortening._grapheme_start(text, place) == len(before)
            assert shortening._grapheme_end(text, place) == len(before) + len(grapheme)
        assert shortening._grapheme_start(text, len(text)) == len(text)


def test_a_turn_gives_one_message_what_the_other_does_not_need() -> None:
    def parts(question: int, reply: int, space: int) -> list[int] | None:
        session, counter = Session("s"), Counter(None, words)
        for ident, role, size, parent in (("q", "user", question, None), ("a", "assistant", reply, "q")):
            content = " ".join(["word"] * size)
            session.apply({"type": "message", "id": ident, "parent": parent, "role": role, "content": content})
        found = shortening.shorten_turn(session.turns[0], counter, space)
        return [counter.count_message(one.text) for one in found] if found else None

    overhead = Counter(None, words).message_overhead
    assert parts(10, 10, 1000) == [10 + overhead, 10 + overhead]
    whole, rest = parts(100, 5000, 1000) or (0, 0)
    assert whole == 100 + overhead and 980 <= whole + rest <= 1000
    rest, whole = parts(5000, 100, 1000) or (0, 0)
    assert whole == 100 + overhead and 980 <= whole + rest <= 1000
    both = parts(5000, 5000, 1000)
    assert both and 490 <= both[0] <= 500 and 490 <= both[1] <= 500
    least = shortening.MIN_MESSAGE_TOKENS + overhead
    assert (
        shortening.MIN_MESSAGE_TOKENS == 32
        and parts(5000, 5000, 2 * least)
        and parts(5000, 5000, 2 * least - 1) is None
    )
    assert parts(5000, 10, 10 + overhead + least) and parts(5000, 10, 10 + overhead + least - 1) is None
