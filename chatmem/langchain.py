"""`from chatmem.langchain import ChatmemHistory`: the public name of the LangChain integration."""

from chatmem.integrations.langchain import ChatmemHistory

__all__ = ["ChatmemHistory"]
