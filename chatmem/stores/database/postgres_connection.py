"""psycopg connections that do not wait forever, and whether one was cut.

psycopg has no time limit for an answer, so `Connection.wait`, which drives every request, is overridden. It is not a
documented extension point; tried with psycopg 3.2 and 3.3. If its signature changes, the connection works without the
limit, and `tests/test_private_parts.py` fails.
"""

from __future__ import annotations

import inspect
import select
import time
from functools import cache
from typing import Any

from chatmem.stores.database.base import TIMEOUT


@cache
def connection_class() -> Any:
    """A connection class whose requests fail after `TIMEOUT` seconds without an answer."""
    import psycopg

    if list(inspect.signature(psycopg.Connection.wait).parameters)[:4] != ["self", "gen", "interval", "timeout"]:
        return psycopg.Connection

    class TimeLimitedConnection(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            started = time.monotonic()
            try:
                return super().wait(gen, interval, timeout or TIMEOUT + 1)
            except psycopg.Error:
                if time.monotonic() - started > TIMEOUT:
                    self.pgconn.finish()  # connection state unknown: close it
                raise

    return TimeLimitedConnection


def is_broken(connection: Any) -> bool:
    """Whether the server has closed this connection."""
    import psycopg

    try:
        if not connection.closed and _has_input(connection.fileno()):
            connection.pgconn.consume_input()  # nothing was requested: it is the end, or a notice of it
        return bool(connection.closed or connection.pgconn.status != 0)
    except (psycopg.Error, OSError, ValueError):
        return True


def _has_input(descriptor: int) -> bool:
    """Whether something can be read. `select` fails for descriptors from 1024 on, so it is used on Windows only."""
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
