"""Who may ask, for what, and how often."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Collection, Mapping
from hmac import compare_digest
from threading import Lock
from time import monotonic, time_ns
from urllib.parse import urlsplit

from onefold.api import HERE
from onefold.api.answer import Refused
from onefold.catalog import Token
from onefold.roles import ADMIN, Who
from onefold.sessions import csrf
from onefold.tokens import Tokens
from onefold.workspace import Workspace


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


def cookie_name(host: str) -> str:
    """The name of the session cookie for a `Host` header: browsers do not tell the ports of a host apart."""
    port = re.search(r":(\d+)\Z", host)
    return f"onefold_session_{port[1]}" if port else "onefold_session"


def cookie(headers: Mapping[str, str]) -> str | None:
    """The session cookie's value in the headers of a request (lower-case names)."""
    name = cookie_name(headers.get("host", ""))
    for pair in headers.get("cookie", "").split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name and value:
            return value
    return None


def set_cookie(headers: Mapping[str, str], token: str, seconds: int, *, secure: bool) -> str:
    """The `Set-Cookie` that begins a session, or with no seconds ends it. Scripts cannot read it."""
    kept = f"Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"
    return f"{cookie_name(headers.get('host', ''))}={token}; {kept}"


def from_here(headers: Mapping[str, str], hosts: Collection[str]) -> None:
    """Refuse what a page of somewhere else sends through somebody's browser. Raises Refused, 403.

    `hosts` are the names by which the server may be asked; an address made of numbers can only be its own.
    """
    host = headers.get("host", "")
    name = re.sub(r":\d*\Z", "", host).lower()
    if name not in hosts and not _numeric(name):
        why = f"the server is not asked by the name {host!r} here; `onefold serve --url` names the address it has"
        raise Refused(403, "forbidden_host", why)
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Refused(403, "forbidden_origin", "this address answers no page of another origin")


def _numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class Gate:
    """Lets pass who has an admin token or a session, and says who it is: the gate of everything below /api."""

    def __init__(self, workspace: Workspace, hosts: Collection[str] = HERE) -> None:
        """`hosts` are the names by which the server may be asked."""
        self._workspace = workspace
        self._hosts = frozenset(host.lower() for host in hosts)
        self._tokens = Tokens(workspace.catalog)
        self._meter = Meter()

    def from_here(self, headers: Mapping[str, str]) -> None:
        """As the function of that name."""
        from_here(headers, self._hosts)

    def admit(self, headers: Mapping[str, str], method: str, address: str) -> Who:
        """Who asks, by an admin token or a session; with a session only a page of ours may change anything.

        Raises Refused, 401, 403 and 429.
        """
        authorization = headers.get("authorization")
        value = cookie(headers)
        if authorization is None and value is not None:
            session = self._workspace.session(value, address)
            if session is None:
                raise Refused(401, "authentication_error", "the session has ended; log in again")
            if method not in ("GET", "HEAD") and not compare_digest(
                headers.get("x-csrf-token", "").encode(), csrf(session.who).encode()
            ):
                why = "a change by a session carries its X-CSRF-Token; `GET /api/session` tells it"
                raise Refused(403, "csrf_token_needed", why)
            return session.who
        text = bearer(authorization or "")
        token = self._tokens.find(text, time_ns() // 1000) if text else None
        if token is None or token.space is not None:
            message = (
                "send an admin token as `Authorization: Bearer TOKEN`; `onefold token create --admin` makes one"
                if text is None
                else "the token is unknown, was revoked, or is not an admin token"
            )
            raise Refused(401, "authentication_error", message, {"WWW-Authenticate": 'Bearer realm="onefold"'})
        self._meter.count(token)
        return Who(token.id, ADMIN, "token", address)
