"""The openai library: when it is imported, and how its client is made.

Importing it takes 0.4 s, so nothing else imports it at module level.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from chatmem.errors import UsageError
from chatmem.models.openai.limits import REQUEST_HEADERS, limit_response
from chatmem.models.openai.other_protocols import WrongProtocolError, protocol_of
from chatmem.process import environment
from chatmem.text import register_secret

_importing = threading.Lock()


def import_openai() -> Any:
    """The openai module. The prompt imports it in the background once it takes keys."""
    with _importing:
        import openai

        for name in ("openai", "httpx2", "httpcore2"):  # OPENAI_LOG would make them log conversations
            logging.getLogger(name).setLevel(logging.WARNING)
        return openai


def make_client(
    base_url: str,
    key: str,
    *,
    organization: str = "",
    azure_version: str = "",
    connect_timeout: float,
    read_timeout: float,
    trust_env: bool,
    on_connect: Callable[[Any], None] | None = None,
) -> Any:
    """A client that takes nothing from the environment except certificates and, with `trust_env`, proxies.

    `on_connect` is called with the network stream of each new connection.
    """
    openai = import_openai()
    import httpx2

    for variable, proxy in os.environ.items():
        if variable.lower().endswith("_proxy") and (password := urlsplit(proxy).password):
            register_secret(unquote(password))
    timeout = httpx2.Timeout(read_timeout, connect=connect_timeout)
    hooks: dict[str, list[Any]] = {"response": [limit_response]}
    if on_connect is not None:
        hooks["request"] = [lambda request: request.extensions.update(trace=_connection_tracer(on_connect))]
    needs_certificates = base_url.startswith("https:") or trust_env  # a proxy may be reached by https
    certificates = _ssl_context(needs_certificates, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    http = openai.DefaultHttpxClient(
        trust_env=trust_env,
        verify=certificates,
        follow_redirects=False,
        timeout=timeout,
        headers=REQUEST_HEADERS,
        event_hooks=hooks,
    )
    omitted = {"OpenAI-Project": openai.omit}
    if not organization:
        omitted["OpenAI-Organization"] = openai.omit
    common: dict[str, Any] = {"api_key": key, "max_retries": 0, "timeout": timeout, "http_client": http}
    # Values that are given are not looked up in the environment.
    common |= {"organization": organization, "project": "", "webhook_secret": "", "default_headers": omitted}
    with environment("OPENAI_CUSTOM_HEADERS", None):  # the client has no parameter to ignore it
        if azure_version:
            return openai.AzureOpenAI(azure_endpoint=base_url, api_version=azure_version, **common)
        return openai.OpenAI(base_url=base_url, admin_api_key="", **common)


@cache
def _ssl_context(with_certificates: bool, *variables: str | None) -> Any:
    """The TLS settings of all clients of this process: reading the certificates takes longer than a request.

    They depend on `variables`, SSL_CERT_FILE and SSL_CERT_DIR, which a client without `trust_env` would ignore.
    """
    import ssl

    import httpx2

    if not with_certificates:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no certificate
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise UsageError(
            f"Cannot read the certificates: {error.strerror or error}.", "Check SSL_CERT_FILE and SSL_CERT_DIR."
        ) from error


def _connection_tracer(on_connect: Callable[[Any], None]) -> Callable[[str, dict[str, Any]], None]:
    """A `trace` extension that reports new connections (https://www.encode.io/httpcore/extensions/#trace)."""

    def trace(event: str, info: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            _check_protocol(info["return_value"])
            on_connect(info["return_value"])

    return trace


def _check_protocol(network_stream: Any) -> None:
    """Raise WrongProtocolError from the first read of a connection whose server does not speak HTTP/1.1.

    The client waits for the end of what it takes for a header, without a limit of its own.
    """
    read = network_stream.read

    def read_first(*arguments: Any, **options: Any) -> bytes:
        data: bytes = read(*arguments, **options)
        network_stream.read = read
        if protocol := protocol_of(data):
            raise WrongProtocolError(f"does not speak HTTP but {protocol}")
        return data

    with contextlib.suppress(AttributeError):  # a stream without writable attributes
        network_stream.read = read_first
