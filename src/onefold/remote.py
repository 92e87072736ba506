"""A destination whose calls go elsewhere: what the workspace keeps of it, and where it delivers to.

Its state, runs and rejected rows lie in a store of their own, with the tables of a space: in a file, or where the
catalog is in PostgreSQL in a schema beside it, so that every host knows what was delivered.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from onefold.errors import EndpointError, StoreError

if TYPE_CHECKING:
    from onefold.config import Destination, Mapping, Workspace
    from onefold.deliver import Remote
    from onefold.stores import Store

# How these stores are named, and where they lie below `.onefold`; no slug has a slash in it, or the colon of a schema.
REMOTE = "destinations/"
UNSET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")  # what stays of a variable that is not set


def label(name: str) -> str:
    """What people call a store: of a space, or of a remote destination."""
    return f"destination {name.removeprefix(REMOTE)}" if name.startswith(REMOTE) else f"space {name}"


def store(name: str, home: Path, catalog: str | None) -> Store:
    """Open the store of a remote destination, REMOTE and its slug; `catalog` is a database's url. Raises StoreError."""
    from onefold import stores

    file = home / f"{name}.db"
    if not catalog:
        return stores.open("sqlite", file)
    from onefold.catalog import DESTINATION, placed

    url, schema = placed(catalog)
    found = stores.open(url, file, f"{schema}{DESTINATION}{file.stem}")
    try:
        if file.exists():
            _move(file, found)
    except BaseException:
        found.close()
        raise
    return found


def _move(file: Path, target: Store) -> None:
    """Bring what lies in a file to where it is kept now. Raises StoreError."""
    from filelock import FileLock

    from onefold import stores
    from onefold.stores.copy import copy

    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            return  # another process did it meanwhile
        try:
            with stores.open("sqlite", file) as source, source.turn(keep=False):
                copy(source, target)
        except StoreError as error:
            if error.code != "not_empty":
                raise
            raise StoreError(
                f"what destination {file.stem} delivered is recorded in {file} and in the catalog's database too;"
                " keep the newer one: move the file away, or drop the schema",
                code="not_empty",
            ) from None
        file.rename(file.with_suffix(".moved"))
        for left in (f"{file}-wal", f"{file}-shm"):
            with suppress(FileNotFoundError):
                Path(left).unlink()


def of(workspace: Workspace, destination: Destination, mapping: Mapping) -> Remote:
    """Where a mapping of a remote destination delivers to. Raises EndpointError."""
    from onefold.deliver import Remote

    found = workspace.profile_source(mapping.engage_space)
    write_key = (found[1].write_key if found else None) or mapping.engage_space
    for text in (destination.endpoint, write_key):
        if unset := UNSET.search(text):
            said = f"destination {destination.slug} needs the environment variable {unset[1]}, which is not set"
            raise EndpointError(said, code="missing_variable")
    return Remote(destination.endpoint, write_key, destination.rate, destination.retry.days, destination.retry.runs)
