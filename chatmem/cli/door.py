"""The front door's frame: the options every command has, and the one place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated, Any

import typer

from chatmem.assemble import Assembly
from chatmem.cli.unhurried import UnhurriedCommand
from chatmem.config import Settings, prompt_of
from chatmem.errors import ChatmemError, NoSuchSession, NotSaved, Terminated, WrongUse
from chatmem.memory import table_of
from chatmem.screen.progress import progress
from chatmem.screen.terminal import Terminal
from chatmem.stores import Store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="file, or sqlite:///PATH, redis://…, postgresql://…, mongodb://…",
        show_default=False,
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="NAME",
        help="Whose sessions (users are separated, not authenticated).",
        show_default=False,
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="A [profiles.NAME] of the config.", show_default=False),
]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Exit 8 at once if the session is in use.", show_default=False)
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", show_default=False)]

_COMMON = {
    "store": StoreOption,
    "user": UserOption,
    "profile": ProfileOption,
    "no_wait": NoWaitOption,
    "debug": DebugOption,
}


@dataclass
class Here:
    """What a command has at hand: the common options, the terminal, and the assembly they make."""

    flags: dict[str, Any] = field(default_factory=dict)
    wait: bool = True
    debug: bool = False
    exit_code: int = 0
    """The code to leave with when nothing is raised."""

    @cached_property
    def terminal(self) -> Terminal:
        return Terminal()

    @cached_property
    def assembly(self) -> Assembly:
        return Assembly(self.flags, self.terminal.note, self.wait, partial(progress, self.terminal))

    @property
    def settings(self) -> Settings:
        return self.assembly.config.settings

    def latest(self) -> str:
        """The session used last. Raises NoSuchSession if there is none."""
        outlines = self.assembly.store.outlines()
        if not outlines:
            raise NoSuchSession("There is no session yet.", "Begin one: chatmem chat")
        return outlines[0].name

    @staticmethod
    def taken(store: Store) -> list[str]:
        """The names that are taken, as far as anybody can tell."""
        try:
            return store.names()
        except NotSaved:
            return []

    def with_flags(self, **flags: Any) -> dict[str, Any]:
        """Add a command's own flags; returns those that were given, in the form in which a session stores them."""
        for name, value in flags.items():
            if value == "" and name != "system":
                raise WrongUse(f"--{name} is empty.", "Leave it out, or give it a value.")
        if flags.get("memory"):
            flags["memory"] = table_of(flags["memory"])
        if text := flags.get("system"):
            flags["system"] = prompt_of(text)
        given = {name: value for name, value in flags.items() if value is not None}
        self.flags |= given
        return given


def command(
    app: typer.Typer, name: str | None = None, **how: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register `function(here, …)` as a command that also takes the common options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            common = {key: values.pop(key) for key in _COMMON}
            flags = {key: common[key] for key in ("store", "user", "profile") if common[key] is not None}
            here = Here(flags, wait=not common["no_wait"], debug=common["debug"])
            with answering(here):
                function(here, **values)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        options = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=False if key in ("no_wait", "debug") else None,
            )
            for key, kind in _COMMON.items()
        ]
        parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *options]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, cls=UnhurriedCommand, **how)(run)
        return function

    return register


@contextlib.contextmanager
def answering(here: Here) -> Iterator[None]:
    """The outermost catcher: every failure leaves as one line and an exit code."""
    _catch_signals()
    gc.freeze()
    gc.enable()
    try:
        yield
    except ChatmemError as error:
        if here.debug:
            raise
        here.terminal.error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Terminated as error:
        code = error.exit_code
    except BrokenPipeError:
        _close_output()
        code = 141
    except OSError as error:
        if here.debug:
            raise
        here.terminal.error(
            ChatmemError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        )
        code = 1
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # what nobody below can answer ends here
        if here.debug:
            raise
        here.terminal.error(
            ChatmemError(
                f"chatmem failed: {type(error).__name__}.",
                "Nothing that was saved is lost. --debug shows where; please report it.",
            )
        )
        code = 1
    else:
        code = here.exit_code
    try:
        here.terminal.out.flush()
    except (BrokenPipeError, ValueError):
        _close_output()
        code = code or 141
    except OSError as error:
        here.terminal.error(ChatmemError(f"The answer could not be written: {error.strerror}."))
        _close_output()
        code = code or 1
    if code:
        raise typer.Exit(code)


def _catch_signals() -> None:
    """SIGTERM and SIGHUP raise, so that what arrived is kept; a second one kills."""

    def leave(number: int, frame: object) -> None:
        # A terminal that goes away may hang up twice; who terminates twice means it.
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, leave)


def _close_output() -> None:
    """Nobody reads any more: keep Python from complaining about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
