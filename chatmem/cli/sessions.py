"""chatmem sessions: what is kept, and what may be done with it."""

from __future__ import annotations

import contextlib
import datetime
import json
import shlex
import sys
from typing import Annotated, Any, Literal

import typer

from chatmem.cli.door import Here, command
from chatmem.cli.options import AllOrName, Json, MaybeName, Name, New, Purge, Yes, session_names
from chatmem.cli.unhurried import UnhurriedGroup
from chatmem.errors import ChatmemError, NotSaved, WrongUse
from chatmem.formats.json import message_record
from chatmem.names import counted, key
from chatmem.records import moment
from chatmem.screen import listing
from chatmem.screen.pager import paged
from chatmem.screen.progress import progress
from chatmem.screen.safe import show_line
from chatmem.screen.terminal import is_tty
from chatmem.settings import age
from chatmem.stores import Outline
from chatmem.stores.address import masked
from chatmem.stores.copying import copied
from chatmem.stores.search import Query

app = typer.Typer(
    cls=UnhurriedGroup, help="List, show and look after sessions.", no_args_is_help=True, rich_markup_mode=None
)


def register(root: typer.Typer) -> None:
    """Add the group."""
    root.add_typer(app, name="sessions")


@command(app, "list")
def list_(
    here: Here,
    sort: Annotated[
        Literal["used", "name", "created", "turns"],
        typer.Option("--sort", metavar="BY", help="By used, name, created or turns."),
    ] = "used",
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """List the sessions, the one used last first."""
    outlines = here.assembly.store.outlines()
    if sort != "used":
        outlines.sort(key=lambda o: o.name.casefold() if sort == "name" else getattr(o, sort), reverse=sort != "name")
    outlines = outlines[:limit]
    if json_:
        _print(here, [o.record() for o in outlines])
    elif outlines:
        listing.table(here.terminal, outlines)
    else:
        here.terminal.note("There is no session yet. Begin one: chatmem chat")


@command(app, "show")
def show(
    here: Here,
    name: MaybeName = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show all branches, a line per message.", show_default=False)
    ] = False,
    json_: Json = False,
) -> None:
    """Show a conversation."""
    session = here.assembly.store.session(name or here.latest())
    if json_:
        body: dict[str, Any] = {"name": session.name, "id": session.id, "title": session.title}
        body |= {"created": session.created, "messages": [message_record(session, m) for m in session.path]}
        _print(here, body)
    else:
        with paged(here.terminal):
            (listing.tree if tree else listing.conversation)(here.terminal, session)
    if session.damaged:
        here.terminal.note(
            f"{session.damaged} damaged records were skipped: chatmem sessions check {session.name!r}", "warn"
        )


@command(app, "rename")
def rename(here: Here, name: Name, new: New) -> None:
    """Give a session another name; its title becomes that name, too."""
    store = here.assembly.store
    name = store.find(name)
    store.rename(name, new)
    here.terminal.note(f"Session {name!r} is called {store.find(new)!r} now.")


@command(app, "delete")
def delete(
    here: Here,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="The sessions.", autocompletion=session_names, show_default=False),
    ],
    purge: Purge = False,
    yes: Yes = False,
) -> None:
    """Delete sessions: into the trash, or with --purge for good."""
    store = here.assembly.store
    found = [store.find(name) for name in names]
    _confirm(here, f"{'Erase' if purge else 'Delete'} {', '.join(map(repr, found))}?", yes)
    for name in found:
        store.delete(name, purge)
        here.terminal.note(f"Session {name!r} is {'erased' if purge else store.deleted}.")


@command(app, "fork")
def fork(
    here: Here,
    name: Name,
    new: New,
    at: Annotated[
        int | None, typer.Option("--at", metavar="TURN", min=1, help="Only up to this turn.", show_default=False)
    ] = None,
) -> None:
    """Copy a conversation into a session of its own."""
    here.assembly.store.fork(name, new, at)
    here.terminal.note(f"To go on there: chatmem chat -s {new!r}")


@command(app, "search")
def search(
    here: Here,
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS…", help='All of them, or a "whole phrase".', show_default=False)
    ],
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="NAME", help="Only in this one.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most this many hits.")] = 50,
    json_: Json = False,
) -> None:
    """Find words in all sessions, and show them where they stand."""
    query = Query.parse(" ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words))
    hits = []
    for hit in here.assembly.store.search(query, session):
        hits.append(hit)
        if not json_:
            head = f"{hit.session} · {hit.role} · {listing.ago(hit.time)}"
            here.terminal.caption(head)
            here.terminal.answer(f"  {hit.excerpt}")
        if len(hits) == limit:
            break
    if json_:
        _print(here, [hit.record() for hit in hits])
    elif not hits:
        here.terminal.note("Nothing found.")


@command(app, "prune")
def prune(
    here: Here,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="As in 30d, 12w or 1y.", show_default=False)
    ],
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="Keep the N used last, however old.")] = 0,
    purge: Purge = False,
    yes: Yes = False,
) -> None:
    """Delete the sessions that were not used for long: lists them, asks, and never acts by itself."""
    store = here.assembly.store
    old = older(store.outlines()[keep:], age(older_than))
    if not old:
        here.terminal.note("No session is that old.")
        return
    listing.table(here.terminal, old)
    _confirm(here, f"{'Erase' if purge else 'Delete'} these {len(old)}?", yes)
    for outline in progress(here.terminal, old, "Deleting"):
        store.delete(outline.name, purge)
    here.terminal.note(f"{counted(len(old), 'session')} {'erased' if purge else store.deleted}.")


