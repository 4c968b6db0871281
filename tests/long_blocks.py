"""Markdown blocks of any length, one kind of block each, for tests and benchmarks of streaming."""

from __future__ import annotations

WORDS = "the quick brown fox jumps over a lazy dog while seven wizards brew ale for a crowd of guests".split()


def long_block(kind: str, words: int) -> str:
    """One block of about so many words."""

    def some(count: int, start: int) -> str:
        return " ".join(WORDS[(start + n) % len(WORDS)] for n in range(count))

    lines = range(words // 9)
    return {
        "paragraph": some(words, 0),
        "emphasis": " ".join(f"**{word}**" if n % 7 else f"`{word}`" for n, word in enumerate(some(words, 0).split())),
        "lines": "".join(some(9, n) + "\n" for n in lines),
        "heading": "# " + some(words, 0),
        "table": "| a | b | c |\n|---|---|---|\n"
        + "".join(f"| {some(4, n)} | {some(4, n + 1)} | {n} |\n" for n in lines),
        "numbers": "".join(f"{n + 1}. {some(8, n)}\n" for n in lines),
        "loose numbers": "".join(f"{n + 1}. {some(8, n)}\n\n" for n in lines),
        "bullets": "".join(f"- {some(8, n)}\n" for n in lines),
        "nested bullets": "- top\n  - middle\n" + "".join(f"    - {some(8, n)}\n" for n in lines),
        "item": "1. " + some(words, 0),
        "quote": "".join(f"> {some(9, n)}\n" for n in lines),
        "code": "```python\n" + "".join(f"x = {n}  # {some(6, n)}\n" for n in lines) + "```\n",
        "code line": f"```python\nx = '{some(words, 0)}'\n```\n",
        "code in an item": "- item\n\n  ```python\n"
        + "".join(f"  x = {n}  # {some(6, n)}\n" for n in lines)
        + "  ```\n",
        "definitions": "".join(f"[r{n}]: https://a.example/{n}\n" for n in lines),
        "blank lines": "\n" * words,
        "quoted code line": f"> ```python\n> x = '{some(words, 0)}'\n> ```\n",
        "table row": f"| a | b |\n|---|---|\n| {some(words, 0)} | x |\n",
        "entities": "&amp; " * words,
        "chinese": "日本語の文章です。" * (words // 3),
    }[kind]


LONG_BLOCKS = (
    "paragraph, emphasis, lines, heading, table, numbers, loose numbers, bullets, nested bullets, item, quote, code, "
    "code line, code in an item, definitions, blank lines, quoted code line, table row, entities, chinese"
).split(", ")
