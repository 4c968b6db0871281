"""The context window that a server says a model has: what is loaded, where the server tells, else what it lists.

llama.cpp: `/props`. Ollama: `/api/ps`, then `num_ctx` in the answer of `/api/show`; the `context_length` there is only
what the model was trained with. LM Studio: `/api/v0/models`. LiteLLM: `/model/info`. Others: a field of the entry in
`/v1/models`. A server is recognised by `owned_by` in that list, so that no other one is asked what it does not know.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from chatmem.models.base import is_nearby
from chatmem.models.discovery import MAX_BODY_BYTES, context_window_of

TIMEOUT = 2.0
"""Seconds that each request may take."""
MIN_WINDOW, MAX_WINDOW = 64, 1_000_000_000

Fetch = Callable[..., Any]
"""Requests a path of the server, with `body=` by POST. Returns the JSON, or None."""


def served_window(base_url: str, model: str, key: str, entries: Sequence[dict[str, Any]]) -> int | None:
    """The window of a model in tokens, or None. `entries` is the server's model list. Takes a moment, raises nothing.

    If a single model is listed, it is the one that answers, whatever name is used.
    """
    entry = next((e for e in entries if e["id"] == model), entries[0] if len(entries) == 1 else None)
    if entry is None:
        return None
    ask = _LOADED_WINDOWS.get(str(entry.get("owned_by"))) if is_nearby(base_url) else None
    loaded = ask(_fetcher(base_url, key), str(entry["id"])) if ask else None
    return loaded or context_window_of(entry)


def _llama_cpp(fetch: Fetch, model: str) -> int | None:
    props = fetch("props")
    settings = _table(props, "default_generation_settings")
    return _window(settings.get("n_ctx")) or _window(_table(props).get("n_ctx"))


def _ollama(fetch: Fetch, model: str) -> int | None:
    names = (model, f"{model}:latest")
    loaded = next((m for m in _list(fetch("api/ps"), "models") if m.get("name") in names), {})
    if window := _window(loaded.get("context_length")):
        return window
    parameters = _table(fetch("api/show", body={"model": model})).get("parameters")
    text = parameters if isinstance(parameters, str) else ""
    found = re.search(r"^[ \t]*num_ctx[ \t]+(\d{1,10})[ \t]*$", text, re.MULTILINE)
    return _window(int(found[1])) if found else None


def _lm_studio(fetch: Fetch, model: str) -> int | None:
    entry = next((m for m in _list(fetch("api/v0/models"), "data") if m.get("id") == model), {})
    return _window(entry.get("loaded_context_length"))


def _lite_llm(fetch: Fetch, model: str) -> int | None:
    entry = next((m for m in _list(fetch("model/info"), "data") if m.get("model_name") == model), {})
    info = _table(entry, "model_info")
    return _window(info.get("max_input_tokens")) or _window(info.get("max_tokens"))


_LOADED_WINDOWS: dict[str, Callable[[Fetch, str], int | None]] = {
    "llamacpp": _llama_cpp,
    "library": _ollama,
    "organization_owner": _lm_studio,
    "openai": _lite_llm,  # a server nearby that says so is a proxy
}
"""How to ask a server for the window of a loaded model, by `owned_by` of its models."""


def _fetcher(base_url: str, key: str) -> Fetch:
    """Requests to the root of a server that is on this machine or in a private network, without a proxy."""
    import http.client  # imported lazily: takes 10 ms
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """A redirect could take the key elsewhere."""

        def redirect_request(self, *details: Any) -> None:
            return None

    parts = urlsplit(base_url)
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects)

    def fetch(path: str, body: dict[str, str] | None = None) -> Any:
        data = json.dumps(body).encode() if body else None
        headers = {"Accept": "application/json", "Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{root}/{path}", data, headers)  # the scheme was checked
        try:
            with opener.open(request, timeout=TIMEOUT) as response:
                return json.loads(_read(response))
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            return None

    return fetch


def _read(response: Any) -> bytes:
    """The body of a response, up to a limit in bytes and in time."""
    deadline, data = time.monotonic() + TIMEOUT, b""
    while len(data) < MAX_BODY_BYTES and time.monotonic() < deadline and (block := response.read1(65536)):
        data += block
    return data


def _window(value: object) -> int | None:
    return value if type(value) is int and MIN_WINDOW <= value <= MAX_WINDOW else None


def _table(body: object, name: str = "") -> dict[str, Any]:
    """A JSON object, or the one under a name in it. Empty if there is none."""
    found = body.get(name) if name and isinstance(body, dict) else body
    return found if isinstance(found, dict) else {}


def _list(body: object, name: str) -> list[dict[str, Any]]:
    """The objects in the list under a name of a JSON object."""
    found = _table(body).get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
