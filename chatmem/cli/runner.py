"""Running a command: what it works with, and the place where errors become exit codes. Without Typer."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from chatmem.app import App
from chatmem.cli.actions import describe_action
from chatmem.config.loading import read_system_prompt
from chatmem.config.settings import Settings
from chatmem.errors import Action, ChatmemError, SessionNotFoundError, StorageError, Terminated, UsageError
from chatmem.history.names import unique_name
from chatmem.memory.strategies import parse_spec
from chatmem.process import freeze_gc
from chatmem.stores import SessionStore
from chatmem.terminal.progress import progress
from chatmem.terminal.sanitize import sanitize
from chatmem.terminal.terminal import Terminal
from chatmem.text import redact

if TYPE_CHECKING:
    from chatmem.templates import Ask, Filled


@dataclass
class CommandContext:
    """What a command works with: the common options, the terminal, and the app they lead to."""

    flags: dict[str, Any] = field(default_factory=dict)
    wait: bool = True
    debug: bool = False
    exit_code: int = 0
    """The exit code if nothing is raised."""
    errors_as_json: bool = False
    """Whether an error is also printed on stdout, as a JSON object."""

    @cached_property
    def terminal(self) -> Terminal:
        return Terminal(describe_action=describe_action)

    @cached_property
    def app(self) -> App:
        app = App(self.flags, self.terminal.notify, self.wait, partial(progress, self.terminal))
        with contextlib.suppress(ChatmemError):  # who needs the settings reports it
            self.terminal.theme = app.config.settings.screen.theme
        return app

    @property
    def settings(self) -> Settings:
        return self.app.config.settings

    def print_error(self, error: ChatmemError) -> None:
        """Print a failure on stderr, and if that was asked for, as JSON on stdout."""
        self.terminal.error(error)
        if self.errors_as_json:
            body = {"message": redact(error.message), "hint": redact(error.hint), "exit_code": error.exit_code}
            with contextlib.suppress(OSError, ValueError):  # stdout is closed
                self.terminal.json({"error": body}, indent=None)

    def print_traceback(self) -> None:
        """With --debug, print where the current exception was raised, without secrets."""
        if self.debug:
            import traceback  # imported lazily: rarely used

            print(sanitize(redact(traceback.format_exc())), file=sys.stderr, end="")

    def latest(self) -> str:
        """The name of the most recent session. Raises SessionNotFoundError if there is none."""
        sessions = self.app.store.recent_sessions(1)
        if not sessions:
            raise SessionNotFoundError("No sessions found.", action=Action("start_session"))
        return sessions[0].name

    @staticmethod
    def exists(store: SessionStore, name: str) -> bool:
        """Whether a session exists. False if the store cannot be read."""
        try:
            return store.lookup(name) is not None
        except StorageError:
            return False

    @staticmethod
    def unused_name(store: SessionStore) -> str:
        """A name for a new session, also if the store cannot be read."""
        try:
            return store.unused_name()
        except StorageError:
            return unique_name(())

    def fill_template(
        self, name: str | None, params: list[str] | None, text: str, ask: Ask | None = None
    ) -> Filled | None:
        """The template with that name, filled in. None without a name."""
        if name is None:
            if params:
                raise UsageError("-p gives a template its values.", "Name the template with -t.")
            return None
        from chatmem.templates import Templates, parse_values  # imported lazily: rarely used

        return Templates(self.app.paths.config).load(name).fill(parse_values(params or []), text, ask)

    def apply_flags(self, no_facts: bool = False, template: Filled | None = None, **flags: Any) -> dict[str, Any]:
        """Add a command's own flags, and the settings of a template that they do not override.

        Returns what was given, in the form in which a session stores it.
        """
        flags["facts"] = "off" if no_facts else None
        for name, value in flags.items():
            if value == "" and name != "system":
                raise UsageError(f"--{name} is empty.", "Omit it, or give it a value.")
        if flags.get("memory"):
            flags["memory"] = parse_spec(flags["memory"])
        if text := flags.get("system"):
            flags["system"] = read_system_prompt(text)
        given = {name: value for name, value in flags.items() if value is not None}
        from_template = dict(template.settings) if template else {}
        used = {"template": from_template.pop("template")} if from_template else {}
        given = from_template | given
        self.flags |= given
        return given | used


def run_command(function: Callable[..., None], values: Mapping[str, Any], **common: Any) -> None:
    """Run `function(context, **values)` with the common options. Exits with a code other than 0 if it fails."""
    flags = {key: common[key] for key in ("store", "user", "profile") if common.get(key) is not None}
    context = CommandContext(flags, wait=not common.get("no_wait"), debug=bool(common.get("debug")))
    with handle_errors(context):
        function(context, **values)


@contextlib.contextmanager
def handle_errors(context: CommandContext) -> Iterator[None]:
    """Top-level error handler: every failure becomes one line and an exit code."""
    freeze_gc()
    try:
        yield
    except ChatmemError as error:
        context.print_traceback()
        context.print_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Terminated as error:
        code = error.exit_code
    except BrokenPipeError:
        _discard_output()
        code = 141
    except OSError as error:
        context.print_traceback()
        path = f": {error.filename}" if error.filename else ""
        context.terminal.error(ChatmemError(f"{error.strerror or error}{path}."))
        code = 1
    except Exception as error:  # noqa: BLE001  # a bug is one line and an exit code as well
        context.print_traceback()
        context.print_error(
            ChatmemError(
                f"chatmem failed: {type(error).__name__}.",
                "Everything that was saved is safe. --debug shows where it failed; please report it.",
            )
        )
        code = 1
    else:
        code = context.exit_code
    try:
        context.terminal.out.flush()
    except (BrokenPipeError, ValueError):
        _discard_output()
        code = code or 141
    except OSError as error:
        context.terminal.error(ChatmemError(f"Cannot write the output: {error.strerror}."))
        _discard_output()
        code = code or 1
    if code:
        sys.exit(code)


def _discard_output() -> None:
    """stdout is closed: keep Python from reporting that at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
