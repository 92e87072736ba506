"""Sessions: logging in, and the cookie that says who is asking.

The cookie's value is 256 random bits; the catalog keeps its SHA-256. A session ends a week after its last use, after a
month, or when it is ended. Guessing is slowed down, per user and per address.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from hmac import compare_digest
from threading import Lock
from time import monotonic
from typing import Any

import sqlalchemy as sa

from onefold import users
from onefold.catalog import Catalog
from onefold.errors import LoginFailed, OnefoldError, TooManyAttempts
from onefold.roles import ADMIN, Who
from onefold.users import SESSION, USER, User

MINUTE = 60_000_000  # µs
# How long a session lasts: after its last use, and at all.
UNUSED, LONGEST = 7 * 24 * 60 * MINUTE, 30 * 24 * 60 * MINUTE
FREE = 5  # wrong passwords in a row before the first wait
SLOWEST = 60.0  # seconds: a wait doubles from one second up to this
FORGOTTEN = 3600.0  # seconds after which wrong passwords no longer count
REMEMBERED = 10_000  # names and addresses


@dataclass(frozen=True)
class Session:
    """A session: who it is, when it ends (µs since the epoch), and the cookie's value where it was just begun."""

    who: Who
    expires_at: int
    token: str = field(default="", repr=False)


class Attempts:
    """Counts wrong passwords, and says who has to wait. May be shared between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failed: dict[str, tuple[int, float]] = {}  # name or address -> how often, and when last

    def begin(self, *keys: str) -> None:
        """Count an attempt as failed until it succeeds, so that many at once gain nothing. Raises TooManyAttempts."""
        now = monotonic()
        with self._lock:
            left = max(self._left(key, now) for key in keys)
            if left > 0:
                raise TooManyAttempts(left)
            for key in keys:
                count, _ = self._failed.pop(key, (0, now))
                self._failed[key] = (count + 1, now)
            while len(self._failed) > REMEMBERED:
                del self._failed[next(iter(self._failed))]

    def succeeded(self, *keys: str) -> None:
        with self._lock:
            for key in keys:
                self._failed.pop(key, None)

    def _left(self, key: str, now: float) -> float:
        count, since = self._failed.get(key, (0, now))
        if now - since > FORGOTTEN:
            del self._failed[key]
            return 0.0
        wait: float = min(2.0 ** min(count - FREE, 10), SLOWEST) if count >= FREE else 0.0
        return since + wait - now


class Sessions:
    """The sessions of a workspace, for one server. May be shared between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._attempts = Attempts()
        self._accepting = Lock()
        self._offered: str | None = None  # the digest of the one-time link's token

    def login(self, name: str, password: str, address: str, at: int) -> Session:
        """Begin a session. `at`: now, in µs. Raises LoginFailed, TooManyAttempts."""
        return self._begin(self._verified(name, password, address), address, at)

    def change_password(self, who: Who, old: str, new: str) -> None:
        """Another password for a user who knows the old one. Raises LoginFailed, TooManyAttempts, OnefoldError."""
        users.change(self._catalog, self._verified(who.name, old, who.address).name, password=new, keep=who.session)

    def _verified(self, name: str, password: str, address: str) -> User:
        """The user with this name and password."""
        keys = (f"name {users.folded(name)}", f"address {address}")
        self._attempts.begin(*keys)
        user = users.find(self._catalog, name[: users.NAME])
        if not users.verified(user, password[: users.LONGEST + 1]) or user is None:
            raise LoginFailed("the name or the password is wrong; an admin can set another password")
        self._attempts.succeeded(*keys)
        return user

    def _begin(self, user: User, address: str, at: int) -> Session:
        token = secrets.token_urlsafe(32)
        session = digest(token)
        with self._catalog.transaction() as connection:
            connection.execute(SESSION.delete().where(SESSION.c.expires_at < at))
            connection.execute(
                SESSION.insert().values(
                    digest=session, user=user.id, created_at=at, used_at=at, expires_at=at + UNUSED, address=address
                )
            )
            connection.execute(USER.update().where(USER.c.id == user.id).values(used_at=at))
        who = Who(user.name, user.role, address=address, session=session)
        return Session(who, at + UNUSED, token)

    def find(self, token: str, address: str, at: int) -> Session | None:
        """The session of a cookie's value, unless it has ended. `at`: now, in µs."""
        mine = SESSION.c.digest == digest(token)
        wanted = sa.select(SESSION, USER.c.name, USER.c.role).join(USER, USER.c.id == SESSION.c.user).where(mine)
        with self._catalog.transaction() as connection:
            row = connection.execute(wanted).first()
        if row is None or row.expires_at <= at:
            return None
        expires_at = min(at + UNUSED, row.created_at + LONGEST)
        if at - row.used_at >= MINUTE:
            with self._catalog.transaction() as connection:
                connection.execute(SESSION.update().where(mine).values(used_at=at, expires_at=expires_at))
        return Session(Who(row.name, row.role, address=address, session=row.digest), expires_at)

    def end(self, session: str) -> None:
        """End a session, by its digest."""
        with self._catalog.transaction() as connection:
            connection.execute(SESSION.delete().where(SESSION.c.digest == session))

    # --- the first user -------------------------------------------------------------------------------

    def offer(self) -> str | None:
        """The token of a link by which the first user is made, in place of an earlier one; None if there is a user."""
        if users.exist(self._catalog):
            return None
        token = secrets.token_urlsafe(32)
        self._offered = digest(token)
        return token

    def offered(self, token: str) -> bool:
        """Whether the link with this token can still be used."""
        return self._offered is not None and compare_digest(self._offered, digest(token))

    def accept(self, token: str, name: str, password: str, address: str, at: int) -> Session:
        """Make the first user, an admin, and begin a session; the link is then used up. Raises OnefoldError."""
        with self._accepting:
            if not self.offered(token):
                why = "the link was used, or is of an earlier start; while there is no user, `onefold serve` prints one"
                raise OnefoldError(why, code="link_expired")
            user = users.create(self._catalog, name, ADMIN, password, at, first=True)
            self._offered = None
        return self._begin(user, address, at)


def end_all(catalog: Catalog) -> None:
    """End the sessions that a catalog holds, as where it was made of a backup: whoever had one logs in again."""
    with catalog.transaction() as connection:
        connection.execute(SESSION.delete())


def digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def csrf(who: Who) -> str:
    """What a state change of a session must carry besides the cookie: only a page that we served knows it."""
    return digest(f"csrf {who.session}") if who.session else ""


def view(who: Who) -> dict[str, Any]:
    """Who asks, as `GET /api/session` says."""
    return {"name": who.name, "role": who.role, "kind": who.kind, "csrf": csrf(who)}
