"""How long a text is for a model: exact, calibrated or estimated, and which.

Messages cost what OpenAI's rule says ("How to count tokens with tiktoken", OpenAI cookbook): 3 tokens a
message and its role, 1 a name, and once 3 for the start of the reply. Texts are counted with tiktoken's
table where a copy lies on this machine, else estimated by script and kind of text. Nothing here downloads.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from chatmem.records import Message

PRIMER = 3
"""Tokens that start the reply, counted once per request."""
PER_MESSAGE = 3 + 1
"""Tokens around one message: 3, and 1 for its role."""


class Table(NamedTuple):
    """A token table of tiktoken: the name of the file in its caches, and what it must hash to (SHA-256)."""

    file: str
    sha256: str
    url: str


_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
TABLES = {
    "o200k_base": Table(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _SOURCE.format("o200k_base"),
    ),
    "cl100k_base": Table(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _SOURCE.format("cl100k_base"),
    ),
}


@dataclass(frozen=True)
class Counter:
    """Counts texts and messages for one model; counts are kept, so each text is counted once.

    `ratio` scales every message, and `extra` tokens come once per request: as servers reported for the last prompts.
    """

    encoding: str | None
    count: Callable[[str], int]
    ratio: float = 1.0
    extra: int = 0
    turns: dict[str, int] = field(default_factory=dict, repr=False, compare=False, init=False)
    """What whole turns cost at this calibration, by the id of their last message."""
    _known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def how(self) -> str:
        """`exact`, `calibrated` (scaled by what servers reported) or `estimated`."""
        if self.ratio != 1.0 or self.extra:
            return "calibrated"
        return "exact" if self.encoding else "estimated"

    @property
    def primer(self) -> int:
        """The tokens that every request costs once."""
        return PRIMER + self.extra

    def text(self, text: str) -> int:
        return math.ceil(self.count(text) * self.ratio)

    def message(self, content: str, key: str = "") -> int:
        """What a message of this content costs. `key` names content that never changes, such as a stored id."""
        raw = self._known.get(key or content)
        if raw is None:
            raw = self._known[key or content] = PER_MESSAGE + self.count(content)
        return math.ceil(raw * self.ratio)

    def scaled(self, ratio: float, extra: int = 0) -> Counter:
        """The same counts, with another calibration."""
        return replace(self, ratio=ratio, extra=extra)


def counter(model: str, folders: Iterable[Path] = ()) -> Counter:
    """The counter for a model: exact if its table lies in `folders` or a usual place, else an estimate."""
    encoding = encoding_of(model)
    path = find_table(encoding, tuple(folders)) if encoding else None
    if encoding and path:
        return Counter(encoding, _Exact(encoding, path))
    return Counter(None, estimate)


def encoding_of(model: str) -> str | None:
    """The tiktoken encoding of a model's name, None for a model that is not like OpenAI's."""
    name = model.lower().removeprefix("ft:").rpartition("/")[2].partition(":")[0]
    if re.match(r"gpt-(4(?![.o\d])|3\.?5)", name):
        return "cl100k_base"
    return "o200k_base" if re.match(r"(gpt-|o\d|chatgpt-|codex)", name) else None


def find_table(encoding: str, folders: tuple[Path, ...] = ()) -> Path | None:
    """A copy of an encoding's table on this machine whose hash is right, or None."""
    table = TABLES[encoding]
    candidates = (folder / table.file for folder in (*folders, *_usual_places()))
    return next((path for path in candidates if _is(path, table.sha256)), None)


class Calibration(NamedTuple):
    """What servers' reports say of our counts: `ratio` scales every message, `extra` tokens come once per request."""

    ratio: float
    extra: int = 0

    @classmethod
    def checked(cls, ratio: object, extra: object) -> Calibration | None:
        """Kept within reason, whatever a server claimed or a file says."""
        if not isinstance(ratio, int | float) or not isinstance(extra, int) or not 0.4 <= ratio <= 2.5:
            return None
        return cls(round(float(ratio), 2), max(0, min(extra, 4000)))


