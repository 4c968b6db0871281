"""Any server that speaks OpenAI's chat completions, Azure included: one stream of chunks, whatever it sends.

The openai client provides authentication and typed status errors. The body is read by our own tolerant parser, since
the client ends a cut stream without an error and fails on a ping. A reply is complete when the server says so, with a
finish reason or `[DONE]`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from chatmem.config.settings import TimeoutSettings
from chatmem.errors import ChatmemError, IncompleteReplyError, Notice, RateLimitError, ServerError, UsageError
from chatmem.models.base import Options, StreamChunk, check_options, is_on_this_machine
from chatmem.models.openai import error_mapping
from chatmem.models.openai.library import import_openai, make_client
from chatmem.models.openai.limits import MAX_BODY_BYTES
from chatmem.models.openai.other_protocols import WrongProtocolError
from chatmem.models.openai.response_parser import ReplyState, parse_response
from chatmem.models.openai.watchdog import StallWatchdog
from chatmem.text import redact, register_secret

MAX_WAIT = 20.0
"""The most seconds that are waited between all attempts. If a server asks for more, its error is raised at once."""
MAX_RETRIES = 2
NO_KEY = "none"
"""The key that is sent to a server that was configured without one."""


@dataclass
class OpenAIModel:
    """A model behind an OpenAI-compatible server."""

    name: str
    base_url: str = "https://api.openai.com/v1"
    get_key: Callable[[], str] = lambda: NO_KEY
    organization: str = ""
    window: int | None = None
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    azure_version: str = ""
    _client: Any = field(default=None, repr=False)
    _key: str = field(default="", repr=False)
    _network_stream: Any = field(default=None, repr=False)
    """The last connection to the server."""
    _watchdog: StallWatchdog | None = field(default=None, repr=False)
    _is_cancelled: bool = False
    _rejects_usage: bool = False
    _option_names: dict[str, str] = field(default_factory=dict)
    """The names that this server uses for options, where they differ."""

    def __post_init__(self) -> None:
        check_url(self.base_url)

    @property
    def server(self) -> str:
        return self.base_url

    @property
    def host(self) -> str:
        """The server's host and port, for messages."""
        return urlsplit(self.base_url).netloc or self.base_url

    @property
    def is_local(self) -> bool:
        return is_on_this_machine(self.base_url)

    def stream(self, messages: Sequence[Mapping[str, str]], options: Options) -> Iterator[StreamChunk]:
        retries, waited = 0, 0.0
        while True:
            reply = ReplyState(self.host, self.name)
            try:
                yield from self._attempt(messages, options, reply)
                return
            except RetryableError as retryable:
                error, wait = self._redact(retryable.error), retryable.wait
            except ChatmemError as failure:
                raise self._redact(failure) from failure.__cause__
            if self._is_cancelled:
                raise error
            retries += 1
            wait = wait or 0.5 * 2**retries
            waited += wait
            if retries > MAX_RETRIES or waited > MAX_WAIT:
                raise error
            delay = f" in {wait:.0f} s" if wait >= 1 else ""
            yield StreamChunk(notice=Notice(f"{error.message.rstrip('.')}. Retrying{delay}."))
            time.sleep(wait)

    def preload(self) -> None:
        import_openai()
        self._connect()

    def for_background(self) -> OpenAIModel:
        def get_key() -> str:
            return self._key or self.get_key()  # without running a key command again

        return replace(self, get_key=get_key, _client=None, _network_stream=None, _watchdog=None)

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._watchdog:
            self._watchdog.expire()

    def list_models(self, timeout: float = 10.0) -> list[dict[str, Any]]:
        openai = import_openai()
        try:
            raw = self._connect().with_options(timeout=timeout).models.with_raw_response.list()
            if len(raw.http_response.content) >= MAX_BODY_BYTES:
                raise ServerError(f"The model list of {self.host} is larger than {MAX_BODY_BYTES >> 20} MB.")
            body = json.loads(raw.http_response.content)
        except openai.APIStatusError as error:
            raise error_mapping.error_for_status(error.status_code, error.body, self.host, self.name) from error
        except (openai.OpenAIError, WrongProtocolError) as error:
            raise error_mapping.error_for_connection(error, self.host) from error
        except (ValueError, RecursionError) as error:
            raise ServerError(f"{self.host} lists no models.", "Does base_url need /v1 at its end?") from error
        data = body.get("data") if isinstance(body, dict) else body
        entries = data if isinstance(data, list) else []
        return [m for m in entries if isinstance(m, dict) and isinstance(m.get("id"), str)]

    # One attempt

    def _attempt(
        self, messages: Sequence[Mapping[str, str]], options: Options, reply: ReplyState
    ) -> Iterator[StreamChunk]:
        openai = import_openai()
        import httpx2

        watchdog = self._watchdog = StallWatchdog(self._first_token, self.timeouts.idle, self._network_stream)
        try:
            with watchdog, self._request(messages, options) as response:
                watchdog.attach(response.http_response)
                try:
                    for chunk in parse_response(response, reply):
                        if chunk.text or chunk.reasoning:
                            watchdog.reset()
                        yield chunk
                except (httpx2.HTTPError, httpx2.StreamError, OSError, ValueError) as error:
                    raise self._disconnected(error, reply, watchdog) from error
                if watchdog.expired and not reply.status:
                    raise self._disconnected(TimeoutError(), reply, watchdog)
                reply.check()
        except openai.APIStatusError as error:
            if self._adapt_to_usage(error) or self._adapt_to_option_names(error, options):
                yield from self._attempt(messages, options, reply)
                return
            raise self._status_error(error) from error
        except openai.APIConnectionError as error:
            if watchdog.expired:
                raise self._disconnected(error, reply, watchdog) from error
            raise RetryableError(error_mapping.error_for_connection(error, self.host)) from error
        except (openai.OpenAIError, httpx2.InvalidURL, UnicodeError, WrongProtocolError) as error:
            raise error_mapping.error_for_connection(error, self.host) from error

    def _request(self, messages: Sequence[Mapping[str, str]], options: Options) -> Any:
        check_options(options)
        body = {self._option_names.get(name, name): value for name, value in options.items() if value is not None}
        if not self._rejects_usage:
            body["stream_options"] = {"include_usage": True}
        # The client copies and checks every message of its `messages` parameter. In the body they are sent as they are.
        body["messages"] = list(messages)
        completions = self._connect().chat.completions.with_streaming_response
        return completions.create(model=self.name, messages=[], stream=True, extra_body=body)

    def _connect(self) -> Any:
        if self._client is None:
            self._key = register_secret(validate_key(self.get_key()))
            self._client = make_client(
                self.base_url,
                self._key,
                organization=self.organization,
                azure_version=self.azure_version,
                connect_timeout=self.timeouts.connect,
                read_timeout=self._first_token,
                trust_env=not self.is_local,
                on_connect=self._connected,
            )
        return self._client

    def _connected(self, network_stream: Any) -> None:
        self._network_stream = network_stream
        if self._watchdog:
            self._watchdog.network_stream = network_stream
            if self._is_cancelled:
                self._watchdog.expire()

    @property
    def _first_token(self) -> float:
        return self.timeouts.first_token or (600.0 if self.is_local else 120.0)

    # Failures

    def _redact(self, error: ChatmemError) -> ChatmemError:
        """The error without secrets, should a server or a proxy have quoted them."""
        error.message, error.hint = redact(error.message), redact(error.hint)
        error.args = (error.message,)
        return error

    def _status_error(self, error: Any) -> Exception:
        headers = error.response.headers
        wait = _retry_after(headers.get("retry-after"), headers.get("retry-after-ms"))
        failure = error_mapping.error_for_status(error.status_code, error.body, self.host, self.name, wait)
        if error.status_code == 404 and self.name in failure.message:
            failure.hint = self._suggest_models()
        is_quota = isinstance(failure, RateLimitError) and "quota" in failure.message
        is_retryable = error.status_code in error_mapping.RETRYABLE_STATUSES and not is_quota
        if is_retryable and type(failure) in (ServerError, RateLimitError):
            return RetryableError(failure, wait)
        return failure

    def _suggest_models(self) -> str:
        """The server's models with similar names, as a hint."""
        from difflib import get_close_matches

        try:
            names = [str(m["id"]) for m in self.list_models()]
        except ChatmemError:
            return ""
        near = get_close_matches(self.name, names, 3, 0.3) or names[:3]
        return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""

    def _adapt_to_usage(self, error: Any) -> bool:
        """Whether the server rejected `stream_options`. From then on it is not sent."""
        text = error_mapping.all_text(error.body) + str(error)
        if self._rejects_usage or error.status_code not in (400, 422) or "stream_options" not in text:
            return False
        self._rejects_usage = True
        return True

    def _adapt_to_option_names(self, error: Any, options: Options) -> bool:
        """Whether the server wants `max_completion_tokens` for `max_tokens`, as OpenAI's newer models do."""
        text = error_mapping.all_text(error.body) + str(error)
        if (
            "max_tokens" not in options
            or self._option_names
            or error.status_code not in (400, 422)
            or "max_completion_tokens" not in text
        ):
            return False
        self._option_names["max_tokens"] = "max_completion_tokens"
        return True

    def _disconnected(self, error: Exception, reply: ReplyState, watchdog: StallWatchdog) -> Exception:
        """The error for a response that failed or stalled while it was read."""
        if watchdog.expired and not reply.has_text:
            return ServerError(
                f"{self.host} sent nothing for {watchdog.limit:.0f} s.",
                "Is it still loading a model? The setting timeouts.first_token raises the limit.",
                error_mapping.RETRY,
            )
        if watchdog.expired:
            return IncompleteReplyError(
                f"{self.host} stopped sending for {watchdog.limit:.0f} s.",
                "The part that arrived is saved.",
                error_mapping.RETRY,
            )
        if reply.has_text:
            return error_mapping.error_for_disconnect(error, self.host)
        return RetryableError(error_mapping.error_for_connection(error, self.host))


