"""Who asks, and what each role may do: viewers read, editors change and sync, admins also say who may.

The facade's methods that need more than a viewer are marked with `needs`; so the command line, the web app and the API
are held to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from onefold.errors import Forbidden

VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"
ROLES = (VIEWER, EDITOR, ADMIN)  # each may what those before it may


@dataclass(frozen=True)
class Who:
    """Somebody who asks: a user by name, a token by its id, or whoever sits at the command line."""

    name: str
    role: str
    kind: str = "user"  # user, token, cli
    address: str = ""  # where the request came from
    session: str = field(default="", repr=False)  # the digest of the session, if it came with one

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    def need(self, role: str) -> None:
        """Raises Forbidden."""
        if not self.may(role):
            article = "an" if role[0] in "ae" else "a"
            own = "an" if self.role[0] in "ae" else "a"
            raise Forbidden(
                f"this takes {article} {role}, and {self.name} is {own} {self.role}; an admin can change that"
            )


def here() -> Who:
    """Whoever sits at the command line: who can read the folder can do anything with it."""
    from getpass import getuser

    try:
        name = getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        name = "somebody"
    return Who(name, ADMIN, "cli")


class _Asked(Protocol):
    @property
    def who(self) -> Who: ...


P = ParamSpec("P")
S = TypeVar("S", bound=_Asked)
T = TypeVar("T")
Method = Callable[Concatenate[S, P], T]


def needs(role: str) -> Callable[[Method[S, P, T]], Method[S, P, T]]:
    """Marks a method of the facade that takes at least this role. It then raises Forbidden for anybody else."""

    def marked(method: Method[S, P, T]) -> Method[S, P, T]:
        @wraps(method)
        def asked(self: S, /, *args: P.args, **options: P.kwargs) -> T:
            self.who.need(role)
            return method(self, *args, **options)

        asked.role = role  # type: ignore[attr-defined] # read by `role_of`
        return asked

    return marked


def role_of(method: Any) -> str:
    """The role that a method of the facade takes."""
    role: str = getattr(method, "role", VIEWER)
    return role
