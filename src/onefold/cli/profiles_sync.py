"""`onefold profiles-sync`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from time import perf_counter
from typing import Annotated

import typer

from onefold.cli.apps import app
from onefold.cli.output import HERE, Folder, Json, bars, dump, progress, show, workspace


@app.command("profiles-sync")
def profiles_sync(
    space: str,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A slug, postgresql://…, FILE.duckdb or ./FOLDER.")],
    full: Annotated[bool, typer.Option("--full", help="Make all tables anew beside the old ones, and swap.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare the tables with the space; change nothing.")] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", hidden=True, help="Of a run that was announced.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Bring the profiles of a space, as tables, into a warehouse."""
    from onefold.cancel import Cancel

    cancel = Cancel()
    if check:
        found = workspace(folder).check_profiles(space, target)
        if as_json:
            dump([asdict(difference) for difference in found])
        else:
            show(difference.sentence() for difference in found)
            show(["No differences."] * (not found))
        sys.exit(1 if found else 0)
    began = perf_counter()
    with ExitStack() as stack:
        stack.enter_context(cancel.signals())
        shown = None if as_json else bars(stack)
        options = {"progress": progress(shown)(space)} if shown else {}
        run_id, synced = workspace(folder).sync_profiles(
            space, target, full=full, run_id=run_id, cancel=cancel, **options
        )
    seconds = perf_counter() - began
    if as_json:
        dump({"run_id": run_id, "space": space, **asdict(synced), "seconds": round(seconds, 3)})
        return
    made = " (all tables anew)" if synced.full else ""
    typer.echo(f"{space}: {synced.calls:,} calls in {seconds:.1f} s{made}")
    show(f"  {table:32} {rows:>12,}" for table, rows in synced.rows.items() if rows)
    show(f"  note: {note}" for note in synced.notes)
