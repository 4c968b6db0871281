"""The terminal's sessions in LangChain, with the real langchain-core."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableFieldSpec, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from chatmem.errors import NotSaved, WrongUse
from chatmem.langchain import ChatmemHistory
from tests.conftest import Run

pytestmark = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")


def count(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage(f"{len(messages)} messages, first {messages[0].content!r}")


def with_history() -> RunnableWithMessageHistory:
    return RunnableWithMessageHistory(RunnableLambda(count), lambda session_id: ChatmemHistory(session_id))


def said(runnable: RunnableWithMessageHistory, text: str, **configurable: str) -> str:
    return str(runnable.invoke([HumanMessage(text)], {"configurable": configurable}).content)


def test_what_the_terminal_says_the_program_reads_and_the_other_way_round(run: Run) -> None:
    run("ask", "My name is Nemo.", "-s", "work", "-m", "offline")
    assert said(with_history(), "hello", session_id="work") == "3 messages, first 'My name is Nemo.'"
    run("ask", "What is my name?", "-s", "work", "-m", "offline")
    types = [m.type for m in ChatmemHistory("work").messages]
    assert types == ["human", "ai"] * 3
    assert "3 messages, first" in run("export", "work").stdout


def test_messages_come_back_as_they_were() -> None:
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


def test_users_and_conversations_are_the_key() -> None:
    runnable = RunnableWithMessageHistory(
        RunnableLambda(count),
        lambda user_id, conversation_id: ChatmemHistory(conversation_id, user=user_id),
        history_factory_config=[
            ConfigurableFieldSpec(id="user_id", annotation=str),
            ConfigurableFieldSpec(id="conversation_id", annotation=str),
        ],
    )
    assert said(runnable, "a", user_id="ann", conversation_id="1").startswith("1 ")
    assert said(runnable, "b", user_id="bob", conversation_id="1").startswith("1 ")
    assert said(runnable, "c", user_id="ann", conversation_id="1").startswith("3 ")


def test_the_async_methods_work() -> None:
    async def talk() -> list[BaseMessage]:
        history = ChatmemHistory("async")
        await history.aadd_messages([HumanMessage("one"), AIMessage("two")])
        runnable = with_history()
        await runnable.ainvoke([HumanMessage("three")], {"configurable": {"session_id": "async"}})
        return await history.aget_messages()

    assert [m.content for m in asyncio.run(talk())][:3] == ["one", "two", "three"]


def test_clearing_begins_a_new_view_and_destroys_nothing(run: Run) -> None:
    history = ChatmemHistory("work")
    history.add_messages([HumanMessage("before"), AIMessage("yes")])
    history.clear()
    assert history.messages == []
    history.add_messages([HumanMessage("after")])
    assert [m.content for m in history.messages] == ["after"]
    assert "before" in run("sessions", "show", "work", "--tree").stdout


def test_excluded_turns_are_not_read(run: Run) -> None:
    from chatmem.assemble import Assembly

    run("ask", "secret", "-s", "work", "-m", "offline")
    chat = Assembly().chat("work")
    chat.mark(1, excluded=True)
    chat.close()
    assert ChatmemHistory("work").messages == []


def test_a_store_of_another_kind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/chats.db"
    ChatmemHistory("work", store=url, user="ann").add_messages([HumanMessage("hi")])
    assert [m.content for m in ChatmemHistory("work", store=url, user="ann").messages] == ["hi"]
    assert ChatmemHistory("work", store=url).messages == [] == ChatmemHistory("work", user="ann").messages


def test_what_cannot_be_is_refused_and_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    with pytest.raises(WrongUse):
        ChatmemHistory("../../etc/passwd")
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(NotSaved):
        ChatmemHistory("work").add_messages([HumanMessage("hi")])


def test_many_histories_leave_no_file_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        history = ChatmemHistory("work")
        history.add_messages([HumanMessage("hi")])
        assert history.messages
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
