"""`onefold runs`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from onefold.cli.apps import runs_app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, show, workspace


@runs_app.callback()
def runs(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 50,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    if context.invoked_subcommand is not None:
        return
    found = workspace(folder).runs(limit)
    if as_json:
        for run in found:
            dump(run)
        return
    columns = ["run_id", "mapping", "status", "started_at", "extracted", "sent", "rejected", "seconds"]
    grid(columns, [[cell(run.get(column)) for column in columns] for run in found])


@runs_app.command("show")
def runs_show(run_id: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Show one run whole."""
    found = workspace(folder).run(run_id)
    if as_json:
        dump(found)
        return
    show(f"{name:20} {cell(value)}" for name, value in found.items() if value is not None)


@runs_app.command("rejected")
def runs_rejected(
    run_id: str,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """List the rejected rows of a run, each with its code, sentence and row."""
    for row in workspace(folder).rejected(run_id, limit):
        if as_json:
            dump(row)
        else:
            typer.echo(f"{cell(row['key'])}  {row['code']}: {row['message']}")
            typer.echo(f"  {json.dumps(row['row'], ensure_ascii=False)}")
