"""Keeping a workspace: backup, restore."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from onefold.cli.apps import app
from onefold.cli.output import HERE, Folder, Json, dump, show, workspace

Archive = Annotated[Path, typer.Argument(metavar="FILE")]


@app.command()
def backup(file: Archive, folder: Folder = HERE, as_json: Json = False) -> None:
    """Write the whole workspace into one file, while it is in use. The file holds secrets."""
    with _bar() as said:
        manifest = workspace(folder).backup(file, said)
    if as_json:
        dump({"file": str(file), "bytes": file.stat().st_size, **manifest})
        return
    show(_contents(manifest))
    show(f"  left out  {name}: it lies outside the folder" for name in manifest["left_out"])
    typer.echo(f"Wrote {file}, {file.stat().st_size / 1e6:,.1f} MB. It holds secrets: keep it where only you can read.")


@app.command()
def restore(
    file: Archive,
    into: Annotated[Path, typer.Argument(metavar="[DIR]", help="An empty or new folder.")] = HERE,
    store: Annotated[
        str | None, typer.Option(help="Where the spaces go, if elsewhere than configured: sqlite, or postgresql://….")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a workspace of a backup."""
    from onefold import backup as backups

    with _bar() as said:
        manifest = backups.restore(file, into, os.environ, store=store, said=said)
    if as_json:
        dump({"folder": str(into), **manifest})
        return
    show(_contents(manifest))
    typer.echo(f"Restored into {into.resolve()}, every file as it was written at {manifest['created_at']}.")
    if store is not None:
        typer.echo("The spaces lie elsewhere now: write that as their `store` in onefold.yaml, too.")


def _contents(manifest: dict[str, Any]) -> Iterator[str]:
    """What a backup holds, for people."""
    yield f"  workspace {manifest['workspace']}, by Onefold {manifest['onefold']}"
    for slug, space in manifest["spaces"].items():
        yield f"  space     {slug}: {sum(space['rows'].values()):,} rows in {len(space['rows'])} tables"
    yield f"  inbox     {manifest['inbox']['rows']['request']:,} requests that wait"
    yield f"  catalog   {sum(manifest['catalog']['rows'].values()):,} rows"


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("")
        yield lambda what, done, steps: bars.update(task, description=what, completed=done, total=steps)
