"""One turn: the question is on disk before it leaves, and what arrives is kept, however it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatmem.chat import Chat, Choice
from chatmem.errors import (
    Busy,
    ContextExceeded,
    DoesNotFit,
    NotSaved,
    ReplyIncomplete,
    ServerFailed,
    Terminated,
    WrongUse,
)
from chatmem.memory.buffer import Buffer
from chatmem.models.base import Options, Piece
from chatmem.records import Usage
from chatmem.stores import Store, open_store
from chatmem.stores.jsonl import JsonlStore
from chatmem.tokens import Counter, estimate


class Scripted:
    """A model that says what a test tells it to, and remembers what it was sent."""

    name = "scripted"

    def __init__(self, *replies: Any, window: int = 8192) -> None:
        self.replies, self.window = list(replies), window
        self.sent: list[list[Mapping[str, str]]] = []
        self.look: Callable[[], None] = lambda: None

    def warm(self) -> None:
        pass

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[Piece]:
        self.sent.append(list(messages))
        self.look()
        for piece in self.replies.pop(0) if self.replies else ["fine"]:
            if isinstance(piece, BaseException):
                raise piece
            yield piece if isinstance(piece, Piece) else Piece(text=piece)
        else:
            yield Piece(finish="complete")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store("file", tmp_path)


def chat_with(store: Store, model: Scripted, name: str = "work", **more: Any) -> Chat:
    return Chat(
        store,
        name,
        lambda session: Choice(
            model, Buffer(), lambda m: Counter(None, estimate), system=str(session.get("system", ""))
        ),
        **more,
    )


def texts(chat: Chat, text: str) -> str:
    return "".join(piece.text for piece in chat.say(text))


def stored(store: Store) -> list[tuple[str, str, str]]:
    return [(m.role, m.content, m.status) for m in store.session("work").path]


def test_the_question_is_on_disk_before_the_request_leaves(store: Store) -> None:
    model = Scripted(["Hello ", "there"])
    seen: list[Any] = []
    model.look = lambda: seen.append(stored(store))
    assert texts(chat_with(store, model), "Hi?") == "Hello there"
    assert seen == [[("user", "Hi?", "complete")]]
    assert stored(store) == [("user", "Hi?", "complete"), ("assistant", "Hello there", "complete")]


def test_the_question_is_synced_before_the_request_leaves(tmp_path: Path) -> None:
    import os

    calls: list[str] = []

    class Watching:
        def __getattr__(self, name: str) -> Any:
            if name in ("write", "fsync"):
                calls.append(name)
            return getattr(os, name)

    model = Scripted()
    model.look = lambda: calls.append("request")
    texts(chat_with(JsonlStore(tmp_path / "s", system=Watching()), model), "Hi?")
    before = calls[: calls.index("request")]
    assert before[-2:] != ["write"] and "fsync" in before[before.index("write") :]
    assert "fsync" in calls[calls.index("request") :]


@pytest.mark.parametrize(
    ("failure", "status", "raised"),
    [
        (KeyboardInterrupt(), "interrupted", KeyboardInterrupt),
        (Terminated(15), "interrupted", Terminated),
        (ReplyIncomplete("cut"), "truncated", ReplyIncomplete),
        (ServerFailed("gone"), "error", ServerFailed),
        (MemoryError(), "interrupted", MemoryError),
    ],
)
def test_what_arrived_is_kept_however_it_ends(
    store: Store, failure: BaseException, status: str, raised: type[BaseException]
) -> None:
    with pytest.raises(raised):
        texts(chat_with(store, Scripted(["Hel", "lo", failure])), "Hi?")
    assert stored(store)[1] == ("assistant", "Hello", status)


def test_a_reader_who_stops_reading_keeps_what_arrived(store: Store) -> None:
    pieces = chat_with(store, Scripted(["one ", "two ", "three"])).say("Hi?")
    next(pieces), next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert stored(store)[1] == ("assistant", "one two ", "interrupted")


def test_a_reply_is_complete_only_if_the_server_said_so(store: Store) -> None:
    class Cut(Scripted):
        def stream(self, messages: Any, options: Any) -> Iterator[Piece]:
            yield Piece(text="Hel")

    with pytest.raises(ReplyIncomplete):
        texts(chat_with(store, Cut()), "Hi?")
    assert stored(store)[1] == ("assistant", "Hel", "truncated")


def test_nothing_arrived_leaves_the_question_unanswered_and_retry_sends_it_alone(store: Store) -> None:
    model = Scripted([ServerFailed("no")], ["yes"])
    chat = chat_with(store, model)
    with pytest.raises(ServerFailed):
        texts(chat, "First?")
    assert [m["content"] for m in model.sent[0]] == ["First?"]
    assert "".join(p.text for p in chat.retry()) == "yes"
    assert [m["content"] for m in model.sent[1]] == ["First?"]


def test_two_user_messages_in_a_row_are_never_sent(store: Store) -> None:
    model = Scripted([ServerFailed("no")], ["yes"])
    chat = chat_with(store, model)
    with pytest.raises(ServerFailed):
        texts(chat, "First?")
    texts(chat, "Second?")
    assert [(m["role"], m["content"]) for m in model.sent[1]] == [("user", "Second?")]
    assert [m[1] for m in stored(store)] == ["First?", "Second?", "yes"]


def test_a_retry_keeps_the_old_reply_on_its_branch(store: Store) -> None:
    chat = chat_with(store, Scripted(["one"], ["two"]))
    texts(chat, "Hi?")
    list(chat.retry())
    assert [m[1] for m in stored(store)] == ["Hi?", "two"]
    assert "one" in [m.content for m in store.session("work").messages.values()]


def test_an_edited_question_begins_a_branch(store: Store) -> None:
    chat = chat_with(store, Scripted(["one"], ["two"], ["three"]))
    texts(chat, "First?")
    texts(chat, "Second?")
    list(chat.retry(1, "Changed?"))
    assert [m[1] for m in stored(store)] == ["Changed?", "three"]
    assert len(store.session("work").leaves()) == 2


def test_the_next_start_remembers(store: Store) -> None:
    texts(chat_with(store, Scripted(["Noted."])), "My name is Nemo.")
    model = Scripted()
    texts(chat_with(store, model), "What is my name?")
    assert [m["content"] for m in model.sent[0]] == ["My name is Nemo.", "Noted.", "What is my name?"]


def test_both_of_two_processes_see_both_turns(store: Store, tmp_path: Path) -> None:
    one, two = Scripted(["a1"], ["a3"]), Scripted(["a2"])
    first, second = chat_with(store, one), chat_with(open_store("file", tmp_path), two)
    texts(first, "q1")
    texts(second, "q2")
    texts(first, "q3")
    assert [m["content"] for m in two.sent[0]] == ["q1", "a1", "q2"]
    assert [m["content"] for m in one.sent[1]] == ["q1", "a1", "q2", "a2", "q3"]


def test_a_session_in_use_is_busy_for_who_does_not_wait(store: Store, tmp_path: Path) -> None:
    first = chat_with(store, Scripted(["one", "two"]))
    pieces = first.say("Hi?")
    next(pieces)
    with pytest.raises(Busy):
        texts(chat_with(open_store("file", tmp_path), Scripted(), wait=False), "Me too?")


class Full:
    """System calls of a disk that is full as long as `full` says so."""

    full = False

    def __getattr__(self, name: str) -> Any:
        import os

        def write(descriptor: int, data: bytes) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return os.write(descriptor, data)

        return write if name == "write" else getattr(os, name)


def test_a_full_disk_is_said_once_the_chat_goes_on_and_all_is_saved_when_there_is_room(tmp_path: Path) -> None:
    said: list[str] = []
    disk = Full()
    store = JsonlStore(tmp_path / "s", system=disk)
    model = Scripted(["a1"], ["a2"], ["a3"])
    chat = chat_with(store, model, say=said.append)
    texts(chat, "q1")
    disk.full = True
    assert texts(chat, "q2") == "a2"
    assert isinstance(chat.not_saved, NotSaved) and len(said) == 1 and "No space left" in said[0]
    assert [m[1] for m in stored(store)] == ["q1", "a1"]
    disk.full = False
    texts(chat, "q3")
    assert [m[1] for m in stored(store)] == ["q1", "a1", "q2", "a2", "q3", "a3"] and chat.not_saved is None


def test_a_folder_that_cannot_be_written_does_not_stop_the_chat(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("in the way")
    chat = chat_with(JsonlStore(tmp_path / "file" / "sessions"), Scripted(["a1"], ["a2"]), say=said.append)
    assert texts(chat, "q1") == "a1" and texts(chat, "q2") == "a2"
    assert len(said) == 1 and "Not saved" in said[0] and chat.not_saved


def test_a_smaller_window_is_learned_and_the_plan_made_again_within_it(store: Store) -> None:
    model = Scripted(*([f"answer {n} " * 40] for n in range(6)), [ContextExceeded("too long", limit=600)], ["fits"])
    chat = chat_with(store, model)
    for n in range(6):
        texts(chat, f"question {n}")
    assert texts(chat, "and now?") == "fits"
    assert len(model.sent[-1]) < len(model.sent[-2]) and model.sent[-1][-1]["content"] == "and now?"
    assert chat.plan("next").budget == 450


def test_system_prompt_and_question_that_do_not_fit_fail_before_any_call_and_are_kept(store: Store) -> None:
    model = Scripted(window=100)
    with pytest.raises(DoesNotFit) as caught:
        texts(chat_with(store, model), "word " * 200)
    assert model.sent == [] and "budget 75" in caught.value.message
    assert stored(store) == [("user", "word " * 200, "complete")]


def test_a_newer_version_is_opened_read_only(store: Store) -> None:
    store.open("work", [{"type": "session", "chatmem": 2, "name": "work"}]).close()
    chat = chat_with(store, Scripted())
    with pytest.raises(WrongUse, match="newer chatmem"):
        texts(chat, "Hi?")
    assert len(store.records("work")) == 1


def test_nothing_is_created_before_something_is_said(store: Store) -> None:
    chat_with(store, Scripted(), wanted={"model": "m"}).close()
    assert store.names() == []


def test_settings_of_a_session_are_stored_once(store: Store) -> None:
    for _ in range(2):
        texts(chat_with(store, Scripted(), wanted={"system": "Be brief."}), "Hi?")
    assert [r for r in store.records("work") if r["type"] == "settings"] == [
        {"type": "settings", "system": "Be brief."}
    ]


def test_an_interrupt_during_saving_waits_until_it_is_saved(tmp_path: Path) -> None:
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
    store = JsonlStore(tmp_path / "s", system=system)
    model = Scripted(["saved"])
    model.look = lambda: setattr(system, "armed", True)
    with pytest.raises(KeyboardInterrupt):
        texts(chat_with(store, model), "Hi?")
    assert stored(store)[1] == ("assistant", "saved", "complete")


def test_a_record_keeps_what_the_reply_saw(store: Store) -> None:
    texts(chat_with(store, Scripted(["fine", Piece(usage=Usage(10, 2))])), "Hi?")
    record = json.loads((store.path("work")).read_text().splitlines()[-1])  # type: ignore[attr-defined]
    assert record["usage"] == {"prompt": 10, "completion": 2}
    assert record["sent"]["strategy"] == "buffer" and record["sent"]["tokens"] > 0 and record["model"] == "scripted"


def test_turns_that_another_chat_added_are_taken_in_and_told_of_once(store: Store) -> None:
    told: list[str] = []
    model = Scripted()
    one, two = chat_with(store, model, say=told.append), chat_with(store, Scripted())
    texts(one, "first")
    texts(two, "second")
    texts(one, "third")
    texts(one, "fourth")
    assert told == ["Another chat went on here: 2 messages of it taken in."]
    assert [m["content"] for m in model.sent[-1] if m["role"] == "user"] == ["first", "second", "third", "fourth"]
