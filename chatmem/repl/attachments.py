"""What a message carries besides its words: files named with `@path`, and long pastes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container
from pathlib import Path

from chatmem.errors import Notify, UsageError, ignore_notices
from chatmem.input_files import read_input
from chatmem.text import truncate

MAX_FILE_BYTES = 4 << 20
"""The largest file that can be attached."""
LONG_PASTE_CHARS = 2_000
"""Longer pastes are shown in the prompt as their number of lines."""

_BINARY_SIGNATURES = (b"%PDF-", b"%!PS", b"{\\rtf")
"""How files begin that are not meant to be read as text, although they may be valid text."""
_MENTION = re.compile(r"(?<!\S)@(?:\"([^\"\n]+)\"|(\S+))")


def attach_files(text: str, notify: Notify = ignore_notices, pasted: Container[str] = frozenset()) -> str:
    """The message with the text of each file it names as `@path` appended.

    A word that names no file stays a word, with a notice if it looks like a path. So does a path in `pasted`: text that
    was pasted must not be able to send files. `notify` is told about each file. Raises UsageError for directories, for
    files that do not exist and files that are not text.
    """
    attached, notices = [], []
    for quoted, bare in _MENTION.findall(text):
        mention = quoted or bare
        if re.match(r"[a-z][a-z0-9+.-]*://", mention, re.IGNORECASE):
            notices.append(f"Sent as words: @{truncate(mention, 60)}. Web pages are not fetched.")
            continue
        try:
            path = _find_file(mention, is_quoted=bool(quoted), is_pasted=mention in pasted)
            if path is None:
                if re.search(r"\.\w{1,5}$", mention) and mention not in pasted:
                    notices.append(f"Sent as words: @{truncate(mention)}. The file does not exist.")
                continue
            if mention in pasted:
                notices.append(
                    f"{path.name} is named in pasted text and was not attached. Type @ and its path to attach it."
                )
                continue
            content = _read_text(path)
        except OSError as error:
            raise UsageError(f"Cannot read {truncate(mention)!r}: {error.strerror}.") from error
        notices.append(f"Attached {path.name}: {len(content):,} characters.")
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", content)), default=0))
        attached.append(f"{path.name}:\n{fence}\n{content.rstrip(chr(10))}\n{fence}")
    for notice in notices:
        notify(notice)
    return "\n\n".join([text, *attached])


def mentioned_paths(text: str) -> set[str]:
    """The paths that a text names as `@path`."""
    return {quoted or bare for quoted, bare in _MENTION.findall(text)}


def _find_file(mention: str, is_quoted: bool, is_pasted: bool) -> Path | None:
    """The file that a mention names, or None if it is just a word. Raises UsageError for a path without a file."""
    trimmed = mention.rstrip(".,;:!?)")
    for path in (Path(mention).expanduser(), Path(trimmed).expanduser()):
        if path.is_file():
            return path
    if is_pasted:
        return None
    if trimmed.strip(".") and Path(trimmed).expanduser().is_dir():
        raise UsageError(f"{truncate(trimmed)!r} is a directory.", "Name one of its files.")
    if "/" in mention or is_quoted or _is_file_name(trimmed):
        missing = mention if is_quoted else trimmed
        hint = "" if is_quoted or not _begins_with_a_word(trimmed) else 'Quote a path with spaces: @"my notes.txt"'
        raise UsageError(f"{truncate(missing)!r} does not exist. Nothing was sent.", hint)
    return None


def _begins_with_a_word(path: str) -> bool:
    """Whether there is a file whose path is this one, a space, and more."""
    with contextlib.suppress(OSError, ValueError):
        expanded = Path(path).expanduser()
        return any(found.name.startswith(f"{expanded.name} ") for found in expanded.parent.iterdir())
    return False


def _is_file_name(word: str) -> bool:
    """Whether a word ends like the name of a file: `notes.txt`, but not `example.org`."""
    import mimetypes  # imported lazily: rarely used

    return mimetypes.MimeTypes().guess_type(word)[0] is not None


def _read_text(path: Path) -> str:
    data = read_input(path, MAX_FILE_BYTES)
    try:
        if b"\0" in data or data.startswith(_BINARY_SIGNATURES):
            raise UnicodeDecodeError("utf-8", data, 0, 1, "binary")
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{truncate(str(path))!r} is not a text file.", "Only text can be attached.") from None


class PasteBuffer:
    """Long pastes: shown as `[pasted 48 lines]` in the prompt, sent in full."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.named_files: set[str] = set()
        """The paths that pastes name."""
        self.pasted_texts: set[str] = set()
        """Pasted texts without surrounding white space. They are never commands."""

    def placeholder(self, text: str, rows: int = 24) -> str:
        """What the prompt shows for a paste: the text, or a placeholder if it is long or fills half of the screen."""
        self.named_files |= mentioned_paths(text)
        self.pasted_texts.add(text.strip())
        if len(text) <= LONG_PASTE_CHARS and text.count("\n") < max(4, rows // 2):
            return text
        lines = text.rstrip("\n").count("\n") + 1
        label = f"pasted {lines} lines" if lines > 1 else f"pasted {len(text):,} characters"
        placeholder, number = f"[{label}]", 1
        while self._texts.get(placeholder, text) != text:
            number += 1
            placeholder = f"[{label} #{number}]"
        self._texts[placeholder] = text
        return placeholder

    def expand(self, text: str) -> str:
        """The message with every placeholder replaced by what was pasted."""
        for placeholder, paste in self._texts.items():
            text = text.replace(placeholder, paste)
        return text
