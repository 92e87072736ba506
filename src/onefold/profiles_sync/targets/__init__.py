"""Targets: warehouses that take the tables of a space. A module for each kind; this is their contract.

Everything is first written beside the tables that are there, and then put in place in one step, together with the
position that says how far it goes. A run that ends before that step has changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onefold.errors import TargetError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Kernel

# The types of columns, in DuckDB's words; the others are the same.
TYPES = {"text": "varchar", "timestamp": "timestamptz"}
# The table that holds the position, and what is written beside tables until it is put in place.
POSITION, BESIDE = "_onefold", "__new"
# The column that the rows of a profile are found by.
KEY = "canonical_segment_id"
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Change:
    """What becomes of a table: `new` is written anew; else rows are added, first without those of `gone` profiles.

    `gone` is the table of the kernel that lists these, by their KEY in its `segment_id`; '' where all rows stay.
    """

    new: bool
    columns: Mapping[str, str]
    added: Mapping[str, str]  # columns that the table does not have yet
    gone: str = ""


class Target(Protocol):
    """A schema of a warehouse. Every method raises TargetError; columns are name -> type."""

    name: str  # for messages; holds no secret

    def open(self, kernel: Kernel, *, write: bool = True) -> None:
        """Connect; to write, also remove what a run that was cut off left beside the tables.

        Without `write` nothing is made or changed, and where there are no tables `position` is None.
        """

    def close(self) -> None: ...

    def position(self) -> str | None:
        """What was kept last, None if there is nothing."""

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        """A table beside."""

    def add(self, table: str, columns: Mapping[str, str]) -> None:
        """More columns of a table beside."""

    def append(self, table: str, sql: str) -> int:
        """Add the rows of a query of the kernel to a table beside; how many there were."""

    def ahead(self, gone: Mapping[str, str]) -> None:
        """All profiles are known whose rows go when all is put in place: a target may begin with that, beside.

        `gone`: tables that have some, each with the table of the kernel that lists them, as in Change.
        """

    def keep(self, position: str, changes: Mapping[str, Change], views: Mapping[str, str]) -> None:
        """Put everything in place, all or nothing.

        `views`: all there are to be; `{table}` in them stands for a table.
        """

    def drop(self, tables: Sequence[str]) -> None:
        """Note tables that are to go when everything is put in place."""

    def rows(self, table: str) -> str:
        """What stands for a table in a query of the kernel."""


def kind_of(to: str) -> str:
    """The type of a target that is given as a URL or a path. Raises TargetError."""
    if re.match(r"postgres(ql)?://", to):
        return "postgres"
    if "://" in to:
        scheme = to.partition("://")[0]
        raise TargetError(f"targets of {scheme}:// are not known; write postgresql://…, a .duckdb file or a folder")
    if to.endswith((".duckdb", ".ddb", ".db")):
        return "duckdb"
    if "/" not in to:
        raise TargetError(f"{to!r} is no DuckDB file, which ends in .duckdb; a folder of Parquet is written ./{to}")
    return "parquet"


def told(error: Exception) -> str:
    """What a file or DuckDB says is wrong, in a line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error).splitlines()[0]


def open(kind: str, to: str, folder: Path, schema: str) -> Target:  # noqa: A001 - the field's word
    """The target of a type, at a URL or a path, which is relative to `folder`. Raises TargetError."""
    if not SCHEMA.fullmatch(schema):
        raise TargetError(f"{schema!r} is no schema; use a-z, 0-9 and _, at most 63, beginning with a letter")
    module = import_module(f"onefold.profiles_sync.targets.{kind}")
    found: Target = module.Target(to, folder, schema)
    return found
