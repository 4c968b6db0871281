"""Any server that speaks OpenAI's chat completions, and Azure: one honest stream out of what it sends.

The openai client gives keys, headers and typed status errors; the body is read by our own tolerant reader, since
the client ends a cut stream without an error and dies of a ping. A reply is complete when the server said so,
with a finish reason or `[DONE]`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from chatmem.errors import ChatmemError, LimitReached, ReplyIncomplete, ServerFailed, WrongUse
from chatmem.models import faults
from chatmem.models.base import Options, Piece, check_options
from chatmem.models.replies import Reply, pieces
from chatmem.models.watch import Watch
from chatmem.settings import setting

LONGEST_WAIT = 60.0
"""The most seconds a `Retry-After` is obeyed."""
RETRIES = 2
PLACEHOLDER = "none"
"""The key that is sent to a server which was configured without one."""


@dataclass(frozen=True)
class Timeouts:
    """How many seconds to wait for a server."""

    connect: float = setting(10.0, "Seconds to wait for a connection.", least=0.01)
    first: float | None = setting(
        None,
        "Seconds to wait for the first piece; unset is 120, and 600 for a server on this machine.",
        least=0.01,
        example=120.0,
    )
    silence: float = setting(120.0, "Seconds without any text after which a reply counts as broken off.", least=0.01)


@dataclass
class OpenAIModel:
    """A model behind an OpenAI-compatible server."""

    name: str
    base_url: str = "https://api.openai.com/v1"
    key: Callable[[], str] = lambda: PLACEHOLDER
    organization: str = ""
    window: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    azure_version: str = ""
    _client: Any = field(default=None, repr=False)
    _key: str = field(default="", repr=False)
    _usage_refused: bool = False
    _renamed: dict[str, str] = field(default_factory=dict)
    """Options that this server knows by another name."""

    def __post_init__(self) -> None:
        check_url(self.base_url)

    @property
    def where(self) -> str:
        """The server as a person would name it."""
        return urlsplit(self.base_url).netloc or self.base_url

    @property
    def local(self) -> bool:
        return is_loopback(self.base_url)

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[Piece]:
        tries = 0
        while True:
            reply = Reply(self.where, self.name)
            try:
                yield from self._attempt(messages, options, reply)
                return
            except _Again as again:
                error, wait = self._blotted(again.error), again.wait
            except ChatmemError as failure:
                raise self._blotted(failure) from failure.__cause__
            if tries == RETRIES or wait > LONGEST_WAIT:
                raise error
            tries += 1
            wait = wait or 0.5 * 2**tries
            yield Piece(
                notice=f"{error.message.rstrip('.')}: again in {wait:.0f} s."
                if wait >= 1
                else f"{error.message.rstrip('.')}: again."
            )
            time.sleep(wait)

    def _blotted(self, error: ChatmemError) -> ChatmemError:
        """The error without our key, should a server have quoted it."""
        if len(self._key) >= 6:
            error.message, error.hint = (text.replace(self._key, "…") for text in (error.message, error.hint))
            error.args = (error.message,)
        return error

    def warm(self) -> None:
        import_openai()
        self._connect()

    def models(self, patience: float = 10.0) -> list[dict[str, Any]]:
        """What the server's `/models` lists, within so many seconds. Raises the same errors as `stream`."""
        import_openai()
        import openai

        try:
            raw = self._connect().with_options(timeout=patience).models.with_raw_response.list()
            body = json.loads(raw.http_response.content)
        except openai.APIStatusError as error:
            raise faults.refused(error.status_code, error.body, self.where, self.name) from error
        except openai.OpenAIError as error:
            raise faults.unreachable(error, self.where) from error
        except (ValueError, RecursionError) as error:
            raise ServerFailed(f"{self.where} lists no models.", "Does base_url need /v1 at its end?") from error
        data = body.get("data") if isinstance(body, dict) else body
        return (
            [m for m in data if isinstance(m, dict) and isinstance(m.get("id"), str)] if isinstance(data, list) else []
        )

    # One attempt

    def _attempt(self, messages: Sequence[Mapping[str, str]], options: Options, reply: Reply) -> Iterator[Piece]:
        import_openai()
        import httpx2
        import openai

        try:
            with self._request(messages, options) as response:
                with Watch(response.http_response, self._first, self.timeouts.silence) as watch:
                    try:
                        for piece in pieces(response, reply):
                            if piece.text or piece.reasoning:
                                watch.heard()
                            yield piece
                    except (httpx2.HTTPError, httpx2.StreamError, OSError, ValueError) as error:
                        raise self._cut(error, reply, watch) from error
                    if watch.barked and not reply.finish:
                        raise self._cut(TimeoutError(), reply, watch)
                reply.check()
        except openai.APIStatusError as error:
            if self._without_usage(error) or self._by_another_name(error, options):
                yield from self._attempt(messages, options, reply)
                return
            raise self._status(error) from error
        except openai.APIConnectionError as error:
            raise _Again(faults.unreachable(error, self.where)) from error
        except (openai.OpenAIError, httpx2.InvalidURL, UnicodeError) as error:
            raise faults.unreachable(error, self.where) from error

    def _request(self, messages: Sequence[Mapping[str, str]], options: Options) -> Any:
        check_options(options)
        body = {self._renamed.get(name, name): value for name, value in options.items() if value is not None}
        if not self._usage_refused:
            body["stream_options"] = {"include_usage": True}
        # The client walks through every message it is given by name; as part of the body they are sent as they are.
        body["messages"] = list(messages)
        completions = self._connect().chat.completions.with_streaming_response
        return completions.create(model=self.name, messages=[], stream=True, extra_body=body)

    def _connect(self) -> Any:
        if self._client is None:
            import httpx2
            import openai

            key = self._key = checked_key(self.key())
            timeout = httpx2.Timeout(self._first, connect=self.timeouts.connect)
            http = openai.DefaultHttpxClient(trust_env=not self.local, follow_redirects=False, timeout=timeout)
            common: dict[str, Any] = {"api_key": key, "max_retries": 0, "timeout": timeout, "http_client": http}
            # What is given is not looked for in the environment.
            common |= {"organization": self.organization, "project": "", "webhook_secret": ""}
            client: Any
            if self.azure_version:
                client = openai.AzureOpenAI(azure_endpoint=self.base_url, api_version=self.azure_version, **common)
            else:
                client = openai.OpenAI(base_url=self.base_url, admin_api_key="", **common)
            # The client has no switch for the headers it takes from OPENAI_CUSTOM_HEADERS.
            client._custom_headers = {"OpenAI-Project": openai.omit}
            if not self.organization:
                client._custom_headers["OpenAI-Organization"] = openai.omit
            self._client = client
        return self._client

    @property
    def _first(self) -> float:
        return self.timeouts.first or (600.0 if self.local else 120.0)

    def _status(self, error: Any) -> Exception:
        headers = error.response.headers
        wait = _retry_after(headers.get("retry-after"), headers.get("retry-after-ms"))
        failure = faults.refused(error.status_code, error.body, self.where, self.name, wait)
        if error.status_code == 404 and self.name in failure.message:
            failure.hint = self._near() or failure.hint
        quota = isinstance(failure, LimitReached) and "quota" in failure.message
        if error.status_code in faults.RETRIED and not quota and type(failure) in (ServerFailed, LimitReached):
            return _Again(failure, wait)
        return failure

    def _near(self) -> str:
        """The server's models with names like ours, as a hint."""
        from difflib import get_close_matches

        try:
            names = [str(m["id"]) for m in self.models()]
        except ChatmemError:
            return ""
        near = get_close_matches(self.name, names, 3, 0.3) or names[:3]
        return f"Did you mean {' or '.join(map(repr, near))}? All: chatmem models" if near else ""

    def _without_usage(self, error: Any) -> bool:
        """Whether the server refused `stream_options`, so that it is asked again without, for good."""
        text = faults.words_of(error.body) + str(error)
        if self._usage_refused or error.status_code not in (400, 422) or "stream_options" not in text:
            return False
        self._usage_refused = True
        return True

    def _by_another_name(self, error: Any, options: Options) -> bool:
        """Whether the server knows `max_tokens` as `max_completion_tokens`, as OpenAI's newer models do."""
        text = faults.words_of(error.body) + str(error)
        if (
            "max_tokens" not in options
            or self._renamed
            or error.status_code not in (400, 422)
            or "max_completion_tokens" not in text
        ):
            return False
        self._renamed["max_tokens"] = "max_completion_tokens"
        return True

    def _cut(self, error: Exception, reply: Reply, watch: Watch) -> Exception:
        if watch.barked and not reply.anything:
            return ServerFailed(
                f"{self.where} sent nothing for {watch.limit:.0f} s.",
                "Is it loading a model? /retry, or raise timeouts.first.",
            )
        if watch.barked:
            return ReplyIncomplete(
                f"{self.where} fell silent for {watch.limit:.0f} s.",
                "What arrived is kept. /retry asks again.",
            )
        return faults.broken_off(error, self.where) if reply.anything else _Again(faults.unreachable(error, self.where))


