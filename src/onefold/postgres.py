"""What a PostgreSQL url says: for the warehouse and the store alike. No message may hold its password."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

CONNECT_TIMEOUT = 10  # seconds; `connect_timeout` in the url overrides it

# Anything else is refused unread: a mistake there may put a piece of the password where a host or name should be.
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?#\s]*)(?::[^:@/?#\s]*)?@)?(?P<host>[^@/?#\s]*)"
    r"(?:/(?P<database>[^@/?#\s]*))?(?P<options>\?[^@#\s]*)?"
)


def name(url: str) -> str | None:
    """user@host/database, never the password; None for a url that cannot be read."""
    found = _URL.fullmatch(url)
    if not found or re.search(r"%(?![0-9a-fA-F]{2})", url):
        return None
    user = f"{unquote(found['user'])}@" if found["user"] else ""
    return f"{user}{found['host'] or 'localhost'}" + (f"/{unquote(found['database'])}" if found["database"] else "")


def patient(url: str) -> str:
    """The url with a limit of how long a connection may take, unless there is one."""
    if "connect_timeout=" in url or "PGCONNECT_TIMEOUT" in os.environ:
        return url
    return f"{url}{'&' if '?' in url else '?'}connect_timeout={CONNECT_TIMEOUT}"


def refused(text: str) -> bool:
    """Whether an error of connecting says that the user or the password is wrong."""
    return bool(re.search(r"authentication failed|no password supplied|role \"[^\"]*\" does not exist", text))


def unreachable(text: str) -> str:
    """Why a server cannot be reached, from an error of connecting."""
    found = re.search(r"(?:could not translate|connection to server|timeout expired)[^\n]*", text)
    # Other complaints are about the url itself, and quote it.
    return found[0] if found else re.sub(r'"[^"\n]*"', "…", text.split("connect: ")[-1]).strip().split("\n")[0]


UNREADABLE = (
    "cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password"
    " percent-encoded (@ as %40, / as %2F, # as %23, % as %25)"
)
