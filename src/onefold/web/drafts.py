"""What somebody typed into an editor and did not save: by user and object, in `.onefold/drafts.json`.

So it survives a lost connection, a reload and a restart of the server. Editors of models, mappings and identity rules
keep drafts; forms that take passwords never do.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Any

FILE = "drafts.json"
DAYS = 30  # a draft that nobody touched for longer is forgotten
# File -> user -> object -> draft; one process serves the app, so what is here is what is in the file.
_KEPT: dict[Path, dict[str, dict[str, Draft]]] = {}


@dataclass(frozen=True)
class Draft:
    """What was typed, the version of the object that it was typed over, and when, in seconds since 1970."""

    value: Any
    version: str
    at: float


def find(home: Path, user: str, name: str) -> Draft | None:
    """The draft that a user has of an object."""
    return _all(home).get(user, {}).get(name)


def keep(home: Path, user: str, name: str, value: Any, version: str = "") -> None:
    """Keep a draft; with None as value forget it."""
    found = _all(home)
    if value is None:
        if found.get(user, {}).pop(name, None) is None:
            return
    else:
        found.setdefault(user, {})[name] = Draft(value, version, time())
    text = json.dumps({user: {name: asdict(one) for name, one in own.items()} for user, own in found.items()})
    fresh = home / f".{FILE}"
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    fresh.replace(home / FILE)


def _all(home: Path) -> dict[str, dict[str, Draft]]:
    file = home / FILE
    if file not in _KEPT:
        try:
            said = json.loads(file.read_text())
            _KEPT[file] = {
                user: {name: Draft(**one) for name, one in own.items() if one["at"] > time() - DAYS * 86_400}
                for user, own in said.items()
            }
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            _KEPT[file] = {}  # none, or written by another version: nothing that was saved is lost
    return _KEPT[file]
