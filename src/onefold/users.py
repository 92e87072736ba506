"""Users: people who log in, each with a role. Of a password only its argon2 hash is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from onefold import times
from onefold.catalog import METADATA, Catalog
from onefold.errors import NotFound, OnefoldError
from onefold.nearest import nearest
from onefold.roles import ADMIN, ROLES

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 12, 1000  # characters of a password
NAME = 200  # characters of a name

USER = sa.Table(
    "user",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),  # as typed: a name or an e-mail address
    sa.Column("folded", sa.String, nullable=False, unique=True),  # the name, whatever its case
    sa.Column("role", sa.String, nullable=False),
    sa.Column("password", sa.String, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger),  # the last login
)
SESSION = sa.Table(
    "session",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),  # of the cookie's value, which is kept nowhere
    sa.Column("user", sa.String, nullable=False, index=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("address", sa.String, nullable=False),
)


@dataclass(frozen=True)
class User:
    """A user. Times in µs since the epoch, UTC."""

    id: str
    name: str
    role: str
    password: str
    created_at: int
    used_at: int | None

    def view(self) -> dict[str, Any]:
        """A user as `onefold user list --json` prints it."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "created_at": times.text(self.created_at),
            "used_at": None if self.used_at is None else times.text(self.used_at),
        }


def folded(name: str) -> str:
    return name.strip().casefold()


def exist(catalog: Catalog) -> bool:
    """Whether there is a user."""
    with catalog.transaction() as connection:
        return connection.execute(sa.select(USER.c.id).limit(1)).first() is not None


def every(catalog: Catalog) -> list[User]:
    """All users, oldest first."""
    with catalog.transaction() as connection:
        return [_user(row) for row in connection.execute(sa.select(USER).order_by(USER.c.created_at, USER.c.id))]


def find(catalog: Catalog, name: str) -> User | None:
    with catalog.transaction() as connection:
        row = connection.execute(sa.select(USER).where(USER.c.folded == folded(name))).first()
        return None if row is None else _user(row)


def pick(catalog: Catalog, name: str) -> User:
    """Raises NotFound."""
    user = find(catalog, name)
    if user is None:
        names = [found.name for found in every(catalog)]
        listed = f"there are {', '.join(names)}" if names else "there are none; `onefold user create` makes one"
        raise NotFound(f"no user {name!r}{nearest(name, names)}; {listed}")
    return user


def create(catalog: Catalog, name: str, role: str, password: str, at: int, *, first: bool = False) -> User:
    """Add a user; `first`: only where there is none yet. Raises OnefoldError."""
    name = name.strip()
    if not name or len(name) > NAME or not name.isprintable():
        raise OnefoldError(f"a user's name has 1 to {NAME} characters, none of them invisible", code="invalid_name")
    user = User(f"usr_{secrets.token_hex(4)}", name, _role(role), hashed(password, name), at, None)
    with catalog.transaction() as connection:
        taken = USER.c.folded == folded(name) if not first else sa.true()
        if connection.execute(sa.select(USER.c.id).where(taken).limit(1)).first() is not None:
            sentence = "there is a user already; log in" if first else f"there is a user {name!r} already"
            raise OnefoldError(sentence, code="user_exists")
        connection.execute(USER.insert().values(**vars(user), folded=folded(name)))
    return user


def change(catalog: Catalog, name: str, *, role: str | None = None, password: str | None = None,
           keep: str = "") -> User:  # fmt: skip
    """Give a user another role or password. Another password ends their sessions, but the one `keep`.

    Raises NotFound, OnefoldError.
    """
    user = pick(catalog, name)
    values = {} if role is None else {"role": _role(role)}
    if password is not None:
        values["password"] = hashed(password, user.name)
    with catalog.transaction() as connection:
        if values:
            connection.execute(USER.update().where(USER.c.id == user.id).values(**values))
        _still_an_admin(connection, user)
        if password is not None:
            connection.execute(SESSION.delete().where((SESSION.c.user == user.id) & (SESSION.c.digest != keep)))
    return user


def remove(catalog: Catalog, name: str) -> User:
    """Remove a user and end their sessions. Raises NotFound, OnefoldError."""
    user = pick(catalog, name)
    with catalog.transaction() as connection:
        connection.execute(SESSION.delete().where(SESSION.c.user == user.id))
        connection.execute(USER.delete().where(USER.c.id == user.id))
        _still_an_admin(connection, user)
    return user


def _still_an_admin(connection: sa.Connection, user: User) -> None:
    """Takes the change back where nobody would be left to change it."""
    if user.role == ADMIN and not connection.execute(sa.select(USER.c.id).where(USER.c.role == ADMIN)).first():
        raise OnefoldError(f"{user.name} is the only admin; make another one first", code="last_admin")


def _role(role: str) -> str:
    if role not in ROLES:
        raise OnefoldError(f"{role!r} is no role{nearest(role, ROLES) or '; write ' + ', '.join(ROLES)}",
                           code="invalid_role")  # fmt: skip
    return role


def _user(row: sa.Row[Any]) -> User:
    return User(row.id, row.name, row.role, row.password, row.created_at, row.used_at)


# --- passwords ----------------------------------------------------------------------------------------


def hashed(password: str, name: str) -> str:
    """The hash of a new password. Raises OnefoldError if it is too easy to guess."""
    if not SHORTEST <= len(password) <= LONGEST:
        said = f"a password has {SHORTEST} to {LONGEST} characters, this one {len(password)}"
        raise OnefoldError(said, code="weak_password")
    if folded(password) == folded(name) or len(set(password)) < 4:
        raise OnefoldError("that password is too easy to guess; take a few words", code="weak_password")
    return _hasher().hash(password)


def verified(user: User | None, password: str) -> bool:
    """Whether it is the user's password. It takes the same time when there is no such user."""
    from argon2.exceptions import VerificationError

    try:
        return _hasher().verify(_nobody() if user is None else user.password, password) and user is not None
    except VerificationError:
        return False


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobody() -> str:
    """A hash that no password has."""
    return _hasher().hash(secrets.token_urlsafe(32))
