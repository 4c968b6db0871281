"""The trash of a directory of sessions: files that were moved there, with the time in their names."""

from __future__ import annotations

import contextlib
import datetime
import re
import stat
from pathlib import Path

from chatmem.errors import StorageError
from chatmem.stores.base import DeletedSession
from chatmem.stores.codec import decode_all
from chatmem.stores.file.directory import SUFFIX, SessionDirectory
from chatmem.stores.file.posix_io import timestamp

_TIME = "%Y%m%dT%H%M%SZ"
_FILE = re.compile(r"(?P<name>.+)\.(?P<time>\d{8}T\d{6}Z)-[\d-]+" + re.escape(SUFFIX), re.DOTALL)


class Trash:
    """Deleted sessions, one file each: `NAME.TIME-PROCESS.jsonl`, and their torn tails. Other files are not ours."""

    def __init__(self, directory: SessionDirectory) -> None:
        self.directory = directory
        self.root = directory.root.parent / "trash"

    def add(self, path: Path, name: str) -> None:
        """Move a file there. Raises StorageError."""
        self.directory.make_dir(self.root)
        stem, number = f"{name}.{timestamp()}", 1
        while (target := self.root / f"{stem}{f'-{number}' * (number > 1)}{SUFFIX}").exists():
            number += 1  # this process deleted another session with this name in the same second
        self.directory.move(path, target)
        with contextlib.suppress(OSError, StorageError):
            for torn in self.directory.torn_files().get(name, ()):
                self.directory.system.rename(torn, self.root / f"{target.stem}{torn.name[len(name) :]}")

    def restore(self, deleted: DeletedSession, name: str) -> None:
        """Move a file back, with its torn tails. Raises StorageError."""
        self.directory.move(self.root / deleted.key, self.directory.path(name))
        stem = deleted.key.removesuffix(SUFFIX)
        with contextlib.suppress(OSError):
            for file in self.directory.system.listdir(self.root):
                if file.startswith(f"{stem}.torn-"):
                    self.directory.system.rename(self.root / file, self.directory.root / f"{name}{file[len(stem) :]}")

    def entries(self) -> list[DeletedSession]:
        """The deleted sessions, the last deleted one first."""
        found, files = [], []
        with contextlib.suppress(OSError):
            files = self.directory.system.listdir(self.root)
        for file in files:
            if match := _FILE.fullmatch(file):
                with contextlib.suppress(OSError, ValueError):
                    time = datetime.datetime.strptime(match["time"], _TIME).isoformat() + "Z"
                    status = (self.root / file).lstat()
                    if stat.S_ISREG(status.st_mode):  # in one second, several may be deleted
                        found.append((time, status.st_ctime_ns, DeletedSession(match["name"], time, file)))
        return [self._with_content(entry) for _, _, entry in sorted(found, reverse=True)]

    def _with_content(self, entry: DeletedSession) -> DeletedSession:
        try:
            lines = (self.root / entry.key).read_bytes().split(b"\n")
        except OSError:
            return entry
        return entry.with_content(decode_all(lines))
