"""The address of a database: read by us first, so that no driver's error can show its password."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from chatmem.errors import WrongUse

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
    """Each host with its port, empty where none is given."""
    path: str
    query: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> Address:
        """The parts of a URL. Raises WrongUse, without the URL's password."""
        found = re.fullmatch(_PARTS, url, re.IGNORECASE)
        if not found:
            raise WrongUse(
                f"The store {masked(url)!r} is no address.",
                "It looks like redis://user:password@host:6379/0; a / or @ in a password is written %2F or %40.",
            )
        hosts = tuple(_host(host) for host in (found["hosts"] or "").split(",")) if found["hosts"] else ()
        return cls(
            found["scheme"].lower(),
            unquote(found["user"] or ""),
            unquote(found["password"] or ""),
            hosts,
            unquote(found["path"] or ""),
            dict(parse_qsl(found["query"] or "", keep_blank_values=True)),
        )

    @property
    def shown(self) -> str:
        """The address as a person may see it: without its password and what else may be secret."""
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in self.hosts)
        return f"{self.scheme}://{hosts}/{self.path}".rstrip("/")

    @property
    def identity(self) -> str:
        """What tells one place from another: all of it but passwords."""
        query = "&".join(f"{name}={value}" for name, value in sorted(self.query.items()) if not _SECRET.search(name))
        return f"{self.scheme}|{self.user}|{self.hosts}|{self.path}|{query}"

    @property
    def remote(self) -> bool:
        """Whether it leads off this machine."""
        named = [self.query[name] for name in ("host", "hostaddr") if name in self.query]
        return any(not _here(host) for host in [*(host for host, _ in self.hosts), *named])


def masked(url: str) -> str:
    """Any text that may be an address, with what may be a password in it made unreadable."""
    head, mark, rest = url.partition("://")
    if not mark:  # mistyped, perhaps
        return re.sub(r"^([A-Za-z][\w+.-]*):\S*@", r"\1:…@", url)
    rest = f"…@{rest.rpartition('@')[2]}" if "@" in rest else rest
    return (
        head
        + mark
        + re.sub(r"([?&])([^=&]*)=([^&#]*)", lambda m: f"{m[1]}{m[2]}=…" if _SECRET.search(m[2]) else m[0], rest)
    )


def _host(text: str) -> tuple[str, str]:
    """`host:port` or `[::1]:port` as its two parts."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:]*)(?::(\d{1,5}))?", text)
    if not found:
        raise WrongUse("A host in the store's address makes no sense.", "It looks like db.example.org:5432.")
    return unquote(found[1]).strip("[]"), found[2] or ""


def _here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    import ipaddress  # only who has a database needs it

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
