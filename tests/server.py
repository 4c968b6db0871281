"""A model server on loopback whose responses tests control to the byte."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass
class Request:
    """A request of the program."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = bytes | Iterable[bytes] | Callable[[Request, socket.socket], None]


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    content = {} if text is None else {"content": text}
    return event({"choices": [{"index": 0, "delta": content | more, "finish_reason": finish}]})


def stream(*texts: str, finish: str | None = "stop", usage: dict[str, Any] | None = None, done: bool = True) -> bytes:
    body = b"".join(delta(text) for text in texts)
    if finish:
        body += delta(finish=finish)
    if usage:
        body += event({"choices": [], "usage": usage})
    return OK + body + (b"data: [DONE]\n\n" if done else b"")


def asked(chat: dict[str, Any]) -> list[dict[str, str]]:
    """The messages of a request except the system message."""
    return [message for message in chat["messages"] if message["role"] != "system"]


def status(code: int, body: Any = b"", *headers: str, kind: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [
        f"HTTP/1.1 {code} X",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + data


def echo(request: Request) -> bytes:
    """A reply with the number of messages, the system message aside, and the text of the last one."""
    messages = asked(request.json)
    prompt = sum(len(m["content"]) // 4 + 4 for m in request.json["messages"])
    return stream(
        f"{len(messages)} messages; ",
        f"last: {messages[-1]['content'][:100]}",
        usage={"prompt_tokens": prompt, "completion_tokens": 5},
    )


@dataclass
class Server:
    """Answers requests with `answers` in turn, then with `otherwise`. Records the requests."""

    otherwise: Callable[[Request], Answer] = echo
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "test-model"}])
    pages: dict[str, Any] = field(default_factory=dict)
    """What other paths answer, as JSON."""
    raw_pages: dict[str, bytes] = field(default_factory=dict)
    """What other paths answer, to the byte."""
    models_answer: bytes | None = None
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.socket.close()

    @property
    def chats(self) -> list[Any]:
        """The bodies of all chat requests so far."""
        return [r.json for r in self.requests if r.path.endswith("/chat/completions")]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as connection:
                request = _read(connection)
                if request is None:
                    return
                self.requests.append(request)
                if request.path in self.raw_pages:
                    answer: Answer = self.raw_pages[request.path]
                elif request.path in self.pages:
                    answer = status(200, self.pages[request.path])
                elif request.path.endswith("/models"):
                    answer = self.models_answer or status(200, {"object": "list", "data": self.models})
                elif not request.path.endswith("/chat/completions"):
                    answer = status(404, {"error": "no such path"})
                else:
                    answer = self.answers.pop(0) if self.answers else self.otherwise(request)
                if callable(answer):
                    answer(request, connection)
                elif isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    for piece in answer:
                        connection.sendall(piece)
        except OSError:
            pass


def _read(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        body += connection.recv(65536)
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers, body)
