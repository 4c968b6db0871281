"""Patience with a response, and its end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any


class Watch:
    """Ends a response that has been without text for too long, although its connection may be alive.

    Reads block, and comments reset a socket's own time limit; so a thread looks on, and shuts the socket down.
    """

    def __init__(self, response: Any, first: float, silence: float) -> None:
        self.response, self.limit, self.silence = response, first, silence
        self.barked = False
        self._last = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        limits = self.response.request.extensions.get("timeout")
        if isinstance(limits, dict):
            limits["read"] = None  # from here on, this watch is the time limit
        threading.Thread(target=self._look, daemon=True, name="silence").start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()

    def heard(self) -> None:
        """There was text: the clock starts again."""
        self._last = time.monotonic()
        self.limit = self.silence

    def _look(self) -> None:
        while (left := self._last + self.limit - time.monotonic()) > 0:
            if self._over.wait(left):
                return
        self.barked = True
        stream = self.response.extensions.get("network_stream")
        socket = stream.get_extra_info("socket") if stream else None
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.shutdown(2)
