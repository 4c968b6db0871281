"""One turn: the question is on disk before it is sent, and the part of the reply that arrived is stored."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat.chat import Chat
from chatmem.chat.turn_config import TurnConfig
from chatmem.errors import (
    ContextBudgetError,
    ContextLengthError,
    IncompleteReplyError,
    ServerError,
    SessionLockedError,
    StorageError,
    Terminated,
    UsageError,
)
from chatmem.history.records import Usage
from chatmem.memory import strategies
from chatmem.memory.strategies.buffer import BufferStrategy
from chatmem.models.base import StreamChunk
from chatmem.models.openai.client import OpenAIModel
from chatmem.stores import SessionStore, open_store
from chatmem.stores.file.store import FileStore
from chatmem.tokens.counter import Counter
from chatmem.tokens.estimate import estimate_tokens
from tests.fakes import Notices, ScriptedModel, wait_until
from tests.server import OK, Request, Server, stream


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return open_store("file", tmp_path)


def chat_with(store: SessionStore, model: ScriptedModel, name: str = "work", **more: Any) -> Chat:
    return Chat(
        store,
        name,
        lambda session: TurnConfig(
            model, BufferStrategy(), lambda m: Counter(None, estimate_tokens), system=str(session.get("system", ""))
        ),
        **more,
    )


def texts(chat: Chat, text: str) -> str:
    return "".join(piece.text for piece in chat.send(text))


def stored(store: SessionStore) -> list[tuple[str, str, str]]:
    return [(m.role, m.content, m.status) for m in store.session("work").path]


def test_the_question_is_stored_before_the_request_is_sent(store: SessionStore) -> None:
    model = ScriptedModel(["Hello ", "there"])
    seen: list[Any] = []
    model.before_reply = lambda: seen.append(stored(store))
    assert texts(chat_with(store, model), "Hi?") == "Hello there"
    assert seen == [[("user", "Hi?", "complete")]]
    assert stored(store) == [("user", "Hi?", "complete"), ("assistant", "Hello there", "complete")]


def test_the_question_is_synced_before_the_request_is_sent(tmp_path: Path) -> None:
    import os

    calls: list[str] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name in ("write", "fsync"):
                calls.append(name)
            return getattr(os, name)

    model = ScriptedModel()
    model.before_reply = lambda: calls.append("request")
    texts(chat_with(FileStore(tmp_path / "s", system=Watching()), model), "Hi?")
    before = calls[: calls.index("request")]
    assert before[-2:] != ["write"] and "fsync" in before[before.index("write") :]
    assert "fsync" in calls[calls.index("request") :]


@pytest.mark.parametrize(
    ("failure", "status", "raised"),
    [
        (KeyboardInterrupt(), "interrupted", KeyboardInterrupt),
        (Terminated(15), "interrupted", Terminated),
        (IncompleteReplyError("cut"), "truncated", IncompleteReplyError),
        (ServerError("gone"), "error", ServerError),
        (MemoryError(), "interrupted", MemoryError),
    ],
)
def test_the_part_that_arrived_is_stored_whatever_ends_the_reply(
    store: SessionStore, failure: BaseException, status: str, raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        texts(chat_with(store, ScriptedModel(["Hel", "lo", failure])), "Hi?")
    assert stored(store)[1] == ("assistant", "Hello", status)


def test_closing_the_stream_stores_what_arrived(store: SessionStore) -> None:
    pieces = chat_with(store, ScriptedModel(["one ", "two ", "three"])).send("Hi?")
    next(pieces), next(pieces)
    pieces.close()
    assert stored(store)[1] == ("assistant", "one two ", "interrupted")


def test_a_reply_is_complete_only_if_the_server_said_so(store: SessionStore) -> None:
    class Cut(ScriptedModel):
        def stream(self, messages: Any, options: Any) -> Iterator[StreamChunk]:
            yield StreamChunk(text="Hel")

    with pytest.raises(IncompleteReplyError):
        texts(chat_with(store, Cut()), "Hi?")
    assert stored(store)[1] == ("assistant", "Hel", "truncated")


def test_without_a_reply_the_question_stays_unanswered_and_retry_sends_it_once(store: SessionStore) -> None:
    model = ScriptedModel([ServerError("no")], ["yes"])
    chat = chat_with(store, model)
    with pytest.raises(ServerError):
        texts(chat, "First?")
    assert [m["content"] for m in model.sent[0]] == ["First?"]
    assert "".join(p.text for p in chat.retry()) == "yes"
    assert [m["content"] for m in model.sent[1]] == ["First?"]


def test_two_user_messages_in_a_row_are_never_sent(store: SessionStore) -> None:
    model = ScriptedModel([ServerError("no")], ["yes"])
    chat = chat_with(store, model)
    with pytest.raises(ServerError):
        texts(chat, "First?")
    texts(chat, "Second?")
    assert [(m["role"], m["content"]) for m in model.sent[1]] == [("user", "Second?")]
    assert [m[1] for m in stored(store)] == ["First?", "Second?", "yes"]


def test_a_retry_keeps_the_old_reply_on_its_branch(store: SessionStore) -> None:
    chat = chat_with(store, ScriptedModel(["one"], ["two"]))
    texts(chat, "Hi?")
    list(chat.retry())
    assert [m[1] for m in stored(store)] == ["Hi?", "two"]
    assert "one" in [m.content for m in store.session("work").messages.values()]


def test_an_edited_question_starts_a_branch(store: SessionStore) -> None:
    chat = chat_with(store, ScriptedModel(["one"], ["two"], ["three"]))
    texts(chat, "First?")
    texts(chat, "Second?")
    list(chat.retry(1, "Changed?"))
    assert [m[1] for m in stored(store)] == ["Changed?", "three"]
    assert len(store.session("work").leaves()) == 2


def test_the_next_start_sends_the_earlier_turns(store: SessionStore) -> None:
    texts(chat_with(store, ScriptedModel(["Noted."])), "My name is Nemo.")
    model = ScriptedModel()
    texts(chat_with(store, model), "What is my name?")
    assert [m["content"] for m in model.sent[0]] == ["My name is Nemo.", "Noted.", "What is my name?"]


def test_each_of_two_processes_sees_the_turns_of_both(store: SessionStore, tmp_path: Path) -> None:
    one, two = ScriptedModel(["a1"], ["a3"]), ScriptedModel(["a2"])
    first, second = chat_with(store, one), chat_with(open_store("file", tmp_path), two)
    texts(first, "q1")
    texts(second, "q2")
    texts(first, "q3")
    assert [m["content"] for m in two.sent[0]] == ["q1", "a1", "q2"]
    assert [m["content"] for m in one.sent[1]] == ["q1", "a1", "q2", "a2", "q3"]


def test_a_session_in_use_is_locked_for_a_chat_that_does_not_wait(store: SessionStore, tmp_path: Path) -> None:
    first = chat_with(store, ScriptedModel(["one", "two"]))
    pieces = first.send("Hi?")
    next(pieces)
    with pytest.raises(SessionLockedError):
        texts(chat_with(open_store("file", tmp_path), ScriptedModel(), wait=False), "Me too?")


class FullDisk:
    """System calls of a disk that is full while `full` is set."""

    full = False

    def __getattr__(self, name: str) -> Any:
        import os

        def write(descriptor: int, data: bytes) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return os.write(descriptor, data)

        return write if name == "write" else getattr(os, name)


def test_a_full_disk_is_reported_once_and_everything_is_saved_when_there_is_space(tmp_path: Path) -> None:
    notices = Notices()
    disk = FullDisk()
    store = FileStore(tmp_path / "s", system=disk)
    model = ScriptedModel(["a1"], ["a2"], ["a3"])
    chat = chat_with(store, model, notify=notices)
    texts(chat, "q1")
    disk.full = True
    with pytest.raises(StorageError, match="No space left"):
        texts(chat, "not sent")
    assert len(model.sent) == 1 and chat.last_question is None and chat.save_error is None and not notices
    assert [m[1] for m in stored(store)] == ["q1", "a1"] == [m.content for m in chat.session.path]
    disk.full = False
    model.before_reply = lambda: setattr(disk, "full", True)
    assert texts(chat, "q2") == "a2"
    assert chat.save_error and chat.has_unsaved_messages and len(notices) == 1 and "No space left" in notices[0]
    assert [m[1] for m in stored(store)] == ["q1", "a1", "q2"]
    with pytest.raises(StorageError):
        texts(chat, "not sent either")
    assert [m.content for m in chat.session.path] == ["q1", "a1", "q2", "a2"] and len(notices) == 1
    disk.full, model.before_reply = False, lambda: None
    texts(chat, "q3")
    assert [m[1] for m in stored(store)] == ["q1", "a1", "q2", "a2", "q3", "a3"] and chat.save_error is None


def test_an_unsaved_reply_is_saved_at_the_end(tmp_path: Path) -> None:
    disk = FullDisk()
    store = FileStore(tmp_path / "s", system=disk)
    model = ScriptedModel(["a1"])
    model.before_reply = lambda: setattr(disk, "full", True)
    chat = chat_with(store, model)
    texts(chat, "q1")
    assert chat.save_error
    disk.full = False
    chat.close()
    assert [m[1] for m in stored(store)] == ["q1", "a1"] and chat.save_error is None


def test_in_a_directory_that_cannot_be_written_no_question_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    model = ScriptedModel(["a1"], ["a2"])
    chat = chat_with(FileStore(tmp_path / "file" / "sessions"), model)
    for _ in range(2):
        with pytest.raises(StorageError, match="Cannot create the directory") as caught:
            texts(chat, "q1")
        assert caught.value.hint == "Nothing was sent." and chat.last_question is None
    assert model.sent == [] and chat.session.path == []


def test_a_smaller_window_is_learned_from_an_error_and_the_context_planned_within_it(store: SessionStore) -> None:
    model = ScriptedModel(
        *([f"answer {n} " * 40] for n in range(6)), [ContextLengthError("too long", limit=600)], ["fits"]
    )
    chat = chat_with(store, model)
    for n in range(6):
        texts(chat, f"question {n}")
    assert texts(chat, "and now?") == "fits"
    assert len(model.sent[-1]) < len(model.sent[-2]) and model.sent[-1][-1]["content"] == "and now?"
    assert chat.plan("next").budget == 450


def test_a_question_that_does_not_fit_is_stored_and_fails_before_any_request(store: SessionStore) -> None:
    model = ScriptedModel(window=100)
    with pytest.raises(ContextBudgetError) as caught:
        texts(chat_with(store, model), "word " * 200)
    assert model.sent == [] and "The model takes 75 tokens" in caught.value.message
    assert stored(store) == [("user", "word " * 200, "complete")]


def test_a_newer_version_is_opened_read_only(store: SessionStore) -> None:
    store.open("work", [{"type": "session", "chatmem": 2, "name": "work"}]).close()
    chat = chat_with(store, ScriptedModel())
    with pytest.raises(UsageError, match="newer version of chatmem"):
        texts(chat, "Hi?")
    assert len(store.records("work")) == 1


def test_no_session_is_created_before_the_first_question(store: SessionStore) -> None:
    chat_with(store, ScriptedModel(), initial_settings={"model": "m"}).close()
    assert store.names() == []


def test_settings_of_a_session_are_stored_once(store: SessionStore) -> None:
    for _ in range(2):
        texts(chat_with(store, ScriptedModel(), initial_settings={"system": "Be brief."}), "Hi?")
    assert [r for r in store.records("work") if r["type"] == "settings"] == [
        {"type": "settings", "system": "Be brief."}
    ]


def test_an_interrupt_while_saving_is_deferred_until_it_is_saved(tmp_path: Path) -> None:
    import os

    class Interrupting:
        armed = False

        def __getattr__(self, name: str) -> Any:
            def fsync(descriptor: int) -> None:
                if self.armed:
                    self.armed = False
                    signal.raise_signal(signal.SIGINT)
                os.fsync(descriptor)

            return fsync if name == "fsync" else getattr(os, name)

    system = Interrupting()
    store = FileStore(tmp_path / "s", system=system)
    model = ScriptedModel(["saved"])
    model.before_reply = lambda: setattr(system, "armed", True)
    with pytest.raises(KeyboardInterrupt):
        texts(chat_with(store, model), "Hi?")
    assert stored(store)[1] == ("assistant", "saved", "complete")


def test_a_reply_is_stored_with_its_usage_and_plan_digest(store: SessionStore) -> None:
    texts(chat_with(store, ScriptedModel(["fine", StreamChunk(usage=Usage(10, 2))])), "Hi?")
    record = json.loads((store.path("work")).read_text().splitlines()[-1])  # type: ignore[attr-defined]
    assert record["usage"] == {"prompt": 10, "completion": 2}
    assert record["sent"]["strategy"] == "buffer" and record["sent"]["tokens"] > 0 and record["model"] == "scripted"


def test_turns_added_by_another_chat_are_loaded_and_reported_once(store: SessionStore) -> None:
    notices = Notices()
    model = ScriptedModel()
    one, two = chat_with(store, model, notify=notices), chat_with(store, ScriptedModel())
    texts(one, "first")
    texts(two, "second")
    texts(one, "third")
    texts(one, "fourth")
    assert notices == ["2 new messages from another window."]
    assert [m["content"] for m in model.sent[-1] if m["role"] == "user"] == ["first", "second", "third", "fourth"]


def test_a_question_whose_storing_is_interrupted_counts_as_asked(tmp_path: Path) -> None:
    import os

    class InterruptedSync:
        armed = False

        def __getattr__(self, name: str) -> Any:
            def fsync(descriptor: int) -> None:
                os.fsync(descriptor)
                if self.armed:
                    signal.raise_signal(signal.SIGINT)

            return fsync if name == "fsync" else getattr(os, name)

    system = InterruptedSync()
    chat = chat_with(FileStore(tmp_path / "s", system=system), ScriptedModel())
    texts(chat, "first")
    system.armed = True
    with pytest.raises(KeyboardInterrupt):
        texts(chat, "second")
    system.armed = False
    assert chat.last_question and chat.last_question.content == "second"
    assert chat.session.path[-1].content == "second" or chat.store.session("work").path[-1].content == "second"


def test_reopening_with_settings_under_former_names_stores_nothing(store: SessionStore) -> None:
    former = {"memory": {"strategy": "summary", "notes_tokens": 100}}
    current = {"memory": {"strategy": "summary", "summary_tokens": 100}}
    texts(chat_with(store, ScriptedModel(), initial_settings=former), "hi")
    before = store.records("work")
    chat_with(store, ScriptedModel(), initial_settings=current).close()
    assert store.records("work") == before
    chat_with(store, ScriptedModel(), initial_settings={"memory": {"strategy": "buffer"}}).close()
    assert len(store.records("work")) == len(before) + 1


@pytest.fixture
def one_at_a_time(server: Server) -> Iterator[list[str]]:
    """The server answers one request at a time, and a summary only when its client is gone. Yields what was asked."""
    turn, asked = threading.Lock(), list[str]()

    def answer(request: Request, connection: socket.socket) -> None:
        messages = request.json["messages"]
        is_summary = messages[0]["content"].startswith("You summarise")
        asked.append("summary" if is_summary else messages[-1]["content"])
        with turn:
            if is_summary:
                connection.sendall(OK + b": working\n\n")
                while connection.recv(1000):
                    pass
            else:
                connection.sendall(stream("word " * 200))

    server.otherwise = lambda request: answer
    yield asked


def test_a_question_does_not_wait_for_a_summary_on_a_server_that_answers_one_request_at_a_time(
    one_at_a_time: list[str], server: Server, tmp_path: Path
) -> None:
    model = OpenAIModel("m", server.url)
    strategy = strategies.strategy_from_mapping(strategies.parse_spec("summary:1000,recall_tokens=0"))
    config = TurnConfig(model, strategy, lambda name: Counter(None, lambda text: len(text.split())))
    chat = Chat(open_store("file", tmp_path), "work", lambda session: config)
    for number in range(14):
        for _ in chat.send(f"question {number}"):
            pass
        if chat.background.job:
            wait_until(lambda: one_at_a_time[-1] == "summary")
    summaries = [index for index, text in enumerate(one_at_a_time) if text == "summary"]
    assert len(summaries) > 4, "it is made again after the reply"
    assert [text for text in one_at_a_time if text != "summary"] == [f"question {n}" for n in range(14)]
    assert chat.background.error == "" and chat.background.job and chat.background.job.smaller_by >= 2


def heads(store: SessionStore) -> list[Any]:
    return [record.get("message") for record in store.records("work") if record["type"] == "head"]


@pytest.mark.parametrize("text", [None, "another question"])
@pytest.mark.parametrize("error", [ServerError("It is down."), KeyboardInterrupt()], ids=["refused", "interrupted"])
def test_a_retry_to_which_nothing_arrives_leaves_the_conversation_as_it_was(
    store: SessionStore, text: str | None, error: BaseException
) -> None:
    model = ScriptedModel(["first"], [error], ["third"])
    chat = chat_with(store, model)
    texts(chat, "question")
    with pytest.raises(type(error)):
        list(chat.retry(text=text))
    for session in (chat.session, store.session("work")):
        assert [message.content for message in session.path] == ["question", "first"]
    texts(chat, "next")
    assert [message["content"] for message in model.sent[-1]] == ["question", "first", "next"]


def test_the_first_part_of_a_retried_reply_moves_the_conversation_without_a_record_of_its_own(
    store: SessionStore,
) -> None:
    chat = chat_with(store, ScriptedModel(["first"], ["second", ServerError("It broke off.")], ["third"]))
    texts(chat, "question")
    with pytest.raises(ServerError):
        list(chat.retry())
    assert [message.content for message in store.session("work").path] == ["question", "second"]
    assert heads(store) == []
    list(chat.retry(1, "edited"))
    session = store.session("work")
    assert [message.content for message in session.path] == ["edited", "third"] and len(heads(store)) == 1
    assert len(session.leaves()) == 3
