"""A session as something else, and back: the table of formats."""

from __future__ import annotations

from pathlib import Path

from chatmem.errors import WrongUse
from chatmem.formats import chatgpt, claude, html, json, langchain, llm, markdown, openai, sharegpt, text
from chatmem.formats.base import Format, Imported
from chatmem.names import shortened

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        markdown.FORMAT,
        html.FORMAT,
        json.FORMAT,
        json.LINES,
        text.FORMAT,
        openai.SHELL_GPT,
        openai.FORMAT,
        openai.LINES,
        langchain.FORMAT,
        sharegpt.FORMAT,
        chatgpt.FORMAT,
        claude.FORMAT,
        llm.FORMAT,
    )
}
WRITTEN = [name for name, form in FORMATS.items() if form.write]
READ = [name for name, form in FORMATS.items() if form.read]

__all__ = ["FORMATS", "READ", "WRITTEN", "Format", "Imported", "named"]


def named(name: str | None, file: str = "") -> Format:
    """The format to write: of that name, else the one that the file's ending means, else Markdown. Raises WrongUse."""
    if name is None:
        fitting = [f for f in FORMATS.values() if f.write and f.ending and file.lower().endswith(f.ending)]
        ending = Path(file).suffix
        if not fitting and ending:
            raise WrongUse(
                f"No format is known by the ending {shortened(ending)!r}.", "Name one: -f FORMAT, or end in .md."
            )
        return max(fitting, key=lambda f: len(f.ending), default=markdown.FORMAT)
    if name not in WRITTEN:
        raise WrongUse(f"There is no format {shortened(name)!r} to write.", f"There are: {', '.join(WRITTEN)}")
    return FORMATS[name]