class RetryableError(Exception):
    """A failure before the first chunk, after which the same request may succeed. `wait` is in seconds."""

    def __init__(self, error: ChatmemError, wait: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait or 0.0


def _retry_after(text: str | None, milliseconds: str | None) -> float | None:
    """The seconds to wait that `retry-after-ms` or `Retry-After` (a number or a date) ask for."""
    for value, scale in ((milliseconds, 0.001), (text, 1.0)):
        try:
            wait = float(value) * scale if value else 0.0
        except ValueError:
            wait = _seconds_until(value or "")
        if 0 < wait < 1e6:
            return wait
    return None


def _seconds_until(date: str) -> float:
    """The seconds until an HTTP date. 0 for anything else."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def check_url(url: str) -> None:
    """Raise UsageError unless `url` can be the base URL of a server."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError(f"base_url {url!r} is not a valid URL.", "It should look like http://127.0.0.1:11434/v1")
    if parts.username or parts.password:
        raise UsageError(
            "base_url contains a user name or a password.", "Set the key with api_key_env or api_key_cmd instead."
        )


def validate_key(key: str) -> str:
    """The key without surrounding white space. Raises UsageError if it cannot be sent in a header."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            "The API key is empty or contains invalid characters.", "Copy it again. It was not shown or sent."
        )
    return key