class _Again(Exception):
    """A failure before the first piece, after which the same request may succeed."""

    def __init__(self, error: ChatmemError, wait: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait or 0.0


def _retry_after(text: str | None, milliseconds: str | None) -> float | None:
    """The seconds that `retry-after-ms`, or `Retry-After` as a number or a date, ask to wait."""
    for value, scale in ((milliseconds, 0.001), (text, 1.0)):
        try:
            wait = float(value) * scale if value else 0.0
        except ValueError:
            wait = _until(value or "")
        if 0 < wait < 1e6:
            return wait
    return None


def _until(date: str) -> float:
    """The seconds until an HTTP date; 0 for what is none."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def check_url(url: str) -> None:
    """Raises WrongUse unless `url` can be a server's address."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or any(c.isspace() or not c.isprintable() for c in url):
        raise WrongUse(f"base_url {url!r} is no address of a server.", "It should look like http://127.0.0.1:11434/v1")
    if parts.username or parts.password:
        raise WrongUse(
            "base_url carries a user name or a password.",
            "Give the key with api_key_env or api_key_cmd instead.",
        )


def checked_key(key: str) -> str:
    """The key without the white space around it. Raises WrongUse if it holds what no header can."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise WrongUse(
            "The API key is empty or holds characters that no key has.",
            "Copy it again; it was not shown or sent.",
        )
    return key


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127.")


_importing = threading.Lock()


def import_openai() -> None:
    """Import the openai client (0.4 s); the REPL does so in the background once its prompt shows."""
    with _importing:
        import logging

        import openai  # noqa: F401

        for name in ("openai", "httpx2", "httpcore2"):  # OPENAI_LOG would have them write down what is said
            logging.getLogger(name).setLevel(logging.WARNING)
