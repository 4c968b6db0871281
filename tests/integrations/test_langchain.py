"""Sessions as a LangChain message history, with the real langchain-core."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableFieldSpec, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from chatmem.errors import StorageError, UsageError
from chatmem.integrations.langchain import ChatmemHistory
from tests.conftest import Run

pytestmark = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")


def count(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(f"{len(messages)} messages, first {messages[0].content!r}")


def with_history() -> RunnableWithMessageHistory:
    return RunnableWithMessageHistory(RunnableLambda(count), lambda session_id: ChatmemHistory(session_id))


def ask(runnable: RunnableWithMessageHistory, text: str, **configurable: str) -> str:
    return str(runnable.invoke([HumanMessage(text)], {"configurable": configurable}).content)


def test_the_terminal_and_langchain_read_each_others_messages(run: Run) -> None:
    run("ask", "My name is Nemo.", "-s", "work", "-m", "offline")
    assert ask(with_history(), "hello", session_id="work") == "3 messages, first 'My name is Nemo.'"
    run("ask", "What is my name?", "-s", "work", "-m", "offline")
    types = [m.type for m in ChatmemHistory("work").messages]
    assert types == ["human", "ai"] * 3
    assert "3 messages, first" in run("export", "work").stdout


def test_messages_are_read_back_unchanged() -> None:
    sent = [
        SystemMessage("Be brief."),
        HumanMessage(
            content=[{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}], id="7"
        ),
        AIMessage("Yes.", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "t1", "type": "tool_call"}]),
        ToolMessage("42", tool_call_id="t1"),
        AIMessage("42", usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}),
    ]
    history = ChatmemHistory("exact")
    history.add_messages(sent[:2])
    history.add_messages(sent[2:])
    assert ChatmemHistory("exact").messages == sent


def test_histories_are_separate_per_user_and_conversation() -> None:
    runnable = RunnableWithMessageHistory(
        RunnableLambda(count),
        lambda user_id, conversation_id: ChatmemHistory(conversation_id, user=user_id),
        history_factory_config=[
            ConfigurableFieldSpec(id="user_id", annotation=str),
            ConfigurableFieldSpec(id="conversation_id", annotation=str),
        ],
    )
    assert ask(runnable, "a", user_id="ann", conversation_id="1").startswith("1 ")
    assert ask(runnable, "b", user_id="bob", conversation_id="1").startswith("1 ")
    assert ask(runnable, "c", user_id="ann", conversation_id="1").startswith("3 ")


def test_the_async_methods_work() -> None:
    async def conversation() -> list[BaseMessage]:
        history = ChatmemHistory("async")
        await history.aadd_messages([HumanMessage("one"), AIMessage("two")])
        runnable = with_history()
        await runnable.ainvoke([HumanMessage("three")], {"configurable": {"session_id": "async"}})
        return await history.aget_messages()

    assert [m.content for m in asyncio.run(conversation())][:3] == ["one", "two", "three"]


def test_clearing_starts_an_empty_path_and_deletes_nothing(run: Run) -> None:
    history = ChatmemHistory("work")
    history.add_messages([HumanMessage("before"), AIMessage("yes")])
    history.clear()
    assert history.messages == []
    history.add_messages([HumanMessage("after")])
    assert [m.content for m in history.messages] == ["after"]
    assert "before" in run("sessions", "show", "work", "--tree").stdout


def test_excluded_turns_are_not_read(run: Run) -> None:
    from chatmem.app import App

    run("ask", "secret", "-s", "work", "-m", "offline")
    chat = App().chat("work")
    chat.set_turn_flags(1, excluded=True)
    chat.close()
    assert ChatmemHistory("work").messages == []


def test_the_history_can_use_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chats.db"
    ChatmemHistory("work", store=url, user="ann").add_messages([HumanMessage("hi")])
    assert [m.content for m in ChatmemHistory("work", store=url, user="ann").messages] == ["hi"]
    assert ChatmemHistory("work", store=url).messages == [] == ChatmemHistory("work", user="ann").messages


def test_any_id_of_a_program_is_a_session_of_its_own_inside_the_data_directory(tmp_path: Path) -> None:
    ids = ["../../etc/passwd", "user:42", "USER:42", "x" * 300]
    for ident in ids:
        ChatmemHistory(ident, user="auth0|x").add_messages([HumanMessage(ident)])
    assert [ChatmemHistory(ident, user="auth0|x").messages[0].content for ident in ids] == ids
    assert len(list((tmp_path / "data").rglob("sessions/*.jsonl"))) == len(ids)


def test_an_empty_id_and_an_unwritable_directory_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        ChatmemHistory("")
    (tmp_path / "data").write_text("a file where a directory should be")
    with pytest.raises(StorageError):
        ChatmemHistory("work").add_messages([HumanMessage("hi")])


def test_many_histories_leave_no_file_open() -> None:
    ChatmemHistory("work").add_messages([HumanMessage("hi")])  # the index of the sessions stays open
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        history = ChatmemHistory("work")
        history.add_messages([HumanMessage("hi")])
        assert history.messages
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
