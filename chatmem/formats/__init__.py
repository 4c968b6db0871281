"""A session as something else, and back: the table of formats."""

from __future__ import annotations

from chatmem.errors import WrongUse
from chatmem.formats import json, markdown
from chatmem.formats.base import Format
from chatmem.names import shortened

FORMATS: dict[str, Format] = {f.name: f for f in (markdown.FORMAT, json.FORMAT)}


def named(name: str | None, file: str = "") -> Format:
    """The format of that name, else the one the file's ending means, else Markdown. Raises WrongUse."""
    if name is None:
        return next((f for f in FORMATS.values() if file.lower().endswith(f.ending)), markdown.FORMAT)
    if name not in FORMATS:
        raise WrongUse(f"There is no format {shortened(name)!r}.", f"There are: {', '.join(FORMATS)}")
    return FORMATS[name]
