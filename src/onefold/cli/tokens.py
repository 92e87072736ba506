"""`onefold token`."""

from __future__ import annotations

from typing import Annotated

import typer

from onefold.cli.apps import token_app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, workspace


@token_app.command("create")
def token_create(
    space: Annotated[str | None, typer.Argument(metavar="[SPACE]")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="For the configuration API, instead of a space.")] = False,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    rate: Annotated[int | None, typer.Option(help="Requests a second, at most.", min=1)] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Make a token and show it, this once."""
    if admin == (space is not None):
        raise typer.BadParameter("name the space that the token opens, or say --admin")
    found = workspace(folder).create_token(space, name, rate)
    if as_json:
        dump(found)
        return
    typer.echo(found["token"])
    opens = f"space {space}" if space else "the configuration API"
    typer.echo(f"This is token {found['id']} of {opens}. It is not shown again; keep it secret.", err=True)


@token_app.command("list")
def token_list(folder: Folder = HERE, as_json: Json = False) -> None:
    """List the tokens, with their last use."""
    found = workspace(folder).tokens()
    if as_json:
        for token in found:
            dump(token)
        return
    columns = ["id", "space", "name", "rate", "created_at", "used_at", "revoked_at"]
    grid(columns, [[cell(token[column]) for column in columns] for token in found])


@token_app.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], folder: Folder = HERE,
                 as_json: Json = False) -> None:  # fmt: skip
    """Make a token worthless."""
    workspace(folder).revoke_token(token_id)
    if as_json:
        dump({"id": token_id, "revoked": True})
    else:
        typer.echo(f"Token {token_id} is revoked; a running server refuses it within a second.")
