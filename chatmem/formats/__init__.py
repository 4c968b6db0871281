"""Export and import formats: the table of them."""

from __future__ import annotations

from pathlib import Path

from chatmem.errors import UsageError
from chatmem.formats import chatgpt, claude, html, json, langchain, llm, markdown, openai, sharegpt, text
from chatmem.formats.base import Format, ImportedConversation
from chatmem.text import truncate

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
WRITABLE = [name for name, form in FORMATS.items() if form.write]
READABLE = [name for name, form in FORMATS.items() if form.read]

__all__ = ["FORMATS", "READABLE", "WRITABLE", "Format", "ImportedConversation", "format_for"]


def format_for(name: str | None, file: str = "") -> Format:
    """The format to write: by name, else by the suffix of the file, else Markdown. Raises UsageError."""
    if name is None:
        matching = [f for f in FORMATS.values() if f.write and f.suffix and file.lower().endswith(f.suffix)]
        suffix = Path(file).suffix
        if not matching and suffix:
            raise UsageError(f"No format has the suffix {truncate(suffix)!r}.", f"Formats: {', '.join(WRITABLE)}")
        return max(matching, key=lambda f: len(f.suffix), default=markdown.FORMAT)
    if name not in WRITABLE:
        raise UsageError(f"Unknown export format {truncate(name)!r}.", f"Formats: {', '.join(WRITABLE)}")
    return FORMATS[name]
