"""`onefold space`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from onefold.cli.apps import space_app
from onefold.cli.output import HERE, Folder, Json, dump, show, workspace
from onefold.errors import OnefoldError


@space_app.command("copy")
def space_copy(
    space: str,
    to: Annotated[str, typer.Argument(metavar="STORE", help="postgresql://… or sqlite.")],
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Copy a space, whole and verified row by row, to another database."""
    copied = workspace(folder).copy(space, to)
    if as_json:
        dump(copied)
        return
    show(f"{table:20} {rows:>12,}" for table, rows in copied.items() if rows)
    typer.echo(f"Copied and verified. To use the copy, write it as the `store` of space {space}, and apply.")


@space_app.command("delete")
def space_delete(
    space: str,
    store: Annotated[str, typer.Argument(metavar="STORE", help="Where it lies: postgresql://… or sqlite.")] = "sqlite",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Delete all that is kept of a space that is no longer in use. It cannot be undone."""
    found = workspace(folder)
    what = f"every profile, call and sync state of space {found.delete_space(space, store, dry_run=True)}, for ever"
    if not yes:
        if not sys.stdin.isatty():
            raise OnefoldError(f"this deletes {what}; add --yes to do it", code="not_confirmed")
        typer.confirm(f"Delete {what}?", abort=True)
    deleted = found.delete_space(space, store)
    if as_json:
        dump({"deleted": deleted})
    else:
        typer.echo(f"Deleted space {deleted}.")
