"""The copies of sessions that a synchroniser of files left beside them."""

from __future__ import annotations

import contextlib
import stat

from chatmem.history.names import conflict_copy_of
from chatmem.history.records import Record
from chatmem.stores.codec import decode, decode_all
from chatmem.stores.file.directory import SUFFIX, SessionDirectory
from chatmem.stores.file.posix_io import storage_error


def find_conflict_copies(directory: SessionDirectory) -> dict[str, str]:
    """The copies in a directory, and the session that each is a copy of."""
    if directory.knows_all_files():
        return {}
    try:
        found = [file for file in directory.system.listdir(directory.root) if "conflict" in file.lower()]
    except OSError:
        return {}
    stems = sorted(file.removesuffix(SUFFIX) for file in found if file.endswith(SUFFIX))
    copies = {stem: name for stem in stems if (name := conflict_copy_of(stem)) and directory.path(name).is_file()}
    return {stem: name for stem, name in copies.items() if _is_plain_file(directory, stem)}


def read_conflict_copy(directory: SessionDirectory, copy: str) -> list[Record]:
    """The records of a copy. Raises StorageError."""
    try:
        data = (directory.root / f"{copy}{SUFFIX}").read_bytes()
    except OSError as error:
        raise storage_error(f"Cannot read {copy!r}", error) from error
    *lines, rest = data.split(b"\n")
    return [*decode_all(lines), *([record] if (record := decode(rest)) else [])]


def _is_plain_file(directory: SessionDirectory, stem: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(directory.system.lstat(directory.root / f"{stem}{SUFFIX}").st_mode)
    return False
