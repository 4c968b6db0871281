"""Editing a text in the user's editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from chatmem.errors import UsageError
from chatmem.terminal import keyboard
from chatmem.terminal.programs import wait_for_program


def edit_text(text: str) -> str:
    """The text after the user edited it in $VISUAL or $EDITOR. Raises UsageError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    descriptor, name = tempfile.mkstemp(suffix=".md")
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with keyboard.released():
            code = wait_for_program(subprocess.Popen([*shlex.split(editor), name]))
        if code:
            raise UsageError(f"The editor {editor!r} exited with code {code}.", "Nothing was changed.")
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot run the editor {editor!r}.", "Set EDITOR to one that is installed.") from error
    finally:
        path.unlink(missing_ok=True)
