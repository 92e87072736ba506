"""`onefold profile`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from onefold.cli.apps import profile_app
from onefold.cli.output import HERE, Folder, Json, dump, show, workspace

Accounts = Annotated[bool, typer.Option("--accounts", help="Accounts instead of users.")]


@profile_app.command("show")
def profile_show(
    space: str,
    identifier: Annotated[str, typer.Argument(metavar="TYPE:VALUE")],
    accounts: Accounts = False,
    why: Annotated[bool, typer.Option("--why", help="And where everything came from.")] = False,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show the profile that owns an identifier."""
    found = workspace(folder)
    read = found.explain if why or not as_json else found.profile
    view = read(space, identifier, accounts=accounts)
    if as_json:
        dump(view)
    else:
        show(_profile(view, why=why))


@profile_app.command("list")
def profile_list(
    space: str,
    accounts: Accounts = False,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """List the profiles of a space, oldest first."""
    _show_profiles(workspace(folder).profiles(space, accounts=accounts, limit=limit), as_json=as_json)


@profile_app.command("search")
def profile_search(
    space: str,
    text: str,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    part: Annotated[bool, typer.Option("--part", help="Parts of identifiers, also if a whole one was found.")] = False,
    seconds: Annotated[int, typer.Option(help="How long to look for a part.", min=0)] = 1,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Find profiles by any identifier, whole; where there is none, by a part of one."""
    found = workspace(folder).search(space, text, limit, seconds, parts=part)
    _show_profiles(found.profiles, as_json=as_json)
    if found.looked < found.calls and (found.looked or not found.profiles) and len(found.profiles) < limit:
        said = f"{found.looked:,} of {found.calls:,} calls were looked through for a part of it"
        typer.echo(f"{said}; --seconds {max(10, 10 * seconds)} looks longer.", err=True)
    elif not found.profiles:
        typer.echo(f"No profile of space {space} has an identifier with {text!r} in it.", err=True)


def _show_profiles(views: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    for view in views:
        if as_json:
            dump(view)
        else:
            ids = ", ".join(f"{item['type']}:{item['id']}" for item in view["external_ids"])
            typer.echo(f"{view['segment_id']}  {ids}")


def _profile(view: dict[str, Any], *, why: bool) -> list[str]:
    lines = [
        view["segment_id"],
        f"  created {view['created_at']}, updated {view['updated_at']}",
        "Identifiers",
    ]
    for item in view["why"]["identifiers"]:
        lines.append(f"  {item['type']}: {item['id']}" + (f"   {_from(item)}" if why else ""))
    lines.append("Traits")
    for item in view["why"]["traits"]:
        value = json.dumps(item["value"], ensure_ascii=False)
        lines.append(f"  {item['name']}: {value}" + (f"   {_from(item)}" if why else ""))
    if view["subscriptions"]:
        lines.append("Subscriptions")
    for item in view["subscriptions"]:
        groups = "".join(f"; {group['name']} {group['status']}" for group in item.get("groups", ()))
        lines.append(f"  {item['type']} {item['key']}: {item['status']}{groups}")
    linked = "accounts" if "accounts" in view else "users"
    if view[linked]:
        lines.append(linked.capitalize())
    for item in view[linked]:
        lines.append("  " + ", ".join(f"{found['type']}:{found['id']}" for found in item["external_ids"]))
    if view["why"]["merges"]:
        lines.append("Merges")
    for item in view["why"]["merges"]:
        carried = " and ".join(f"{found['type']}:{found['id']}" for found in item["identifiers"])
        lines.append(f"  {item['merged']} into {item['into']}: {carried or 'both'} in one call   {_from(item)}")
    return lines


def _from(item: dict[str, Any]) -> str:
    """Where a fact came from, in words."""
    by = item["mapping"] or item["source"]
    return f"({item['call']} from {by}, {item['timestamp']})"
