"""Commands that show, steer and explain what the model is sent."""

from __future__ import annotations

from chatmem.errors import ChatmemError, UsageError
from chatmem.history.records import Summary
from chatmem.history.session import Turn
from chatmem.memory.costs import turn_tokens
from chatmem.memory.forgetting import turns_with
from chatmem.memory.strategies import format_spec, parse_spec
from chatmem.memory.strategies.summary import SummaryStrategy
from chatmem.repl.commands.base import command, parse_number
from chatmem.repl.context import ReplContext
from chatmem.terminal.context_view import print_comparison, print_context, print_why, turns_text
from chatmem.terminal.pager import paged
from chatmem.terminal.progress import waiting
from chatmem.text import span_text, truncate

MAX_LISTED_MATCHES = 12
MAX_MATCH_CHARS = 100


@command("context", "[--all] [QUESTION]", "/context What did I plan?")
def context(repl: ReplContext, argument: str) -> None:
    """Show what would be sent next, and why, with keys to pin and exclude. --all prints every turn instead."""
    repl.chat.refresh()
    every_turn = argument == "--all" or argument.startswith("--all ")
    question = argument.removeprefix("--all").strip() if every_turn else argument
    if repl.terminal.interactive and not repl.terminal.plain and not every_turn:
        from chatmem.repl.context_screen import show_context_screen  # imported lazily: slow

        show_context_screen(repl.chat, repl.terminal, repl.prompt.edit_in_editor, question)
        return
    with paged(repl.terminal):
        print_context(repl.terminal, repl.chat.plan(question or None), repl.chat.session, every_turn)


@command("compare", "[QUESTION]", "/compare When do I fly?")
def compare(repl: ReplContext, argument: str) -> None:
    """Compare the memory strategies on this session."""
    repl.chat.refresh()
    current = repl.chat.turn_config.strategy
    settings = repl.app.settings_for(repl.chat.session.settings).settings
    others = [s for s in settings.strategies if s.name != current.name]
    print_comparison(repl.terminal, repl.chat.compare(argument or None, [current, *others]))


@command("memory", "[SPEC]", "/memory window:6")
def memory(repl: ReplContext, argument: str) -> None:
    """Show or change the memory strategy: buffer, window:6, token-trim:4000, summary:4000."""
    if argument:
        repl.chat.update_settings(memory=parse_spec(argument))
    strategy = repl.chat.turn_config.strategy
    repl.terminal.info(f"Memory: {format_spec(strategy)}. {(type(strategy).__doc__ or '').splitlines()[0]}")


@command("why", "[N]", "/why 4")
def why(repl: ReplContext, argument: str) -> None:
    """Explain what the model was sent for reply N, by default the last one."""
    repl.chat.refresh()
    turn = repl.chat.turn(parse_number(argument) if argument else None)
    print_why(repl.terminal, repl.chat.session, turn.number, repl.chat.facts.texts())


@command("pin", "[N]", "/pin 3")
def pin(repl: ReplContext, argument: str) -> None:
    """Always send turn N verbatim, by default the last one."""
    turn = _set_flags(repl, argument or _last_number(repl), pinned=True)
    repl.terminal.info(f"Turn {turn.number} is pinned and always sent. /unpin {turn.number} removes the pin.")


@command("unpin", "[N]", "/unpin 3")
def unpin(repl: ReplContext, argument: str) -> None:
    """Remove the pin from turn N, by default from the last one."""
    turn = _set_flags(repl, argument or _last_number(repl), pinned=False)
    repl.terminal.info(f"Unpinned turn {turn.number}.")


@command("exclude", "N", "/exclude 5")
def exclude(repl: ReplContext, argument: str) -> None:
    """Never send turn N. It stays in the session."""
    turn = _set_flags(repl, argument, excluded=True)
    repl.terminal.info(f"Turn {turn.number} is never sent. /include {turn.number} includes it again.")


@command("include", "N", "/include 5")
def include(repl: ReplContext, argument: str) -> None:
    """Include turn N again after /exclude."""
    turn = _set_flags(repl, argument, excluded=False)
    repl.terminal.info(f"Turn {turn.number} may be sent again.")


@command("compact", "[FOCUS]", "/compact the decisions")
def compact(repl: ReplContext, argument: str) -> None:
    """Summarise everything but the newest turn now, and send the summary instead."""
    repl.chat.refresh()
    if len(repl.chat.session.turns) < 2:
        raise UsageError("There is nothing to summarise.", "The newest turn stays as it is.")
    strategy = repl.chat.turn_config.strategy
    switches = not strategy.summary_share(repl.chat.turn_config.limits.limit)
    if switches:
        if not repl.prompt.confirm(f"{strategy.name} sends no summary. Switch to the strategy summary?"):
            repl.terminal.info("Nothing was changed.")
            return
        strategy = SummaryStrategy()
    try:
        with waiting(repl.terminal, "Summarising; Ctrl-C cancels"):
            segment = repl.chat.summary.summarize(repl.chat.turn_config, strategy, repl.chat.counter, argument)
    except KeyboardInterrupt:
        repl.terminal.info("Cancelled. Nothing was changed.")
        return
    except ChatmemError as error:
        error.hint, error.action = "Nothing was changed.", None
        raise
    if segment is None:
        raise UsageError("There is nothing to summarise.", "Excluded and pinned turns are left out.")
    counter, index = repl.chat.counter, repl.chat.session.turn_index
    turns = repl.chat.session.turns[index[segment.start] : index[segment.end] + 1]
    before, after = sum(turn_tokens(counter, turn) for turn in turns), counter.count_text(segment.text)
    repl.terminal.info(f"◐ {_span(repl, segment)}, {after:,} tokens instead of {before:,}:")
    repl.terminal.write_wrapped(segment.text)
    if repl.prompt.confirm("Use it?"):
        if switches:
            repl.chat.update_settings(memory={"strategy": SummaryStrategy.name})
        repl.chat.summary.add(segment)
        repl.terminal.info("These turns are sent as this summary from now on. /summary redo takes it back.")
    else:
        repl.terminal.info("Discarded. Nothing was changed.")


