"""tiktoken's encoding files: which one a model uses, where copies may lie on this machine, how they are loaded.

Nothing here downloads. tiktoken is imported by `load_encoding` only: the import is slow.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from chatmem.process import environment


class EncodingFile(NamedTuple):
    """A token table of tiktoken: its file name in tiktoken's cache, its SHA-256, and where it can be downloaded."""

    file_name: str
    sha256: str
    url: str


_SOURCE = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
ENCODINGS = {
    "o200k_base": EncodingFile(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _SOURCE.format("o200k_base"),
    ),
    "cl100k_base": EncodingFile(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _SOURCE.format("cl100k_base"),
    ),
}

_loading = threading.Lock()


def encoding_for_model(model: str) -> str | None:
    """The name of the encoding that a model uses. None for models that are not OpenAI's."""
    name = model.lower().removeprefix("ft:").rpartition("/")[2].partition(":")[0]
    if re.match(r"gpt-(4(?![.o\d])|3\.?5)", name):
        return "cl100k_base"
    return "o200k_base" if re.match(r"(gpt-|o\d|chatgpt-|codex)", name) else None


def find_encoding_file(encoding: str, directories: tuple[Path, ...] = ()) -> Path | None:
    """A copy of the encoding's file on this machine with the right hash, or None."""
    file = ENCODINGS[encoding]
    candidates = (directory / file.file_name for directory in (*directories, *_known_directories()))
    return next((path for path in candidates if _has_hash(path, file.sha256)), None)


class TiktokenCounter:
    """Counts the tokens of a text with one encoding. Loads it on first use, which takes up to half a second."""

    def __init__(self, encoding: str, path: Path) -> None:
        self.encoding, self.path = encoding, path

    def __call__(self, text: str) -> int:
        with _loading:
            encode = load_encoding(self.encoding, self.path)
        return len(encode(text))


@cache
def load_encoding(encoding: str, path: Path) -> Callable[[str], list[int]]:
    """The function that encodes a text, from a file whose hash was checked."""
    import tiktoken

    # tiktoken offers no way to load a file other than through its cache directory.
    with environment("TIKTOKEN_CACHE_DIR", str(path.parent)):
        return tiktoken.get_encoding(encoding).encode_ordinary


def _known_directories() -> Iterable[Path]:
    """Where tiktoken caches its files, and where installed packages carry copies of them."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if directory := os.environ.get(variable):
            yield Path(directory)
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
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(location, inside)


def _has_hash(path: Path, sha256: str) -> bool:
    import hashlib  # imported lazily: slow

    try:
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
