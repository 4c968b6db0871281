"""chatmem sessions: list, show and manage sessions."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import shlex
import sys
from typing import Annotated, Any, Literal

import typer

from chatmem.chat.chat import RENAMED_ID
from chatmem.chat.usage import Statistics
from chatmem.cli.command import command
from chatmem.cli.fast_params import FastParamsGroup
from chatmem.cli.options import AllOrName, Json, MaybeName, Name, New, Purge, Yes, session_names
from chatmem.cli.runner import CommandContext
from chatmem.config.schema import parse_duration
from chatmem.errors import Action, ChatmemError, SessionNotFoundError, StorageError, UsageError
from chatmem.formats.json import message_record
from chatmem.history.names import canonical_key
from chatmem.history.records import parse_time
from chatmem.migrate import copy_session, merge_sessions
from chatmem.stores import SessionInfo
from chatmem.stores.database.address import redact_url
from chatmem.stores.search import Query
from chatmem.stores.verify import CheckReport
from chatmem.terminal.conversation_view import print_conversation, print_hits, print_tree
from chatmem.terminal.pager import paged
from chatmem.terminal.progress import progress
from chatmem.terminal.sanitize import sanitize_line
from chatmem.terminal.stats import print_stats
from chatmem.terminal.tables import print_sessions, print_trash
from chatmem.terminal.terminal import is_tty
from chatmem.text import pluralize, truncate

MAX_REPORTED_LINES = 10

app = typer.Typer(
    cls=FastParamsGroup, help="List, show and manage sessions.", no_args_is_help=True, rich_markup_mode=None
)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="sessions")


@command(app, "list")
def list_(
    context: CommandContext,
    sort: Annotated[
        Literal["used", "name", "created", "turns"],
        typer.Option("--sort", metavar="BY", help="Sort by used, name, created or turns."),
    ] = "used",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many.", show_default=False)
    ] = None,
    trash: Annotated[
        bool, typer.Option("--trash", help="List the deleted sessions, which restore brings back.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """List the sessions, the most recent one first."""
    if trash:
        _list_trash(context, limit, json_)
        return
    store = context.app.store
    sessions = store.recent_sessions(limit) if sort == "used" and limit else store.list_sessions()
    if sort != "used":
        sessions.sort(key=lambda s: s.name.casefold() if sort == "name" else getattr(s, sort), reverse=sort != "name")
    sessions = sessions[:limit]
    if json_:
        context.terminal.json([s.record() for s in sessions])
    elif sessions:
        print_sessions(context.terminal, sessions)
    else:
        context.terminal.notify("No sessions found.", Action("start_session"))
    _name_conflict_copies(context)


@command(app, "show")
def show(
    context: CommandContext,
    name: MaybeName = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show all branches, one line per message.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """Show a conversation."""
    session = context.app.store.session(name or context.latest())
    if json_:
        body: dict[str, Any] = {"name": session.name, "id": session.id, "title": session.title}
        body |= {"created": session.created, "messages": [message_record(session, m) for m in session.path]}
        context.terminal.json(body)
    else:
        with paged(context.terminal):
            (print_tree if tree else print_conversation)(context.terminal, session)
    if session.malformed_count:
        context.terminal.info(
            f"Skipped {pluralize(session.malformed_count, 'malformed record')}. "
            f"Details: chatmem sessions check {session.name!r}",
            "warn",
        )


@command(app, "rename")
def rename(context: CommandContext, name: Name, new: New) -> None:
    """Rename a session. Its title stays."""
    store = context.app.store
    name = store.find(name)
    store.rename(name, new)
    new = store.find(new)
    context.terminal.info(f"Renamed session {name!r} to {new!r}.")
    if (ident := store.session(new).external_id) is not None:
        context.terminal.info(RENAMED_ID.format(truncate(ident)), "warn")


@command(app, "delete")
def delete(
    context: CommandContext,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="The sessions.", autocompletion=session_names, show_default=False),
    ],
    purge: Purge = False,
    yes: Yes = False,
) -> None:
    """Move sessions to the trash, or delete them permanently with --purge."""
    store = context.app.store
    found = [store.find(name) for name in names]
    _confirm(context, f"{'Permanently delete' if purge else 'Delete'} {', '.join(map(repr, found))}?", yes)
    for name in found:
        store.delete(name, purge)
        what = "permanently deleted" if purge else store.deleted_note
        context.terminal.notify(
            f"Session {name!r} is {what}.", Action("restore", name) if store.has_trash and not purge else None
        )


@command(app, "restore")
def restore(
    context: CommandContext,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name it had.", show_default=False)],
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="Another name.", show_default=False)] = None,
) -> None:
    """Take a session out of the trash: the one that was deleted last, if several had this name.

    In a database it must be shared again with other users.
    """
    restored = context.app.store.restore(name, new)
    context.terminal.info(f"Restored session {restored!r}. Continue: chatmem chat -s {shlex.quote(restored)}")


def _list_trash(context: CommandContext, limit: int | None, as_json: bool) -> None:
    deleted = context.app.store.trash()[:limit]
    if as_json:
        context.terminal.json([entry.record() for entry in deleted])
    elif deleted:
        print_trash(context.terminal, deleted)
    else:
        context.terminal.info("The trash is empty.")


@command(app, "fork")
def fork(
    context: CommandContext,
    name: Name,
    new: New,
    at: Annotated[
        int | None, typer.Option("--at", metavar="TURN", min=1, help="Only up to this turn.", show_default=False)
    ] = None,
) -> None:
    """Copy a conversation to a new session."""
    context.app.store.fork(name, new, at)
    context.terminal.info(f"Continue there: chatmem chat -s {new!r}")


@command(app, "merge")
def merge(
    context: CommandContext,
    name: Name,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Its copy.", show_default=False)],
) -> None:
    """Join two copies of a session that were continued separately, such as a synchroniser leaves.

    Both continuations become branches, the newer one is continued. The other copy is moved to the trash.
    """
    store = context.app.store
    count = merge_sessions(store, name, other)
    name = store.find(name)
    context.terminal.info(
        f"Added {pluralize(count, 'message')} to session {name!r}. {other!r} is {store.deleted_note}."
    )
    if len(leaves := store.session(name).leaves()) > 1:
        context.terminal.info(f"It has {len(leaves)} branches: chatmem sessions show --tree {shlex.quote(name)}")


@command(app, "search")
def search(
    context: CommandContext,
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS", help='All of them, or a "whole phrase".', show_default=False)
    ],
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="NAME", help="Only in this session.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many hits.")] = 50,
    json_: Json = False,
) -> None:
    """Search all sessions for words."""
    query = Query.parse(" ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words))
    hits = itertools.islice(context.app.store.search(query, session), limit)
    if json_:
        found = [hit.record() for hit in hits]
        context.terminal.json(found)
        count = len(found)
    else:
        count = print_hits(context.terminal, hits, query)
    if not count:
        context.exit_code = SessionNotFoundError.exit_code
        if not json_:
            context.terminal.info("Nothing found.")


@command(app, "prune")
def prune(
    context: CommandContext,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Such as 30d, 12w or 1y.", show_default=False)
    ],
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=0, help="Keep the N most recent ones, whatever their age.")
    ] = 0,
    purge: Purge = False,
    yes: Yes = False,
) -> None:
    """Delete sessions that have not been used for a long time. Lists them and asks first."""
    store = context.app.store
    old = unused_since(store.list_sessions()[keep:], parse_duration(older_than))
    if not old:
        context.terminal.info("No session has been unused for that long.")
        return
    print_sessions(context.terminal, old)
    _confirm(context, f"{'Permanently delete' if purge else 'Delete'} {pluralize(len(old), 'session')}?", yes)
    for session in progress(context.terminal, old, "Deleting"):
        store.delete(session.name, purge)
    context.terminal.info(f"{pluralize(len(old), 'session')} {'permanently deleted' if purge else store.deleted_note}.")


@command(app, "stats")
def stats(context: CommandContext, name: AllOrName = None, json_: Json = False) -> None:
    """Show turns, tokens and cost by model and by day, of one session or all."""
    store, prices = context.app.store, context.settings.prices
    statistics = Statistics.collect((store.session(n) for n in ([name] if name else store.names())), prices)
    if json_:
        context.terminal.json(statistics.record())
    else:
        print_stats(context.terminal, statistics)


@command(app, "check")
def check(
    context: CommandContext,
    name: AllOrName = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also find lines that another program changed.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """Check session files for damage. Exits with code 7 if something is damaged."""
    store = context.app.store
    reports = [store.check(name, deep)] if name else list(store.check_all(deep))
    if json_:
        context.terminal.json([report.record() for report in reports])
    else:
        for report in reports:
            context.terminal.write(_report_line(report))
    _name_conflict_copies(context)
    if not all(report.ok for report in reports):
        context.exit_code = 7


def _name_conflict_copies(context: CommandContext) -> None:
    """Say which copies a synchroniser left, and how to merge each."""
    for other, name in context.app.store.conflict_copies().items():
        line = f"chatmem sessions merge {shlex.quote(name)} {shlex.quote(other)}"
        context.terminal.info(f"A synchroniser left a copy of session {name!r}: {line}", "warn")


def _report_line(report: CheckReport) -> str:
    problems = [f"line {n} is malformed" for n in report.malformed_lines[:MAX_REPORTED_LINES]]
    problems += [f"line {n} was changed outside chatmem" for n in (report.changed_lines or [])[:MAX_REPORTED_LINES]]
    if report.malformed_records:
        problems.append(pluralize(report.malformed_records, "malformed record"))
    if report.torn_tail:
        problems.append(f"the last {report.torn_tail} bytes are an incomplete record")
    remarks = [f"set aside: {name}" for name in report.set_aside]
    if report.has_draft:
        remarks.append("has the draft of a reply")
    size = f"{pluralize(report.messages, 'message')} in {pluralize(report.records, 'record')}"
    return f"{report.session}: {size}, {'; '.join([*(problems or ['ok']), *remarks])}"


@command(app, "share")
def share(
    context: CommandContext,
    name: Name,
    with_: Annotated[
        str, typer.Option("--with", metavar="USER", help="Who may read and write it.", show_default=False)
    ],
) -> None:
    """Share a session with another user of the same store: both can read and write it.

    Users are separated, not authenticated: whoever can reach the store can act as any user.
    """
    shared_name = context.app.store.share(name, with_)
    store = f" --store {shlex.quote(redact_url(context.flags['store']))}" if "store" in context.flags else ""
    line = f"chatmem chat --user {shlex.quote(with_)} -s {shlex.quote(shared_name)}{store}"
    context.terminal.info(f"Shared with {with_!r} as {shared_name!r}: {line}")


@command(app, "copy")
def copy(
    context: CommandContext,
    from_: Annotated[str, typer.Option("--from", metavar="URL", help="The store to read.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The store to write.", show_default=False)],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="The sessions.", show_default=False)] = None,
    all_: Annotated[bool, typer.Option("--all", help="All sessions.", show_default=False)] = False,
) -> None:
    """Copy sessions from one store to another. Continues where an earlier copy stopped."""
    if bool(names) == all_:
        raise UsageError("Missing sessions.", "Name them, or use --all.")
    source, target = context.app.open_store(from_), context.app.open_store(to)
    chosen = [source.find(name) for name in names] if names else sorted(source.names())
    count = 0
    failures: list[UsageError] = []
    for name in progress(context.terminal, chosen, "Copying"):
        try:
            count += copy_session(source, target, name)
        except UsageError as error:
            failures.append(error)
    for failure in failures:
        context.terminal.error(failure)
    sessions = pluralize(len(chosen) - len(failures), "session")
    context.terminal.info(f"Copied and verified {sessions}; {pluralize(count, 'record')} were new.")
    context.exit_code = failures[0].exit_code if failures else 0


@command(app, "path")
def path(context: CommandContext, name: AllOrName = None) -> None:
    """Print where a session, or all of them, are stored."""
    context.terminal.write(context.app.store.location(name))


def unused_since(sessions: list[SessionInfo], duration: datetime.timedelta) -> list[SessionInfo]:
    """The sessions that were not used for longer than `duration`."""
    limit = datetime.datetime.now(datetime.UTC) - duration
    return [s for s in sessions if (used := parse_time(s.last_active)) and used < limit]


def expire_sessions(context: CommandContext, except_for: str) -> None:
    """Move sessions unused for longer than `sessions.expire` to the trash, except one, and name them."""
    limit = context.settings.sessions.expire
    store = context.app.store
    if not limit or store.expires:
        return
    expired: list[str] = []
    try:
        old = unused_since(store.list_sessions(), parse_duration(limit))
    except StorageError:
        return  # the chat reports it
    for session in old:
        if canonical_key(session.name) != canonical_key(except_for):
            with contextlib.suppress(ChatmemError):
                store.delete(session.name)
                expired.append(session.name)
    if expired:
        context.terminal.info(f"Unused for {limit}, now {store.deleted_note}: {', '.join(expired)}")


def _confirm(context: CommandContext, question: str, yes: bool) -> None:
    """Ask for confirmation on a terminal. Elsewhere --yes is required. Raises UsageError."""
    if yes:
        return
    if not is_tty(sys.stdin):
        raise UsageError("Not confirmed.", "Pass --yes.")
    context.terminal.err.write(f"{sanitize_line(question)} [y/N] ")
    context.terminal.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Cancelled. Nothing was changed.")
