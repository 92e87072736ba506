"""Who may ask, and how often."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from threading import Lock
from time import monotonic, time_ns
from urllib.parse import urlsplit

from onefold.api.answer import Refused
from onefold.catalog import Catalog, Token
from onefold.tokens import Tokens

# The names by which a server that serves this host only is asked.
HERE = ("localhost", "127.0.0.1", "[::1]")


def basic(authorization: str) -> str | None:
    """The user name of an `Authorization: Basic` header with an empty password, else None."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return name if name and colon and not password else None


def bearer(authorization: str) -> str | None:
    """The token of an `Authorization: Bearer` header, else None."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() or None if scheme.lower() == "bearer" else None


class Meter:
    """Holds each token to its rate: as many requests at once as it may send in a second, then evenly."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._left: dict[str, tuple[float, float]] = {}  # id -> requests left, and when that was

    def count(self, token: Token) -> None:
        """Count one request. Raises Refused, 429."""
        now = monotonic()
        with self._lock:
            left, since = self._left.get(token.id, (float(token.rate), now))
            left = min(float(token.rate), left + (now - since) * token.rate)
            allowed = left >= 1
            self._left[token.id] = (left - 1 if allowed else left, now)
        if not allowed:
            message = f"token {token.id} may send {token.rate} requests a second; wait a second and send fewer"
            raise Refused(429, "rate_limit_error", message, {"Retry-After": "1"})


class Admins:
    """Lets pass what has an admin token and comes from here: the gate of everything below /api."""

    def __init__(self, catalog: Catalog, hosts: Sequence[str] = HERE) -> None:
        """`hosts` are the names by which the server may be asked."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._tokens = Tokens(catalog)
        self._meter = Meter()

    def from_here(self, headers: dict[str, str]) -> None:
        """Refuse what a page of somewhere else sends through somebody's browser. Raises Refused, 403."""
        host = headers.get("host", "")
        if re.sub(r":\d*\Z", "", host).lower() not in self._hosts:
            raise Refused(403, "forbidden_host", f"the server is not asked by the name {host!r} here")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Refused(403, "forbidden_origin", "the configuration API answers no page of another origin")

    def admit(self, headers: dict[str, str]) -> None:
        """Let a request pass that has an admin token. Raises Refused, 401 and 429."""
        text = bearer(headers.get("authorization", ""))
        token = self._tokens.find(text, time_ns() // 1000) if text else None
        if token is None or token.space is not None:
            message = (
                "send an admin token as `Authorization: Bearer TOKEN`; `onefold token create --admin` makes one"
                if text is None
                else "the token is unknown, was revoked, or is not an admin token"
            )
            raise Refused(401, "authentication_error", message, {"WWW-Authenticate": 'Bearer realm="onefold"'})
        self._meter.count(token)
