"""Setting up: demo, init, plan, apply, export; sources, models, mappings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from onefold.cli.apps import app, mapping_app, model_app, source_app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, indent, show, workspace
from onefold.errors import OnefoldError

if TYPE_CHECKING:
    from onefold.workspace import Workspace


@app.command()
def demo(
    rows: Annotated[int, typer.Option(help="People in the sample warehouse.", min=50)] = 5000,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="An empty or new folder.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Build a sample warehouse, sync it, change it, sync again, and explain a profile."""
    from onefold import demo as played

    found = played.run(folder, rows, say=(lambda _: None) if as_json else typer.echo)
    if as_json:
        dump(found)
        return
    typer.echo(
        f"""
Look around:
  cd {folder}
  onefold profile show {played.SPACE} {played.ADA} --why
  onefold runs
  onefold mapping test profiles/customers --key 42
Then edit onefold.yaml, and: onefold plan, onefold apply, onefold sync"""
    )


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]")] = HERE, as_json: Json = False) -> None:
    """Write a commented onefold.yaml, with a small sample warehouse to try it on."""
    from onefold import starter

    written = starter.write(folder)
    if as_json:
        dump({"written": [str(path) for path in written]})
        return
    show(f"wrote {path}" for path in written)
    here = "" if folder == HERE else f"cd {folder} && "
    typer.echo(f"Next: {here}onefold source test warehouse, then onefold plan and onefold apply")


@app.command()
def plan(folder: Folder = HERE, as_json: Json = False) -> None:
    """Show what apply would change."""
    space = workspace(folder)
    _show_changes(space, space.plan(), as_json=as_json)


@app.command()
def apply(folder: Folder = HERE, as_json: Json = False) -> None:
    """Make the workspace file the configuration."""
    space = workspace(folder)
    _show_changes(space, space.apply(), as_json=as_json)
    if not as_json:
        typer.echo("Applied.")


def _show_changes(space: Workspace, changes: list[Any], *, as_json: bool) -> None:
    import dataclasses

    from onefold.plan import lines

    for warning in space.document.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    if as_json:
        for change in changes:
            dump(dataclasses.asdict(change))
    else:
        show(lines(changes))


@app.command()
def export(folder: Folder = HERE, as_json: Json = False) -> None:
    """Print the applied configuration as a workspace file."""
    text = workspace(folder).export()
    if as_json:
        dump({"onefold.yaml": text})
    else:
        typer.echo(text, nl=False)


@source_app.command("test")
def source_test(slug: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Connect to a source and list its tables."""
    tables = workspace(folder).test_source(slug)
    if as_json:
        dump({
            "source": slug,
            "tables": [
                {"name": table.name, "columns": [vars(column) for column in table.columns]} for table in tables
            ],
        })  # fmt: skip
        return
    typer.echo(f"Source {slug} is reached; it has {len(tables)} tables.")
    for table in tables:
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        typer.echo(f"  {table.name}: {columns}")


@source_app.command("keys")
def source_keys(folder: Folder = HERE, as_json: Json = False) -> None:
    """List the profile sources with their write keys, which SDKs are given."""
    found = workspace(folder).write_keys()
    if as_json:
        for line in found:
            dump(line)
        return
    grid(["source", "space", "write_key"], [[line["source"], line["space"], line["write_key"]] for line in found])


@model_app.command("preview")
def model_preview(
    slug: str,
    limit: Annotated[int, typer.Option(help="How many rows.", min=1)] = 10,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show the first rows of a model as mappings see them."""
    columns, rows = workspace(folder).preview_model(slug, limit)
    if as_json:
        for row in rows:
            dump(row)
        return
    grid(columns, [[cell(row[column]) for column in columns] for row in rows])


@mapping_app.command("test")
def mapping_test(
    selector: Annotated[str, typer.Argument(metavar="DEST/MAPPING")],
    key: Annotated[str | None, typer.Option(help="The key of the row; the first row without it.")] = None,
    event: Annotated[
        typer.FileText | None,
        typer.Option(help="A live call as JSON, for a mapping of a live source; its newest call without one."),
    ] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show a row or live call, the call it becomes, and what that would do to which profiles. Changes nothing."""
    found = workspace(folder).test_mapping(selector, key, _read(event) if event else None)
    if as_json:
        dump(found)
        return
    from onefold.preview import sentence

    tried = "row" if "row" in found else "event"
    typer.echo(f"{tried.title()}\n  " + json.dumps(found[tried], ensure_ascii=False))
    if found["rejected"]:
        typer.echo(f"Rejected ({found['rejected']['code']})\n  {found['rejected']['message']}")
        return
    if not found["selected"]:
        typer.echo(f"The trigger does not select this {tried}; no call is sent.")
        return
    for call in found["calls"]:
        typer.echo("Call\n" + indent(json.dumps(call, ensure_ascii=False, indent=2)))
    if "delivered_to" in found:
        typer.echo(f"Would be delivered to {found['delivered_to']}; what it does there is not known here.")
        return
    typer.echo("Effect")
    show(f"  {sentence(effect)}" for effect in found["effects"])


def _read(file: TextIO) -> dict[str, Any]:
    """The call in a file. Raises OnefoldError."""
    try:
        event = json.load(file)
    except (ValueError, RecursionError) as error:
        raise OnefoldError(f"{file.name} is not JSON: {error}", code="invalid_json") from error
    if not isinstance(event, dict):
        raise OnefoldError(f"{file.name} holds no JSON object; a call is one", code="invalid_json")
    return event


@mapping_app.command("reset")
def mapping_reset(
    selector: Annotated[str, typer.Argument(metavar="DEST/MAPPING")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Forget what a mapping has seen, so that the next sync sends every row as new."""
    space = workspace(folder)
    known = space.reset(selector, dry_run=True)["known"]
    what = f"{known:,} known keys of {selector}: the next sync sends every row as new, with new message ids, no deletes"
    if not yes:
        if not sys.stdin.isatty():
            raise OnefoldError(f"this forgets {what}; add --yes to do it", code="not_confirmed")
        typer.confirm(f"Forget {what}?", abort=True)
    found = space.reset(selector)
    if as_json:
        dump(found)
    else:
        typer.echo(f"Forgot {what}")
