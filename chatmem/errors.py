"""Errors and notices, and what the user can do about them.

    ChatmemError                   1   a bug in chatmem
    ├── UsageError                 2   a command, setting or name to correct
    ├── ServerError                3   unreachable or failing: try again, or use another server
    │   └── ContextLengthError         the server's context window is smaller than expected
    ├── AuthenticationError        4   no API key, or the key was refused
    ├── RateLimitError             5   rate limit or quota: wait, or pay
    ├── IncompleteReplyError       6   the part that arrived is saved: ask again
    ├── StorageError               7   the disk or the database refused
    │   └── StoreUnavailableError      the database cannot be reached
    ├── SessionLockedError         8   another process is in the middle of a turn
    ├── SessionNotFoundError       9   no session has this name
    └── ContextBudgetError        10   system prompt and question alone exceed the budget

The number is the exit code of the command line. Errors and notices name no command of a front end: they carry an
`Action`, which the prompt, the command line or a service renders in its own words.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

ActionKind = Literal[
    "change_memory",
    "edit_config",
    "list_facts",
    "list_models",
    "list_sessions",
    "list_templates",
    "list_trash",
    "new_session",
    "pin",
    "restore",
    "restore_as",
    "retry",
    "save_elsewhere",
    "set_option",
    "show_context",
    "show_reasoning",
    "start_session",
    "unpin",
    "use_offline_model",
]


class Action(NamedTuple):
    """Something the user can do about an error or a notice.

    `argument` is what the action applies to, such as a turn number, a memory spec or the name of an option.
    """

    kind: ActionKind
    argument: str = ""


class Notice(NamedTuple):
    """One line of information that is not part of an answer."""

    text: str
    action: Action | None = None
    code: str = ""
    """Identifies what a notice of a plan reports, so that it is shown only when that begins or changes."""


class Notify(Protocol):
    """Receives notices, one line each."""

    def __call__(self, text: str, action: Action | None = None) -> None: ...


def ignore_notices(text: str, action: Action | None = None) -> None:
    """A `Notify` that drops everything."""


class ChatmemError(Exception):
    """A failure: one sentence that says what happened, a hint and an action that say what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "", action: Action | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.action = action


class UsageError(ChatmemError):
    """A command, a setting or a name that has to be corrected."""

    exit_code = 2


class ServerError(ChatmemError):
    """The server cannot be reached, or its answer is not a reply."""

    exit_code = 3


class ContextLengthError(ServerError):
    """The server refuses messages that exceed its context window.

    `limit` is the window and `needed` the size of the messages, both in the server's tokens; None if it did not say.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        action: Action | None = None,
        *,
        limit: int | None = None,
        needed: int | None = None,
    ) -> None:
        super().__init__(message, hint, action)
        self.limit, self.needed = limit, needed


class AuthenticationError(ChatmemError):
    """No API key is set, or the server refused it."""

    exit_code = 4


class RateLimitError(ChatmemError):
    """A rate limit or a quota."""

    exit_code = 5


class SpendingLimitError(ChatmemError):
    """The request may exceed the limit of costs per day. Nothing was sent."""

    exit_code = 5


class IncompleteReplyError(ChatmemError):
    """The reply ended before the server said it was complete. The part that arrived is saved."""

    exit_code = 6


class StorageError(ChatmemError):
    """A record could not be made durable."""

    exit_code = 7


class StoreUnavailableError(StorageError):
    """The database cannot be reached. A later attempt may succeed."""


class SessionLockedError(ChatmemError):
    """Another process is in the middle of a turn in this session."""

    exit_code = 8


class SessionNotFoundError(ChatmemError):
    """No session has this name."""

    exit_code = 9


class ContextBudgetError(ChatmemError):
    """The system prompt and the newest question alone exceed the token budget."""

    exit_code = 10


class Terminated(SystemExit):
    """SIGTERM or SIGHUP arrived: save what there is, then exit with 128 + `signal`.

    Not a `ChatmemError`: it passes every `except Exception`, and event loops.
    """

    def __init__(self, signal: int) -> None:
        self.exit_code = 128 + signal
        super().__init__(self.exit_code)
