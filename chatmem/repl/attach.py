"""What a message carries besides its words: files named with `@path`, and long pastes."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from pathlib import Path

from chatmem.errors import WrongUse
from chatmem.names import shortened

LARGEST = 4 << 20
"""The most bytes of an attached file."""
LONG_PASTE = 2_000
"""Characters from which on a paste shows as its number of lines."""

_NAMED = re.compile(r"(?<!\S)@(?:\"([^\"\n]+)\"|(\S+))")


def with_files(text: str, say: Callable[[str], None] = lambda line: None, pasted: Container[str] = frozenset()) -> str:
    """The message with the text of each file that it names as `@path` at its end.

    A word that names no file stays a word, and so does one of `pasted`: what a page or a mail says must not send a
    file. `say` is told the size of each file. Raises WrongUse for a binary one, and for a path that leads nowhere.
    """
    attached = []
    for quoted, bare in _NAMED.findall(text):
        path = Path(quoted or bare).expanduser()
        try:
            if not path.is_file():
                path = Path((quoted or bare).rstrip(".,;:!?)")).expanduser()
            if not path.is_file():
                if ("/" in (quoted or bare) or quoted) and (quoted or bare) not in pasted:
                    what = "is a folder" if path.is_dir() else "is not there"
                    raise WrongUse(
                        f"{shortened(str(path))!r} {what}.", 'A blank in a path wants quotes: @"my notes.txt"'
                    )
                continue
            if (quoted or bare) in pasted:
                say(f"{path.name} was named in what you pasted: not attached. Type @ and its path to attach it.")
                continue
            size = path.stat().st_size
            data = path.read_bytes() if size <= LARGEST else b""
        except OSError as error:
            raise WrongUse(f"{shortened(str(path))!r} cannot be read: {error.strerror}.") from error
        if size > LARGEST:
            raise WrongUse(
                f"{shortened(str(path))!r} is {size / 1e6:.0f} MB long.", f"Attach at most {LARGEST >> 20} MB."
            )
        try:
            if b"\0" in data:
                raise UnicodeDecodeError("utf-8", data, 0, 1, "NUL")
            content = data.decode()
        except UnicodeDecodeError:
            raise WrongUse(f"{shortened(str(path))!r} is no text file.", "Only text can be attached.") from None
        say(f"Attached {path.name}: {len(content):,} characters.")
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", content)), default=0))
        attached.append(f"{path.name}:\n{fence}\n{content.rstrip(chr(10))}\n{fence}")
    return "\n\n".join([text, *attached])


class Pastes:
    """Long pastes, shown as `[pasted 48 lines]` in the prompt and sent whole."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.named: set[str] = set()
        """The files that pastes named."""
        self.seen: set[str] = set()
        """What was pasted, without blanks around it: never a command."""

    def shown(self, text: str, rows: int = 24) -> str:
        """What stands in the prompt for a paste: the text itself, or its mark if it is long, or taller than half of
        the screen's `rows`.
        """
        self.named |= {quoted or bare for quoted, bare in _NAMED.findall(text)}
        self.seen.add(text.strip())
        if len(text) <= LONG_PASTE and text.count("\n") < max(4, rows // 2):
            return text
        lines = text.rstrip("\n").count("\n") + 1
        mark = f"[pasted {lines} lines]" if lines > 1 else f"[pasted {len(text):,} characters]"
        number = 1
        while self._texts.get(mark, text) != text:
            number += 1
            mark = f"{mark.rstrip(']').partition(' #')[0]} #{number}]"
        self._texts[mark] = text
        return mark

    def whole(self, text: str) -> str:
        """The message with every mark replaced by what was pasted."""
        for mark, paste in self._texts.items():
            text = text.replace(mark, paste)
        return text
