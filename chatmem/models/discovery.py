"""Finding model servers that run on this machine, on their usual ports. No key is sent."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, NamedTuple

TIMEOUT = 0.6
"""Seconds for all servers together."""
MAX_BODY_BYTES = 1 << 20

KNOWN_PORTS = {
    11434: ("Ollama", "/v1"),
    1234: ("LM Studio", "/v1"),
    8080: ("llama.cpp", "/v1"),
    8000: ("vLLM", "/v1"),
    1337: ("Jan", "/v1"),
    5001: ("KoboldCpp", "/v1"),
    30000: ("SGLang", "/v1"),
    4000: ("LiteLLM", "/v1"),
    12434: ("Docker Model Runner", "/engines/v1"),
}
"""The server that usually listens on a port, and the path of its API. LocalAI uses 8080, transformers serve 8000."""

_WINDOW_FIELDS = (
    "context_length",
    "max_model_len",
    "max_input_tokens",
    "context_window",
    "max_context_length",
    "n_ctx",
)


class LocalServer(NamedTuple):
    """A server that answered: its usual name, its base URL, and the models it lists."""

    kind: str
    base_url: str
    models: tuple[dict[str, Any], ...] = ()
    needs_key: bool = False


def find_local_servers(ports: dict[int, tuple[str, str]] | None = None, timeout: float = TIMEOUT) -> list[LocalServer]:
    """The servers that list their models within `timeout` seconds, asked in parallel, in the order of the table."""
    ports = KNOWN_PORTS if ports is None else ports
    found: dict[int, LocalServer] = {}
    threads = [threading.Thread(target=_ask, args=(port, found, timeout), daemon=True) for port in ports]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [found[port] for port in ports if port in found]


def _ask(port: int, found: dict[int, LocalServer], timeout: float) -> None:
    import http.client  # imported lazily: takes 10 ms

    kind, path = KNOWN_PORTS.get(port, ("a server", "/v1"))
    base_url = f"http://127.0.0.1:{port}{path}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", f"{path}/models", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = json.loads(response.read(MAX_BODY_BYTES))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return
    finally:
        connection.close()
    if response.status in (401, 403) or (response.status == 400 and isinstance(body, dict) and "error" in body):
        found[port] = LocalServer(kind, base_url, needs_key=True)
    data = body.get("data") if isinstance(body, dict) else None
    if response.status == 200 and isinstance(data, list):
        models = tuple(m for m in data if isinstance(m, dict) and isinstance(m.get("id"), str))
        if models:
            found[port] = LocalServer(kind, base_url, models)


def context_window_of(model: dict[str, Any]) -> int | None:
    """The context window in tokens that an entry of a model list states, or None."""
    tables = [model, *(t for name in ("meta", "model_info") if isinstance(t := model.get(name), dict))]
    for name in _WINDOW_FIELDS:
        for table in tables:
            value = table.get(name)
            if type(value) is int and 64 <= value <= 1_000_000_000:
                return value
    return None
