"""Time limits for a request and its streamed response."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any


class StallWatchdog:
    """Ends a request whose response sends no text for too long, even if its connection is alive.

    Reads block, and headers and comments in the stream reset the socket's own timeout. So a thread watches the time
    from the request on, and shuts the socket down. `expired` says whether it did.
    """

    def __init__(self, first_token: float, idle: float, network_stream: Any = None) -> None:
        self.limit, self.idle = first_token, idle
        self.network_stream = network_stream
        """The connection: of an earlier request, which may be used again, until there is a new one."""
        self.expired = False
        self._last = time.monotonic()
        self._done = threading.Event()

    def __enter__(self) -> StallWatchdog:
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *details: object) -> None:
        self._done.set()

    def attach(self, response: Any) -> None:
        """The headers arrived: from here on, this watchdog is the only time limit."""
        self.network_stream = response.extensions.get("network_stream") or self.network_stream
        limits = response.request.extensions.get("timeout")
        if isinstance(limits, dict):
            limits["read"] = None

    def reset(self) -> None:
        """Text arrived: restart the clock."""
        self._last = time.monotonic()
        self.limit = self.idle

    def _watch(self) -> None:
        while (remaining := self._last + self.limit - time.monotonic()) > 0:
            if self._done.wait(remaining):
                return
        self.expire()

    def expire(self) -> None:
        """End the request now."""
        self.expired = True
        socket = self.network_stream.get_extra_info("socket") if self.network_stream else None
        if socket is not None:
            with contextlib.suppress(OSError):
                socket.shutdown(2)
