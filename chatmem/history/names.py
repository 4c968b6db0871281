"""Session names: which are valid, and the nearest valid name for any text.

A name has 1 to 64 characters after NFC: letters, marks and digits of any script, `. _ -` and inner spaces. It does not
start with `.` or `-`, does not end with `.`, has at most 200 bytes of UTF-8 (file names have 255, and files beside a
session need suffixes), and is not a reserved Windows name. Names are unique ignoring case.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Iterable

from chatmem.errors import UsageError
from chatmem.text import truncate

MAX_CHARS = 64
MAX_BYTES = 200
MAX_ID_CHARS = 512
"""The most characters of the id that a program gives a session or a user."""
MAX_SLUG_CHARS = 40
ID_DIGEST_CHARS = 12

_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_RESERVED |= {f"{port}{n}" for port in ("com", "lpt") for n in (*range(10), "¹", "²", "³")}

_PLAIN = re.compile(r"[a-z0-9]{5,64}|[a-z0-9]{2,20}-[a-z0-9]{3,20}")
"""Matches most names and no reserved one, so that the slow checks are skipped."""

_CONFLICT = re.compile(
    r"(?P<name>.{1,64}?)(\.sync-conflict-\d{8}-\d{6}(-\w{1,16})?| \([^()]{0,64}\bconflicted copy\b[^()]{0,64}\))",
    re.IGNORECASE,
)

_ADJECTIVES = (
    "amber bold brave bright brisk calm clear clever cosy daring eager early fair fond free gentle glad golden "
    "happy honest humble jolly keen kind light lively lucky mellow merry mild neat nimble noble patient plain "
    "polite proud quick quiet rapid ready rosy silent silver simple smart snug steady still sunny swift tender "
    "tidy true warm wise witty young"
).split()
_NOUNS = (
    "acorn badger beach birch bison brook canyon cedar cliff cloud comet coral crane creek dune eagle ember "
    "falcon fern field finch fjord forest fox garden glade harbor hare hazel heron hill island ivy lake lark "
    "lotus maple meadow moon moss oak orchid otter owl pebble pine plover pond prairie raven reef river robin "
    "sparrow spruce stone swan thistle tiger tulip valley willow wren"
).split()


def validate(name: str, what: str = "session") -> str:
    """The name in its stored form (NFC). Raises UsageError with the nearest valid name."""
    if _PLAIN.fullmatch(name):
        return name
    nfc = unicodedata.normalize("NFC", name)
    if problem := _problem(nfc):
        raise UsageError(f"Invalid {what} name {truncate(nfc)!r}: {problem}.", f"Try {slugify(name)!r}.")
    return nfc


def is_valid(name: str) -> bool:
    """Whether a name is valid and in its stored form."""
    return bool(_PLAIN.fullmatch(name)) or (unicodedata.is_normalized("NFC", name) and not _problem(name))


def name_for_id(ident: str, what: str = "session") -> str:
    """The name of the session, or user, that a program calls `ident`: any text of up to 512 characters.

    Different ids, also those that differ in case only, have different names. An id that is a valid name in lower case
    is its own name. Any other name ends with the beginning of the id's SHA-256. Raises UsageError.
    """
    if not isinstance(ident, str) or not 0 < len(ident) <= MAX_ID_CHARS:
        raise UsageError(f"The id of a {what} is a text of 1 to {MAX_ID_CHARS} characters.")
    if is_valid(ident) and canonical_key(ident) == ident:
        return ident
    digest = hashlib.sha256(ident.encode("utf-8", "surrogatepass")).hexdigest()[:ID_DIGEST_CHARS]
    return slugify(f"{slugify(canonical_key(ident))[:MAX_SLUG_CHARS]}-{digest}")


def canonical_key(name: str) -> str:
    """The key that all spellings of a name share; names are unique ignoring case."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def slugify(text: str) -> str:
    """The nearest valid name for any text, such as a title or a path."""
    nfc = unicodedata.normalize("NFC", text)
    kept = "".join(c if _allowed(c) else " " if c.isspace() else "-" for c in nfc)
    kept = unicodedata.normalize("NFC", " ".join(kept.split()))
    kept = kept.strip(" .-")[:MAX_CHARS]
    while len(kept.encode()) > MAX_BYTES:
        kept = kept[:-1]
    kept = kept.strip(" .-")
    while "--" in kept or "- -" in kept:
        kept = kept.replace("--", "-").replace("- -", "-")
    if not kept:
        return "session"
    return f"{kept[: MAX_CHARS - 2]}_1" if _problem(kept) else kept


def unique_name(taken: Iterable[str], like: str = "") -> str:
    """A name that is not in `taken`: `like`, with a number if needed, or two random words."""
    keys = {canonical_key(name) for name in taken}
    if like:
        base = slugify(like)
        candidates = (base if n == 1 else f"{slugify(base[: MAX_CHARS - 8])}-{n}" for n in range(1, len(keys) + 3))
        return next(name for name in candidates if canonical_key(name) not in keys)
    for _ in range(100):
        name = f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}"
        if canonical_key(name) not in keys:
            return name
    return unique_name(keys, f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}")


def conflict_copy_of(stem: str) -> str | None:
    """The name of the session that a synchroniser left a copy of under this file name. None for other file names.

    Syncthing: `work.sync-conflict-20261121-093000-ABCDEFG`. Dropbox: `work (Ann's conflicted copy 2026-11-21)`.
    Nextcloud: `work (conflicted copy 2026-11-21 093000)`.
    """
    found = _CONFLICT.fullmatch(unicodedata.normalize("NFC", stem))
    return found["name"] if found and is_valid(found["name"]) else None


def _allowed(char: str) -> bool:
    return char in "._- " or (unicodedata.category(char)[0] in "LMN" and not _INVISIBLE.match(char))


def _problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    if len(name) > MAX_CHARS:
        return f"it has {len(name)} characters, the limit is {MAX_CHARS}"
    if len(name.encode("utf-8", "replace")) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    if bad := next((c for c in name if not _allowed(c)), None):
        shown = f"{bad!r}" if bad.isprintable() else f"U+{ord(bad):04X}"
        return f"only letters, digits, spaces and . _ - are allowed, not {shown}"
    if name != " ".join(name.split(" ")).strip() or "  " in name:
        return "it starts or ends with a space, or has two spaces in a row"
    if name[0] in ".-":
        return f"it starts with {name[0]!r}"
    if name[-1] == ".":
        return "it ends with a period"
    if name.partition(".")[0].rstrip().casefold() in _RESERVED:
        return "Windows reserves this name"
    return None
