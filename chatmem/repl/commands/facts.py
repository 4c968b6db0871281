"""Commands for the facts about the user that every session is told."""

from __future__ import annotations

from chatmem.chat.fact_book import LEFT_OUT
from chatmem.errors import UsageError
from chatmem.repl.commands.base import command, parse_number
from chatmem.repl.context import ReplContext
from chatmem.terminal.tables import print_facts


@command("remember", "TEXT", "/remember I am allergic to nuts.")
def remember(repl: ReplContext, argument: str) -> None:
    """Keep a fact about you. Every session is told it from the next turn on."""
    chat = repl.chat
    turns = len(chat.session.turns)
    fact = chat.facts.add(argument, chat.name if chat.exists else "", turns or None)
    repl.terminal.info(f"Remembered: {fact.text}")
    if not chat.turn_config.facts_tokens:
        repl.terminal.info("Facts are off in this session. /facts on shows them to the model.")


@command("facts", "[on|off|rm N|without N|with N]", "/facts without 2")
def facts(repl: ReplContext, argument: str) -> None:
    """List the facts about you; on and off apply to this session, as does without N. rm N removes one."""
    chat = repl.chat
    chat.facts.refresh()
    action, _, number = argument.partition(" ")
    hidden = [str(ident) for ident in chat.session.settings.get(LEFT_OUT) or []]
    if action in ("on", "off") and not number:
        chat.update_settings(facts=action)
        told = "is told the facts about you" if action == "on" else "is not told the facts about you"
        repl.terminal.info(f"This session {told}.")
    elif action == "rm":
        fact = chat.facts.remove(parse_number(number, "fact number", "/facts shows the numbers."))
        repl.terminal.info(f"No longer remembered: {fact.text}")
    elif action in ("without", "with"):
        fact = chat.facts.find(parse_number(number, "fact number", "/facts shows the numbers."))
        others = [ident for ident in hidden if ident != fact.id]
        chat.update_settings(**{LEFT_OUT: [*others, fact.id] if action == "without" else others})
        told = "not told" if action == "without" else "told"
        repl.terminal.info(f"This session is {told}: {fact.text}")
    elif action:
        raise UsageError(f"/facts takes on, off, rm N, without N or with N, not {argument!r}.")
    else:
        known = chat.facts.facts()
        if not known:
            repl.terminal.info("There are no facts yet. /remember TEXT adds one.")
            return
        print_facts(repl.terminal, known, hidden if chat.turn_config.facts_tokens else [fact.id for fact in known])
