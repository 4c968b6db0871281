"""Local model servers that are already running, found by asking their usual ports. No key is sent."""

from __future__ import annotations

import json
import threading
from typing import Any, NamedTuple

PATIENCE = 0.6
"""Seconds for all of them together."""

PORTS = {
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
"""Which server usually listens where; LocalAI shares llama.cpp's port, transformers serve vLLM's."""


class Found(NamedTuple):
    """A server that answered: what usually runs there, its address, and the models it lists."""

    kind: str
    base_url: str
    models: tuple[dict[str, Any], ...] = ()
    needs_key: bool = False


def servers(ports: dict[int, tuple[str, str]] | None = None, patience: float = PATIENCE) -> list[Found]:
    """The servers that answer `/models` within `patience` seconds, asked in parallel, in the table's order."""
    ports = PORTS if ports is None else ports
    found: dict[int, Found] = {}
    threads = [threading.Thread(target=_ask, args=(port, found, patience), daemon=True) for port in ports]
    for thread in threads:
        thread.start()
    deadline = threading.Event()
    timer = threading.Timer(patience, deadline.set)
    timer.daemon = True
    timer.start()
    for thread in threads:
        while thread.is_alive() and not deadline.is_set():
            thread.join(0.02)
    timer.cancel()
    return [found[port] for port in ports if port in found]


def _ask(port: int, found: dict[int, Found], patience: float) -> None:
    import http.client  # ten milliseconds that only this needs

    kind, path = PORTS.get(port, ("a server", "/v1"))
    base_url = f"http://127.0.0.1:{port}{path}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", f"{path}/models", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = json.loads(response.read(1 << 20))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return
    finally:
        connection.close()
    if response.status in (401, 403) or (response.status == 400 and isinstance(body, dict) and "error" in body):
        found[port] = Found(kind, base_url, needs_key=True)
    data = body.get("data") if isinstance(body, dict) else None
    if response.status == 200 and isinstance(data, list):
        models = tuple(m for m in data if isinstance(m, dict) and isinstance(m.get("id"), str))
        if models:
            found[port] = Found(kind, base_url, models)


def window_of(model: dict[str, Any]) -> int | None:
    """The context window that an entry of `/models` states, in tokens."""
    meta = model.get("meta")
    places = (
        model,
        meta if isinstance(meta, dict) else {},
        model.get("model_info") if isinstance(model.get("model_info"), dict) else {},
    )
    for name in (
        "context_length",
        "max_model_len",
        "max_input_tokens",
        "context_window",
        "max_context_length",
        "n_ctx",
    ):
        for place in places:
            value = place.get(name) if isinstance(place, dict) else None
            if type(value) is int and 64 <= value <= 1_000_000_000:
                return value
    return None
