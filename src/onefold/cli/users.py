"""`onefold user`, and the audit log."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from onefold.cli.apps import app, user_app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, show, workspace
from onefold.roles import ROLES, VIEWER

Role = Annotated[str, typer.Option(help=f"What they may do: {', '.join(ROLES)}.")]
ASKED = "The password is asked for, or read as the first line of standard input."


def _password(name: str) -> str:
    """A new password, never from the arguments: those can be seen by everybody on the machine."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt(f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    return password


@user_app.command("create", epilog=ASKED)
def user_create(name: str, role: Role = VIEWER, folder: Folder = HERE, as_json: Json = False) -> None:
    """Make a user who can log in to the web app."""
    found = workspace(folder).create_user(name, role, _password(name))
    dump(found) if as_json else typer.echo(f"{found['name']} can log in, as {found['role']}.")


@user_app.command("list")
def user_list(folder: Folder = HERE, as_json: Json = False) -> None:
    """List the users, with their roles and last login."""
    found = workspace(folder).users()
    if as_json:
        for user in found:
            dump(user)
        return
    columns = ["name", "role", "created_at", "used_at"]
    grid(columns, [[cell(user[column]) for column in columns] for user in found])


@user_app.command("password", epilog=ASKED)
def user_password(name: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Give a user another password; their sessions end."""
    workspace(folder).change_user(name, password=_password(name))
    dump({"name": name, "changed": True}) if as_json else typer.echo(f"{name} has another password.")


@user_app.command("role")
def user_role(name: str, role: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Give a user another role."""
    workspace(folder).change_user(name, role=role)
    dump({"name": name, "role": role}) if as_json else typer.echo(f"{name} is {role} now.")


@user_app.command("remove")
def user_remove(name: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Remove a user; their sessions end."""
    workspace(folder).remove_user(name)
    dump({"name": name, "removed": True}) if as_json else typer.echo(f"{name} is removed.")


@app.command()
def audit(
    limit: Annotated[int, typer.Option(help="How many lines.", min=1)] = 50,
    text: Annotated[str, typer.Option(help="Only lines about this: a user, an action, an object.")] = "",
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first."""
    for line in workspace(folder).audit(limit, text=text):
        if as_json:
            dump(line)
            continue
        place = f" from {line['address']}" if line["address"] else ""
        typer.echo(f"{line['at']}  {line['who']} ({line['kind']}{place})  {line['action']} {line['object']}".rstrip())
        show(f"    {said}" for said in line["lines"])
