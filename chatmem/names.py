"""What a session may be called: one rule for every store, and the nearest good name for anything else.

1 to 64 characters after NFC: letters, marks and digits of any script, `. _ -` and inner spaces; not
starting with `.` or `-`, not ending with `.`, at most 200 bytes of UTF-8 (a file name has 255, and the
files beside a session need endings), no reserved Windows name, unique ignoring case.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable

from chatmem.errors import WrongUse

LONGEST = 64
LONGEST_BYTES = 200

_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_RESERVED |= {f"{port}{n}" for port in ("com", "lpt") for n in (*range(10), "¹", "²", "³")}

_PLAIN = re.compile(r"[a-z0-9]{5,64}|[a-z0-9]{2,20}-[a-z0-9]{3,20}")
"""What most names look like, and no reserved one does."""

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


def checked(name: str, what: str = "session") -> str:
    """The name in the form it is kept in (NFC), or WrongUse with the nearest good name."""
    if _PLAIN.fullmatch(name):
        return name
    nfc = unicodedata.normalize("NFC", name)
    if problem := _problem(nfc):
        raise WrongUse(f"A {what} cannot be called {shortened(nfc)!r}: {problem}.", f"Try {nearest(name)!r}.")
    return nfc


def valid(name: str) -> bool:
    """Whether a name is good as it stands."""
    return bool(_PLAIN.fullmatch(name)) or (unicodedata.is_normalized("NFC", name) and not _problem(name))


def key(name: str) -> str:
    """What two spellings of one name have in common: names are unique ignoring case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def nearest(text: str) -> str:
    """The nearest good name for any text: a title, a path, a name with a slash in it."""
    nfc = unicodedata.normalize("NFC", text)
    kept = "".join(c if _allowed(c) else " " if c.isspace() else "-" for c in nfc)
    kept = unicodedata.normalize("NFC", " ".join(kept.split()))
    kept = kept.strip(" .-")[:LONGEST]
    while len(kept.encode()) > LONGEST_BYTES:
        kept = kept[:-1]
    kept = kept.strip(" .-")
    while "--" in kept or "- -" in kept:
        kept = kept.replace("--", "-").replace("- -", "-")
    if not kept:
        return "session"
    return f"{kept[: LONGEST - 2]}_1" if _problem(kept) else kept


def fresh(taken: Iterable[str], like: str = "") -> str:
    """A readable name that is not in `taken`: two words, or `like` and a number."""
    keys = {key(name) for name in taken}
    if like:
        base = nearest(like)
        candidates = (base if n == 1 else f"{nearest(base[: LONGEST - 8])}-{n}" for n in range(1, len(keys) + 3))
        return next(name for name in candidates if key(name) not in keys)
    for _ in range(100):
        name = f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}"
        if key(name) not in keys:
            return name
    return fresh(keys, f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}")


def shortened(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _allowed(char: str) -> bool:
    return char in "._- " or (unicodedata.category(char)[0] in "LMN" and not _INVISIBLE.match(char))


def _problem(name: str) -> str | None:
    if not name:
        return "it needs at least one character"
    if len(name) > LONGEST:
        return f"it has {len(name)} characters, {LONGEST} are the most"
    if len(name.encode("utf-8", "replace")) > LONGEST_BYTES:
        return f"it is over {LONGEST_BYTES} bytes long"
    if bad := next((c for c in name if not _allowed(c)), None):
        shown = f"{bad!r}" if bad.isprintable() else f"U+{ord(bad):04X}"
        return f"only letters, digits, spaces and . _ - may stand in a name, not {shown}"
    if name != " ".join(name.split(" ")).strip() or "  " in name:
        return "it begins or ends with a space, or has two in a row"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if name[-1] == ".":
        return "it ends with a full stop"
    if name.partition(".")[0].rstrip().casefold() in _RESERVED:
        return "Windows keeps that name for itself"
    return None


def counted(count: int, what: str) -> str:
    """A number of things, in words: `1 turn`, `1,200 turns`."""
    return f"{count:,} {what}{'s' * (count != 1)}"
