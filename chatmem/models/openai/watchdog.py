"""Time limits for a streamed response."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any


class StallWatchdog:
    """Ends a response that sends no text for too long, even if its connection is alive.

    Reads block, and comments in the stream reset the socket's own timeout. So a thread watches the time and shuts the
    socket down. `expired` says whether it did.
    """

    def __init__(self, response: Any, first_token: float, idle: float) -> None:
        self.response, self.limit, self.idle = response, first_token, idle
        self.expired = False
        self._last = time.monotonic()
        self._done = threading.Event()

    def __enter__(self) -> StallWatchdog:
        limits = self.response.request.extensions.get("timeout")
        if isinstance(limits, dict):
            limits["read"] = None  # from here on, this watchdog is the time limit
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *details: object) -> None:
        self._done.set()

    def reset(self) -> None:
        """Text arrived: restart the clock."""
        self._last = time.monotonic()
        self.limit = self.idle

    def _watch(self) -> None:
        while (remaining := self._last + self.limit - time.monotonic()) > 0:
            if self._done.wait(remaining):
                return
        self.expired = True
        stream = self.response.extensions.get("network_stream")
        socket = stream.get_extra_info("socket") if stream else None
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.shutdown(2)
