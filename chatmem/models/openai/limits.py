"""Limits for the bodies of responses: decoded bytes, and time for error bodies.

The client decodes compressed bodies without a limit: a gzip bomb of a megabyte becomes a gigabyte. So chatmem asks for
uncompressed bodies, and decodes what is compressed nevertheless itself, piece by piece.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import Any

MAX_BODY_BYTES = (16 << 20) + 1
"""The most decoded bytes of a body that is not an event stream. The rest is not read."""
MAX_ERROR_BYTES = 64 << 10
"""The most decoded bytes of the body of an error."""
MAX_ERROR_SECONDS = 10.0
"""The most seconds that the body of an error may take."""
PIECE_BYTES = 64 << 10

REQUEST_HEADERS = {"Accept-Encoding": "identity"}


def limit_response(response: Any) -> None:
    """A response hook of the client: limit the body, before any of it is read."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        del response.headers["content-encoding"]
    is_error, is_stream = response.status_code >= 400, "event-stream" in response.headers.get("content-type", "")
    max_bytes = MAX_ERROR_BYTES if is_error else None if is_stream else MAX_BODY_BYTES
    seconds = MAX_ERROR_SECONDS if is_error else None
    is_compressed = encoding in ("gzip", "x-gzip", "deflate")
    response.stream = _limited_stream(response.stream, is_compressed, max_bytes, seconds)


def limited(
    chunks: Iterator[bytes], is_compressed: bool, max_bytes: int | None, seconds: float | None
) -> Iterator[bytes]:
    """The chunks of a body, decoded, up to a number of bytes and for some seconds. A damaged body ends early."""
    deadline = time.monotonic() + seconds if seconds is not None else None
    rest = max_bytes
    for piece in _decompressed(chunks) if is_compressed else chunks:
        if rest is not None:
            piece = piece[:rest]
            rest -= len(piece)
        yield piece
        if rest == 0 or (deadline is not None and time.monotonic() > deadline):
            return


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """gzip or zlib data, decoded in pieces of at most `PIECE_BYTES`."""
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for chunk in chunks:
            data = chunk
            while data:
                yield decoder.decompress(data, PIECE_BYTES)
                data = decoder.unconsumed_tail
    except zlib.error:
        return


def _limited_stream(stream: Any, *limits: Any) -> Any:
    import httpx2  # imported lazily: slow

    class LimitedStream(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from limited(iter(stream), *limits)

        def close(self) -> None:
            stream.close()

    return LimitedStream()
