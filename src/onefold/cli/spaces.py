"""`onefold space`."""

from __future__ import annotations

from typing import Annotated

import typer

from onefold.cli.apps import space_app
from onefold.cli.output import HERE, Folder, Json, dump, show, workspace


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
