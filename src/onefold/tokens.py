"""Access tokens: who may read a space through the Profile API, and who may use the configuration API.

A token is 256 random bits, shown once. The catalog keeps its SHA-256: nothing slower is needed, because there is
nothing to guess. A token belongs to one space; one without a space is for `/api`.
"""

from __future__ import annotations

import hashlib
import secrets
from threading import Lock
from time import monotonic
from typing import Any

from onefold import times
from onefold.catalog import Catalog, Token

PREFIX = "onefold_"  # so that people and secret scanners know one when they see it
RATE = 5_000  # requests a second, unless the token says otherwise
FRESH = 1.0  # seconds after which a revoked token has stopped working in every process
NOTED = 60_000_000  # µs: how often the last use is written at most


def issue(catalog: Catalog, space: str | None, name: str, rate: int, at: int) -> tuple[str, Token]:
    """Make a token: its text, which is kept nowhere, and what is kept."""
    text = PREFIX + secrets.token_urlsafe(32)
    token = Token(f"tok_{secrets.token_hex(4)}", digest(text), space, name, rate, at)
    catalog.add_token(token)
    return text, token


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def view(token: Token) -> dict[str, Any]:
    """A token as `onefold token list --json` prints it."""

    def time(micros: int | None) -> str | None:
        return None if micros is None else times.text(micros)

    return {
        "id": token.id,
        "space": token.space,
        "name": token.name,
        "rate": token.rate,
        "created_at": time(token.created_at),
        "used_at": time(token.used_at),
        "revoked_at": time(token.revoked_at),
    }


class Tokens:
    """The tokens that are good now, for a server that asks at every request. May be shared between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = Lock()
        self._good: dict[str, Token] = {}
        self._noted: dict[str, int] = {}
        self._read_at = -FRESH

    def find(self, text: str, at: int) -> Token | None:
        """The token with this text unless it was revoked; its use is noted. `at`: now, in µs. Raises StoreError."""
        wanted = digest(text)
        with self._lock:
            # One that is not known may be new.
            if monotonic() - self._read_at >= FRESH or wanted not in self._good:
                self._read_at = monotonic()
                self._good = {token.digest: token for token in self._catalog.tokens() if token.revoked_at is None}
            token = self._good.get(wanted)
            if token is None:
                return None
            due = at - self._noted.get(token.id, token.used_at or 0) >= NOTED
            if due:
                self._noted[token.id] = at
        if due:
            self._catalog.token_used(token.id, at)
        return token