@command("summary", "[edit|redo]", "/summary edit")
def summary(repl: ReplContext, argument: str) -> None:
    """Show the summary of earlier turns. edit opens it in your editor, redo discards it."""
    repl.chat.refresh()
    segments = repl.chat.summary.segments()
    if argument not in ("", "edit", "redo"):
        raise UsageError(f"/summary takes edit or redo, not {argument!r}.")
    if not segments:
        repl.terminal.info(
            "No summary yet. The summary strategy creates one when turns no longer fit into the context."
        )
    elif argument == "redo":
        repl.chat.summary.discard()
        repl.terminal.info(
            "The summary was discarded. The turns are sent verbatim, or summarised again if they do not fit."
        )
    elif argument == "edit":
        for segment in segments:
            repl.terminal.info(f"Summary of {_span(repl, segment)}:")
            text = repl.prompt.edit_in_editor(segment.text).strip()
            if text != segment.text.strip():
                repl.chat.summary.edit(segment, text)
                repl.terminal.info("Changed." if text else "Discarded. It will be regenerated.")
    else:
        for segment in segments:
            origin = "edited by you" if segment.edited else f"by {segment.model}"
            repl.terminal.info(f"◐ {_span(repl, segment)} · {origin}")
            for number, line in enumerate(segment.text.split("\n")):
                ids = segment.sources[number] if number < len(segment.sources) else ()
                turns = turns_text(repl.chat.session, ids)
                repl.terminal.write_wrapped(f"{line}  [{turns}]" if turns else line)


@command("forget", "[TEXT|undo TEXT]", "/forget old address")
def forget(repl: ReplContext, argument: str) -> None:
    """Never summarise or retrieve again what was said with these words. The history keeps it."""
    repl.chat.refresh()
    if not argument:
        for entry in repl.chat.session.forgotten:
            repl.terminal.info(f"✕ {entry.text}")
        if not repl.chat.session.forgotten:
            repl.terminal.info("Nothing was forgotten. /forget TEXT hides what contains all of these words.")
        return
    if argument.startswith("undo "):
        repl.chat.summary.remember(argument[5:].strip())
        repl.terminal.info("Taken back. Summaries and retrieved passages may show it again.")
        return
    matches = repl.chat.summary.matches(argument)
    if not matches:
        raise UsageError("Nothing in this conversation contains all of these words.")
    for match in matches[:MAX_LISTED_MATCHES]:
        where = "summary" if match.is_summary else f"turn {match.turn}"
        repl.terminal.info(f"{'◐' if match.is_summary else '↩'} {where}: {truncate(match.text, MAX_MATCH_CHARS)}")
    if len(matches) > MAX_LISTED_MATCHES:
        repl.terminal.info(f"  and {len(matches) - MAX_LISTED_MATCHES:,} more")
    if not repl.prompt.confirm("Forget this?"):
        repl.terminal.info("Nothing was changed.")
        return
    repl.chat.summary.forget(argument)
    repl.terminal.info(
        "Forgotten: neither the summary nor retrieved passages show this again. /forget undo takes it back."
    )
    context = repl.chat.plan()
    whole = [*context.pins, *(turn for turn in context.turns[context.start :] if turn.sendable)]
    for number in turns_with(whole, argument):
        repl.terminal.info(f"Turn {number} is still sent as a whole. /exclude {number} hides it.")


def _set_flags(repl: ReplContext, argument: str, **flags: bool) -> Turn:
    before = repl.chat.summary.segments()
    turn = repl.chat.set_turn_flags(parse_number(argument), **flags)
    _warn_of_lost_summary(repl, before)
    return turn


def _last_number(repl: ReplContext) -> str:
    return str(repl.chat.turn(None).number)


def _span(repl: ReplContext, segment: Summary) -> str:
    """The turns that a segment stands for."""
    index = repl.chat.session.turn_index
    return span_text(index[segment.start] + 1, index[segment.end] + 1)


def _warn_of_lost_summary(repl: ReplContext, before: list[Summary]) -> None:
    """Say so if a summary no longer counts, because one of its turns was pinned or excluded."""
    for segment in before:
        if segment not in repl.chat.summary.segments():
            what = "The summary that you edited" if segment.edited else "The summary"
            again = "Undo this to get it back." if segment.edited or segment.compact else "It is made again."
            repl.terminal.info(
                f"{what} of {_span(repl, segment)} no longer counts, since it has this turn in it. {again}"
            )
