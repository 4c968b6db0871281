"""Database URLs, parsed before any driver sees them, so that no driver's error can show a password."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from chatmem.errors import UsageError
from chatmem.text import register_secret

_PARTS = (
    r"(?P<scheme>[a-z][a-z0-9+]*)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<path>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
_SECRET = re.compile(r"password|passwd|secret|token|key$", re.IGNORECASE)


class Address(NamedTuple):
    """The parts of `scheme://user:password@host:port/path?query`, decoded."""

    scheme: str
    user: str
    password: str
    hosts: tuple[tuple[str, str], ...]
    """Each host with its port. The port is empty if none is given."""
    path: str
    query: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> Address:
        """The parts of a URL. Raises UsageError, which does not contain the password."""
        found = re.fullmatch(_PARTS, url, re.IGNORECASE)
        if not found:
            raise UsageError(
                f"The store {redact_url(url)!r} is not a valid URL.",
                "It should look like redis://user:password@host:6379/0. Write / and @ in a password as %2F and %40.",
            )
        query = dict(parse_qsl(found["query"] or "", keep_blank_values=True))
        for secret in (unquote(found["password"] or ""), *(query[name] for name in query if _SECRET.search(name))):
            register_secret(secret)
        hosts = tuple(_parse_host(host) for host in (found["hosts"] or "").split(",")) if found["hosts"] else ()
        return cls(
            found["scheme"].lower(),
            unquote(found["user"] or ""),
            unquote(found["password"] or ""),
            hosts,
            unquote(found["path"] or ""),
            query,
        )

    @property
    def display_url(self) -> str:
        """The URL without its password and other secrets, for messages."""
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in self.hosts)
        return f"{self.scheme}://{hosts}/{self.path}".rstrip("/")

    @property
    def identity(self) -> str:
        """Distinguishes one database from another. Contains no secrets."""
        query = "&".join(f"{name}={value}" for name, value in sorted(self.query.items()) if not _SECRET.search(name))
        return f"{self.scheme}|{self.user}|{self.hosts}|{self.path}|{query}"

    @property
    def is_remote(self) -> bool:
        """Whether it leads to another machine."""
        named = [self.query[name] for name in ("host", "hostaddr") if name in self.query]
        return any(not _is_this_machine(host) for host in [*(host for host, _ in self.hosts), *named])


def redact_url(url: str) -> str:
    """Any text that may be a URL, with everything in it that may be a password replaced."""
    head, mark, rest = url.partition("://")
    if not mark:  # perhaps a typo
        return re.sub(r"^([A-Za-z][\w+.-]*):\S*@", r"\1:…@", url)
    rest = f"…@{rest.rpartition('@')[2]}" if "@" in rest else rest
    return (
        head
        + mark
        + re.sub(r"([?&])([^=&]*)=([^&#]*)", lambda m: f"{m[1]}{m[2]}=…" if _SECRET.search(m[2]) else m[0], rest)
    )


def _parse_host(text: str) -> tuple[str, str]:
    """`host:port` or `[::1]:port` as its two parts."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:]*)(?::(\d{1,5}))?", text)
    if not found:
        raise UsageError("A host in the store's URL is invalid.", "It should look like db.example.org:5432.")
    return unquote(found[1]).strip("[]"), found[2] or ""


def _is_this_machine(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    import ipaddress  # imported lazily: slow

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
