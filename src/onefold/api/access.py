"""Who may ask, and how often."""

from __future__ import annotations

import base64
import binascii
from threading import Lock
from time import monotonic

from onefold.api.answer import Refused
from onefold.catalog import Token


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