def calibration(path: Iterable[Message], model: str) -> Calibration | None:
    """How the prompts that servers reported for the last replies of `model` compare with what we had counted.

    `path` is walked from its end; None without a report. Two prompts of different length tell the ratio from what a
    server adds to each request; the newest one sets the level, since the next prompt shares most with it.
    """
    reports: list[tuple[int, int]] = []
    for message in path:
        if message.role != "assistant" or message.model != model or not message.sent or not message.usage:
            continue
        counted, prompt = message.sent.get("counted"), message.usage.prompt
        if type(counted) is int and counted > 0 and prompt:
            reports.append((counted, prompt))
            if len(reports) == 6:
                break
    reports = [(counted, prompt) for counted, prompt in reports if not cut_off(counted, prompt)]
    while len(reports) > 1 and same_though_longer(reports[0], reports[1]):
        reports.pop(0)
    if not reports:
        return None
    counted, prompt = reports[0]
    plain = Calibration(min(2.5, max(0.4, round(prompt / counted, 2))))
    for other, other_prompt in reversed(reports[1:]):
        if abs(counted - other) * 4 >= counted:
            slope = (prompt - other_prompt) / (counted - other)
            extra = prompt - slope * counted
            if 0.4 <= slope <= 2.5 and 0 < extra < min(4000, prompt / 2):
                return Calibration(round(slope, 2), round(prompt - round(slope, 2) * counted))
            break
    return plain


def cut_off(counted: int, reported: int) -> bool:
    """Whether a server reports so few tokens that it must have cut the prompt, and said nothing."""
    return reported * 5 < counted * 2


def same_though_longer(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Whether a longer prompt is reported to be just as long as the one before: cut to the server's window."""
    return now[1] == before[1] and now[0] > before[0] * 1.05


class _Exact:
    """tiktoken's counter for one table, loaded when it is first asked."""

    def __init__(self, encoding: str, path: Path) -> None:
        self.encoding, self.path = encoding, path

    def __call__(self, text: str) -> int:
        return len(_load(self.encoding, self.path).encode_ordinary(text))


def warm(counter: Counter) -> None:
    """Load what the counter needs; takes up to half a second the first time. For a background thread."""
    counter.count("")


_loading = threading.Lock()


def _load(encoding: str, path: Path):  # type: ignore[no-untyped-def]  # tiktoken enters here alone
    with _loading:
        return _loaded(encoding, path)


@cache
def _loaded(encoding: str, path: Path):  # type: ignore[no-untyped-def]
    import tiktoken

    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(path.parent)  # its hash was checked: nothing is fetched
    try:
        return tiktoken.get_encoding(encoding)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def _usual_places() -> Iterable[Path]:
    """Where tiktoken keeps its tables, and where installed packages carry copies of them."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if folder := os.environ.get(variable):
            yield Path(folder)
    import tempfile

    yield Path(tempfile.gettempdir(), "data-gym-cache")
    for package, inside in (
        ("litellm", "litellm_core_utils/tokenizers"),
        ("llama_index", "core/_static/tiktoken_cache"),
    ):
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(place, inside)


def _is(path: Path, sha256: str) -> bool:
    import hashlib  # only who counts exactly pays for it

    try:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


# An estimate by script and kind of text: each run costs what such runs cost on average in o200k_base.


@cache
def _runs() -> re.Pattern[str]:
    """Runs of one kind of text. Compiled on first use: two milliseconds that the prompt need not wait for."""
    return re.compile(
        r"(?P<word>[A-Za-z]+)|(?P<digits>[0-9]+)|(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)"
        r"|(?P<kana>[\u3040-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)|(?P<blank>[ \t]+)|(?P<line>\s*\n\s*)"
        r"|(?P<mark>[!-/:-@\[-`{-~]+)|(?P<letters>[^\W\d_]+)|(?P<other>.)",
        re.DOTALL,
    )


def estimate(text: str) -> int:
    """About how many tokens a text has, with no table at all."""
    total = 0.0
    for run in _runs().finditer(text):
        total += _COST[run.lastgroup or "other"](run.end() - run.start())
    return math.ceil(total)


_COST: dict[str, Callable[[int], float]] = {
    "word": lambda n: 1.0 if n <= 7 else 1.0 + 0.33 * (n - 7),
    "digits": lambda n: 1.27 * math.ceil(n / 3),
    "han": lambda n: 0.68 * n,
    "kana": lambda n: 0.66 * n,
    "hangul": lambda n: 0.77 * n,
    "blank": lambda n: 0.0,
    "line": lambda n: 0.6,
    "mark": lambda n: 0.88 if n == 1 else 0.42 + 0.375 * n,
    "letters": lambda n: 0.28 * n,
    "other": lambda n: 1.45,
}
"""What a run of n characters costs: least squares of the relative error against o200k_base, over prose in seven
languages, Python, JavaScript, Markdown and JSON in pieces of 1,500 characters (5 % to 95 %: 0.87 to 1.11)."""
