"""What can go wrong, grouped by what a person can do about it.

    ChatmemError           1   ours to mend
    ├── WrongUse           2   a command, a setting or a name to correct
    ├── ServerFailed       3   unreachable or failing: try again, or another server
    │   └── ContextExceeded    the server's own window is smaller than we thought
    ├── KeyRefused         4   no key, or a refused one
    ├── LimitReached       5   a rate limit or a quota: wait, or pay
    ├── ReplyIncomplete    6   what arrived is kept: ask again
    ├── NotSaved           7   the disk or the database said no
    │   └── StoreAway          the database cannot be reached just now
    ├── Busy               8   another process is in the middle of a turn
    ├── NoSuchSession      9   a name to look up
    └── DoesNotFit        10   system prompt and question alone exceed the budget

The number is the exit code of the command line. Two more exceptions are signals, not failures: they
pass every `except Exception` and leave with the number a shell expects.
"""

from __future__ import annotations


class ChatmemError(Exception):
    """A failure that is one sentence, and a way out of it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUse(ChatmemError):
    """A command, a setting or a name that has to be corrected."""

    exit_code = 2


class ServerFailed(ChatmemError):
    """The server cannot be reached, or answers with something that is no reply."""

    exit_code = 3


class ContextExceeded(ServerFailed):
    """The server says that the messages, `needed` tokens, exceed its window of `limit` (None: it did not say)."""

    def __init__(self, message: str, hint: str = "", limit: int | None = None, needed: int | None = None) -> None:
        super().__init__(message, hint)
        self.limit, self.needed = limit, needed


class KeyRefused(ChatmemError):
    """No API key is set, or the server refused the one it got."""

    exit_code = 4


class LimitReached(ChatmemError):
    """A rate limit or a quota."""

    exit_code = 5


class ReplyIncomplete(ChatmemError):
    """The reply ended before the server said that it was complete; what arrived is kept."""

    exit_code = 6


class NotSaved(ChatmemError):
    """A record could not be made durable; its text is still in memory."""

    exit_code = 7


class StoreAway(NotSaved):
    """The database cannot be reached just now; trying again later may help."""


class Busy(ChatmemError):
    """Another process is in the middle of a turn on this session."""

    exit_code = 8


class NoSuchSession(ChatmemError):
    """There is no session of that name."""

    exit_code = 9


class DoesNotFit(ChatmemError):
    """The system prompt and the newest question alone exceed the budget."""

    exit_code = 10


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: keep what there is, then leave with 128 + `signal`."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.exit_code = 128 + signal