@command(app, "stats")
def stats(here: Here, name: AllOrName = None, json_: Json = False) -> None:
    """Show how much was said, by model and by day; of one session, or of all."""
    store, prices = here.assembly.store, here.settings.prices
    sessions = (store.session(n) for n in ([name] if name else store.names()))
    if not json_:
        listing.statistics(here.terminal, sessions, prices)
        return
    body: dict[str, Any] = {"sessions": 0, "turns": 0, "models": {}, "days": {}}
    for session in sessions:
        body["sessions"] += 1
        for message in session.messages.values():
            body["turns"] += message.role == "user"
            if message.role == "assistant":
                for table, key in (("models", message.model or "?"), ("days", message.time[:10])):
                    body[table].setdefault(key, listing.Tally()).add(message, prices)
    for table in ("models", "days"):
        body[table] = {key: tally.record() for key, tally in body[table].items()}
    _print(here, body)


@command(app, "check")
def check(here: Here, name: AllOrName = None, json_: Json = False) -> None:
    """Say what the reader makes of a session, or of all; exits 7 if something is damaged."""
    store = here.assembly.store
    verdicts = [store.check(n) for n in ([name] if name else sorted(store.names()))]
    if json_:
        _print(here, [v.record() for v in verdicts])
    for verdict in () if json_ else verdicts:
        problems = [f"line {n} is no record" for n in verdict.broken_lines[:10]]
        problems += [f"{verdict.damaged_records} records make no sense"] if verdict.damaged_records else []
        problems += [f"{verdict.torn_tail} bytes at the end are no record"] if verdict.torn_tail else []
        notes = [f"set aside: {n}" for n in verdict.set_aside] + ["a partial reply waits"] * verdict.partial_reply
        words = "; ".join([*(problems or ["sound"]), *notes])
        found = f"{counted(verdict.messages, 'message')} in {counted(verdict.records, 'record')}"
        here.terminal.answer(f"{verdict.session}: {found}, {words}")
    if not all(v.sound for v in verdicts):
        here.exit_code = 7


@command(app, "share")
def share(
    here: Here,
    name: Name,
    with_: Annotated[
        str, typer.Option("--with", metavar="USER", help="Who may read and write it.", show_default=False)
    ],
) -> None:
    """Share a session with another user of the same store: both read and write it.

    Users are separated, not authenticated: whoever can reach the store can be any of them.
    """
    called = here.assembly.store.share(name, with_)
    store = f" --store {shlex.quote(masked(here.flags['store']))}" if "store" in here.flags else ""
    words = f"chatmem chat --user {shlex.quote(with_)} -s {shlex.quote(called)}{store}"
    here.terminal.note(f"{with_!r} has it as {called!r}: {words}")


@command(app, "copy")
def copy(
    here: Here,
    from_: Annotated[str, typer.Option("--from", metavar="URL", help="The store to read.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The store to write.", show_default=False)],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="The sessions.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All sessions.", show_default=False)] = False,
) -> None:
    """Copy sessions from one store to another, record by record; go on where an earlier copy stopped."""
    if bool(names) == all_:
        raise WrongUse("Which sessions?", "Name them, or --all.")
    source, target = here.assembly.store_at(from_), here.assembly.store_at(to)
    chosen = [source.find(name) for name in names] if names else sorted(source.names())
    done = 0
    failed: list[WrongUse] = []
    for name in progress(here.terminal, chosen, "Copying"):
        try:
            done += copied(source, target, name)
        except WrongUse as error:
            failed.append(error)
    for one in failed:
        here.terminal.error(one)
    whole = counted(len(chosen) - len(failed), "session")
    here.terminal.note(f"Copied, and compared record by record: {whole}; {done:,} records were new.")
    here.exit_code = failed[0].exit_code if failed else 0


@command(app, "path")
def path(here: Here, name: AllOrName = None) -> None:
    """Print where a session is kept, or all of them."""
    here.terminal.answer(here.assembly.store.place(name))


def older(outlines: list[Outline], than: datetime.timedelta) -> list[Outline]:
    """The outlines of sessions not used for longer than that."""
    limit = datetime.datetime.now(datetime.UTC) - than
    return [o for o in outlines if (used := moment(o.last_active)) and used < limit]


def expire(here: Here, but: str) -> None:
    """Move sessions unused for longer than `sessions.expire` into the trash, and name them; `but` one stays."""
    limit = here.settings.sessions.expire
    store = here.assembly.store
    if not limit or store.expires:
        return
    gone: list[str] = []
    try:
        old = older(store.outlines(), age(limit))
    except NotSaved:
        return  # the chat itself will say it
    for outline in old:
        if key(outline.name) != key(but):
            with contextlib.suppress(ChatmemError):
                store.delete(outline.name)
                gone.append(outline.name)
    if gone:
        here.terminal.note(f"Unused for {limit}, now {store.deleted}: {', '.join(gone)}")


def _confirm(here: Here, question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere --yes must have been given. Raises WrongUse."""
    if yes:
        return
    if not is_tty(sys.stdin):
        raise WrongUse("This needs to be confirmed.", "--yes confirms it.")
    here.terminal.err.write(f"{show_line(question)} [y/N] ")
    here.terminal.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise WrongUse("Nothing was done.")


def _print(here: Here, body: Any) -> None:
    here.terminal.raw(json.dumps(body, ensure_ascii=False, indent=1) + "\n")
