"""The Python API: what a program can do, on every store, and what becomes of it in the terminal."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import chatmem
from chatmem.api import Library
from chatmem.errors import (
    IncompleteReplyError,
    ServerError,
    SessionNotFoundError,
    StorageError,
    UsageError,
)
from chatmem.history.names import is_valid, name_for_id
from chatmem.history.records import new_id
from chatmem.testing import ScriptedModel
from tests.conftest import Run
from tests.databases import SCHEMES, Databases
from tests.server import Server, stream

OpenLibrary = Callable[..., Library]


@pytest.fixture(params=["file", *SCHEMES])
def open_(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[OpenLibrary]:
    """Opens libraries of one store, as programs would. `user` makes them those of different users."""
    url = databases.url(request.param, tmp_path) if request.param in SCHEMES else request.param
    opened, unique = [], new_id()

    def open_(user: str = "ann", **settings: Any) -> Library:
        opened.append(chatmem.open(store=url, user=f"{user} {unique}", **settings))
        return opened[-1]

    yield open_
    for library in opened:
        library.close()


@pytest.fixture
def library(home: Path) -> Iterator[Library]:
    with chatmem.open() as library:
        yield library


def texts(chat: chatmem.ChatSession) -> list[str]:
    return [message.content for message in chat.messages]


def test_questions_and_replies_are_in_the_store_for_the_next_program(open_: OpenLibrary) -> None:
    model = ScriptedModel("On Friday.", ["On ", "Sunday."])
    chat = open_().session("plan", model=model, system="You are brief.")
    assert not open_().exists("plan") and chat.messages == []
    reply = chat.ask("When do I fly?")
    assert (reply.text, reply.status, reply.model, reply.cost) == ("On Friday.", "complete", "scripted", None)
    assert [chunk.text for chunk in chat.stream("And back?") if chunk.text] == ["On ", "Sunday."]
    again = open_().session("PLAN", model=model)
    assert texts(again) == ["When do I fly?", "On Friday.", "And back?", "On Sunday."]
    assert again.settings["system"] == "You are brief." and model.requests[0][0]["role"] == "system"
    assert [info.name for info in open_().sessions()] == ["plan"]


def test_a_session_of_another_user_is_not_found_until_it_is_shared(open_: OpenLibrary) -> None:
    chat = open_("ann").session("plan", model=ScriptedModel())
    chat.ask("secret")
    assert not open_("bob").exists("plan")
    bob = open_("bob")
    chat.share(bob._app.config.settings.user or "")
    shared = bob.session("plan", model=ScriptedModel("from bob"))
    shared.ask("hello")
    assert texts(shared) == ["secret", "ok", "hello", "from bob"]


@pytest.mark.parametrize(
    "ids",
    [
        ("aBc", "AbC", "abc"),
        ("user:42", "user-42", "user 42"),
        ("a/b", "a:b"),
        ("auth0|x", "x@example.org"),
        ("\u00e9", "e\u0301"),
    ],
)
def test_ids_that_differ_are_different_sessions(open_: OpenLibrary, ids: tuple[str, ...]) -> None:
    for ident in ids:
        open_().session(id=ident, model=ScriptedModel(f"for {ident}")).ask("hello")
    for ident in ids:
        chat = open_().session(id=ident, model=ScriptedModel())
        assert texts(chat) == ["hello", f"for {ident}"] and chat.id == ident and open_().exists(id=ident)
    assert len(open_().sessions()) == len(ids)


def test_any_text_of_up_to_512_characters_is_an_id_with_a_valid_name_of_its_own() -> None:
    ids = ["x" * 512, "x" * 511, "日本語" * 100, "\0", " ", "con", "a\nb", "\ud800", "..", "-", "🙂", "X", "x"]
    names = [name_for_id(ident) for ident in ids]
    assert all(is_valid(name) for name in names) and len({name.casefold() for name in names}) == len(ids)
    assert name_for_id("plan") == "plan" and re.fullmatch(r"user-42-[0-9a-f]{12}", name_for_id("user:42"))
    for wrong in ("", "x" * 513, 7):
        with pytest.raises(UsageError):
            name_for_id(wrong)  # type: ignore[arg-type]


def test_a_name_and_an_id_lead_to_the_same_session(library: Library, run: Run, server: Server) -> None:
    chat = library.session(id="user:42")
    chat.ask("from a program")
    assert run("ask", "-s", chat.name, "from the terminal").returncode == 0
    assert library.session(id="user:42").messages[2].content == "from the terminal"
    header = json.loads((Path(chat.library.store.location(chat.name))).read_text().splitlines()[0])
    assert header["external_id"] == "user:42" and header["name"] == chat.name


def test_renaming_a_session_that_a_program_opens_by_its_id_is_refused_or_warned_of(library: Library, run: Run) -> None:
    chat = library.session(id="user:42", model=ScriptedModel())
    chat.ask("hello")
    with pytest.raises(UsageError, match="keeps its name"):
        chat.rename("other")
    done = run("sessions", "rename", chat.name, "other")
    assert done.returncode == 0 and "by its id 'user:42'" in done.stderr
    assert "program" not in run("sessions", "fork", "other", "copy").stderr


def test_a_session_that_an_earlier_version_named_like_an_id_is_found_by_it(library: Library, run: Run) -> None:
    run("chat", "-s", "ThreadOne", "--model", "offline", input="hello\n")
    assert library.exists(id="ThreadOne") and not library.exists(id="threadOne")
    assert library.session(id="ThreadOne").messages[0].content == "hello"


def test_everything_that_a_program_can_change(open_: OpenLibrary) -> None:
    library = open_()
    chat = library.session("plan", model=ScriptedModel("one", "two", "three"))
    for question in ("first", "second"):
        chat.ask(question)
    chat.mark(1, pinned=True)
    assert chat.turns[0].pinned
    chat.append({"role": "user", "content": "third"}, {"role": "assistant", "content": "added"})
    other = chat.fork("plan-b", at=2)
    assert texts(other) == ["first", "one", "second", "two"]
    assert chat.retry(2, "second, better").text == "three"
    assert texts(chat) == ["first", "one", "second, better", "three"]
    chat.undo()
    assert texts(chat) == ["first", "one"]
    chat.update(memory="window:3", system="Be kind.")
    chat.rename("renamed")
    assert library.exists("renamed") and not library.exists("plan")
    assert chat.settings["memory"]["strategy"] == "window" and chat.settings["memory"]["turns"] == 3
    assert "first" in chat.export() and json.loads(chat.export("json"))["messages"][0]["content"] == "first"
    other.delete(purge=True)
    chat.delete()
    assert library.sessions() == [] and [entry.name for entry in library.store.trash()] == ["renamed"]


def test_sessions_are_found_by_their_names_titles_and_texts(open_: OpenLibrary) -> None:
    library = open_()
    for name, text in (("lisbon", "a trip"), ("garden", "ferns grow"), ("other", "my Lisbon flight")):
        library.session(name, model=ScriptedModel()).ask(text)
    assert {info.name for info in library.sessions(query="lisbon")} == {"lisbon", "other"}
    assert [info.name for info in library.sessions(limit=1)] == ["other"]
    assert [hit.session for hit in library.search("ferns")] == ["garden"]
    assert library.recall("When is my flight to Lisbon?")[0].session == "other"
    stats = library.stats()
    assert (stats.sessions, stats.turns, stats.models["scripted"].replies) == (3, 3, 3)


def test_facts_are_told_to_every_session_of_the_user_only(open_: OpenLibrary) -> None:
    open_("ann").facts.add("I am allergic to nuts.")
    model = ScriptedModel()
    open_("ann").session(model=model).ask("hello")
    open_("bob").session(model=model).ask("hello")
    assert ["nuts" in str(request) for request in model.requests] == [True, False]


def test_a_plan_is_what_is_sent_and_calls_no_model(library: Library) -> None:
    model = ScriptedModel("fine")
    chat = library.session("plan", model=model, memory="window:1")
    for number in range(3):
        chat.ask(f"question {number}")
    plan = chat.plan("next")
    assert len(model.requests) == 3
    assert [m["content"] for m in plan.messages] == ["question 2", "fine", "next"]
    assert chat.ask("next").plan.messages == plan.messages and list(plan.messages) == model.requests[3]


def test_settings_of_a_session_count_more_than_those_of_the_library(library: Library, server: Server) -> None:
    with chatmem.open(model="general", memory="window:4", options={"temperature": 0.5}) as other:
        other.session("a").ask("one")
        other.session("b", model="special", memory="buffer", options={"temperature": 1.0}).ask("two")
        assert [call["model"] for call in server.chats] == ["general", "special"]
        assert [call["temperature"] for call in server.chats] == [0.5, 1.0]
        assert other.session("a").plan().strategy.name == "window"
        assert other.session("b").plan().strategy.name == "buffer"


def test_the_config_file_counts_only_if_that_is_asked_for(home: Path, server: Server) -> None:
    (home / "config.toml").write_text('discover = false\nsystem = "from the file"\n')
    for config in (False, True):
        with chatmem.open(config=config) as library:
            library.session().ask("hello")
        assert ("from the file" in server.chats[-1]["messages"][0]["content"]) == config


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: chatmem.open(modell="x"),
        lambda: chatmem.open(store="nosuch://x").sessions(),
        lambda: chatmem.open(user=""),
        lambda: chatmem.open(memory="nosuch"),
        lambda: chatmem.open().session("a/b"),
        lambda: chatmem.open().session("a", id="b"),
        lambda: chatmem.open().session(memory="window:x"),
        lambda: chatmem.open().session(model=ScriptedModel()).ask(" "),
        lambda: chatmem.open().session(model=ScriptedModel()).ask(7),  # type: ignore[arg-type]
        lambda: chatmem.open().session().append({"role": "unknown", "content": "x"}),
        lambda: chatmem.open().session().append({"role": "user"}),
        lambda: chatmem.open().session().export("nosuch"),
        lambda: chatmem.open(facts_tokens="many").session().plan(),
    ],
)
def test_what_is_wrong_is_one_clear_usage_error(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError) as caught:
        wrong()
    assert isinstance(caught.value, chatmem.ChatmemError) and str(caught.value)


def test_a_closed_library_or_chat_says_so(library: Library) -> None:
    chat = library.session("plan", model=ScriptedModel())
    chat.ask("hello")
    chat.close()
    chat.close()
    with pytest.raises(UsageError, match="chat is closed"):
        chat.ask("again")
    other = library.session("plan", model=ScriptedModel())
    library.close()
    for use in (library.sessions, library.session, lambda: other.ask("again")):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_an_error_of_the_server_keeps_the_question_and_what_arrived(library: Library, server: Server) -> None:
    server.answers = [b"HTTP/1.1 400 X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"]
    chat = library.session("plan")
    with pytest.raises(ServerError):
        chat.ask("first")
    server.answers = [stream("half a ", finish=None, done=False)]
    with pytest.raises(IncompleteReplyError):
        chat.ask("second")
    assert texts(library.session("plan")) == ["first", "second", "half a "]
    assert library.session("plan").messages[-1].status == "truncated"


def test_a_generator_that_is_closed_keeps_what_arrived_and_releases_the_session(library: Library) -> None:
    model = ScriptedModel(["one ", "two ", "three"], "fine")
    chat = library.session("plan", model=model)
    with closing(chat.stream("count")) as chunks:
        assert next(chunks).text == "one "
    assert [(m.content, m.status) for m in chat.messages][-1] == ("one ", "interrupted")
    assert library.session("plan", model=model).ask("go on").text == "fine"


def test_an_exception_of_a_provided_model_is_raised_and_keeps_the_question(library: Library) -> None:
    chat = library.session("plan", model=ScriptedModel(KeyError("mine"), "fine"))
    with pytest.raises(KeyError):
        chat.ask("first")
    assert texts(chat) == ["first"] and chat.retry().text == "fine"


def test_turns_of_several_threads_on_one_chat_run_one_after_the_other(library: Library) -> None:
    chat = library.session("plan", model=ScriptedModel())
    threads = [threading.Thread(target=chat.ask, args=(f"question {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [m.role for m in chat.messages] == ["user", "assistant"] * 8
    assert texts(library.session("plan")) == texts(chat)


def test_what_cannot_be_stored_is_not_sent(library: Library, home: Path) -> None:
    model = ScriptedModel()
    chat = library.session("plan", model=model)
    (home / "data").write_text("not a directory")
    with pytest.raises(StorageError):
        chat.ask("hello")
    assert model.requests == []


def test_async_turns_of_many_sessions_run_at_the_same_time(library: Library) -> None:
    together = threading.Barrier(20)

    class Waiting:
        def stream(self, messages: Any, options: Any) -> Iterator[str]:
            together.wait(20)  # passes once all are here
            yield messages[-1]["content"]

    async def main() -> list[str]:
        chats = [library.session(f"s{number}", model=Waiting()) for number in range(20)]
        replies = await asyncio.gather(*(chat.aask(f"question {n}") for n, chat in enumerate(chats)))
        return [reply.text for reply in replies]

    assert asyncio.run(main()) == [f"question {number}" for number in range(20)]


def test_an_async_reply_arrives_in_chunks_and_a_cancelled_one_is_kept_as_interrupted(library: Library) -> None:
    go = threading.Event()

    class Slow:
        def stream(self, messages: Any, options: Any) -> Iterator[str]:
            yield "what arrived "
            go.wait(20)
            yield "and the rest"

    async def main() -> None:
        chat = library.session("plan", model=Slow())
        seen: list[str] = []

        async def read() -> None:
            async for chunk in chat.astream("hello"):
                seen.append(chunk.text)

        task = asyncio.create_task(read())
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        other = library.session("plan", model=ScriptedModel("fine"))
        assert (await other.aask("next")).text == "fine"  # the lock was released
        assert seen == ["what arrived "]

    asyncio.run(main())
    stored = [(m.content, m.status) for m in library.session("plan").messages]
    assert stored[1][1] == "interrupted" and stored[1][0].startswith("what arrived")
    assert stored[2:] == [("next", "complete"), ("fine", "complete")]


def test_importing_the_package_imports_nothing_heavy_and_its_names_are_lazy() -> None:
    code = (
        "import sys, chatmem; print(len([m for m in sys.modules if m.startswith('chatmem')]), sorted(chatmem.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 ")
    assert all(hasattr(chatmem, name) for name in chatmem.__all__) and set(chatmem.__all__) <= set(dir(chatmem))
    with pytest.raises(AttributeError):
        _ = chatmem.nothing  # type: ignore[attr-defined]


def test_the_snippets_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(chatmem.__file__).parent / "guide" / "python.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "HELLO" in done.stdout and "Friday" in done.stdout


def test_a_session_that_does_not_exist_cannot_be_forked_or_deleted(library: Library) -> None:
    chat = library.session("plan", model=ScriptedModel())
    with pytest.raises(SessionNotFoundError):
        chat.fork("other")
    with pytest.raises(SessionNotFoundError):
        chat.delete()
