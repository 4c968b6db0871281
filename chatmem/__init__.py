"""chatmem: a terminal chat whose memory you can see, steer and trust, and the same memory for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatmem.api import ChatSession, Library, Reply
    from chatmem.errors import ChatmemError, Notify
    from chatmem.models.base import StreamChunk

__version__ = "0.1.0"
__all__ = ["ChatSession", "ChatmemError", "Library", "Reply", "StreamChunk", "__version__", "open"]

_MODULES = {
    "ChatSession": "chatmem.api",
    "ChatmemError": "chatmem.errors",
    "Library": "chatmem.api",
    "Reply": "chatmem.api",
    "StreamChunk": "chatmem.models.base",
}


def open(
    *, store: str = "file", user: str | None = None, config: bool = False, notify: Notify | None = None, **settings: Any
) -> Library:
    """The sessions of a user in a store.

    `settings` are those of the config file, such as `model`, `base_url`, `api_key`, `memory` and `system`; a session
    may have its own. The usual environment variables count, `config.toml` only with `config=True`. `notify` is called
    with the text of each notice. Raises UsageError for an unknown or invalid setting.
    """
    from chatmem.api import Library
    from chatmem.errors import ignore_notices

    return Library({"store": store, "user": user, **settings}, config, notify or ignore_notices)


def __getattr__(name: str) -> Any:
    """Import what is used when it is used: importing this package takes a millisecond."""
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
