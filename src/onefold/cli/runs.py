"""`onefold runs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onefold.cli.apps import runs_app
from onefold.cli.output import HERE, Folder, Json, bars, cell, dump, grid, progress, show, workspace
from onefold.errors import NotFound, OnefoldError

if TYPE_CHECKING:
    from onefold.runs import Outcome
    from onefold.workspace import Workspace


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
    columns = ["run_id", "kind", "mapping", "status", "started_at", "extracted", "sent", "rejected", "seconds"]
    grid(columns, [[cell(run.get(column)) for column in columns] for run in found])


@runs_app.command("show")
def runs_show(run_id: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Show one run whole."""
    found = workspace(folder).run(run_id)
    if as_json:
        dump(found)
        return
    stages, recipe = found.pop("stages", {}), found.pop("recipe", None)
    found.pop("trail")  # that is for charts
    show(f"{name:20} {cell(value)}" for name, value in found.items() if value is not None)
    show(f"{stage:20} {spent['seconds']:.3f} s, {cell(spent['rows'])} rows" for stage, spent in stages.items())
    for part, said in (recipe or {}).items():
        show([f"{part} as it was:", *(f"  {name:18} {cell(value)}" for name, value in said.items())])


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
            if row["call"] is not None:
                typer.echo(f"  call    {json.dumps(row['call'], ensure_ascii=False)}")
            if row["remedy"] is not None:
                typer.echo(f"  remedy  {row['remedy']}")


@runs_app.command("resend")
def runs_resend(
    run_id: str,
    code: Annotated[str | None, typer.Option(help="Only rows that were rejected with this code.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only the row with this key, as JSON; may be repeated.")] = None,
    new_id: Annotated[str | None, typer.Option("--run-id", hidden=True, help="Of a run that was announced.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Try the rejected rows of a run again now, as they are in the warehouse now."""
    asked, outcome = workspace(folder).resend(run_id, code, key or (), new_id=new_id)
    line = {"asked": asked, **outcome.line()}
    if as_json:
        dump(line)
    elif outcome.error:
        typer.echo(f"{outcome.mapping}: {outcome.status}: {outcome.error}")
    else:
        tried = line["added"] + line["updated"] + line["deleted"]
        typer.echo(
            f"{outcome.mapping}: {tried:,} of {asked:,} rejected rows were tried again: {line['sent']:,} sent,"
            f" {line['filtered']:,} filtered, {line['rejected']:,} rejected; others were accepted since, or are gone"
        )
    sys.exit(1 if outcome.status in ("failed", "cancelled") else 0)


@runs_app.command("replay")
def runs_replay(
    run_id: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    new_id: Annotated[str | None, typer.Option("--run-id", hidden=True, help="Of a run that was announced.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Send again what a run sent, as it is recorded, under the same message ids: nothing is doubled."""
    from onefold.cancel import Cancel

    space, cancel = workspace(folder), Cancel()
    found = space.replayable(run_id)
    if not as_json:
        show(_replayable(found))
    if not found["to_send"]:
        if as_json:
            dump(found)
        return
    asked = f"{found['to_send']:,} calls of run {found['run_id']} again to {found['to']}"
    if not yes:
        if not sys.stdin.isatty():
            raise OnefoldError(f"this sends {asked}; add --yes to do it", code="not_confirmed")
        typer.confirm(f"Send {asked}?", abort=True)
    with ExitStack() as stack:
        stack.enter_context(cancel.signals())
        shown = None if as_json else bars(stack)
        outcome = space.replay(run_id, new_id=new_id, cancel=cancel, progress=progress(shown) if shown else None)
    line = {"about": found["run_id"], **outcome.line()}
    if as_json:
        dump(line)
    else:
        show(_replayed(outcome))
    sys.exit(1 if outcome.status in ("failed", "cancelled") else 0)


def _replayable(found: dict[str, Any]) -> Iterator[str]:
    """What a replay would do, for people."""
    if not found["sent"]:
        yield f"Run {found['run_id']} sent no calls; `onefold runs resend {found['run_id']}` tries its rejected rows"
        return
    yield f"Run {found['run_id']} of {found['mapping']} sent {found['sent']:,} calls"
    others = {
        "already_there": "are in profiles already",
        "superseded": "are not sent: their row was sent again since, is gone, or has another key now",
        "forgotten": "are not sent: they are no longer kept whole (retention)",
    }
    yield from (f"  {found[name]:>9,}  {why}" for name, why in others.items() if found[name])
    yield f"  {found['to_send']:>9,}  would be sent again to {found['to']}"


def _replayed(outcome: Outcome) -> Iterator[str]:
    counts = outcome.counts
    yield f"{outcome.mapping}: {outcome.status}" + (f": {outcome.error}" if outcome.error else "")
    yield f"  calls     {counts['sent']:,} sent again, {counts['rejected']:,} rejected"
    if counts["unresolved"]:
        yield f"  identity  {counts['unresolved']:,} calls still belong to no profile, and were not kept again"
    if counts["profiles_created"] or counts["profiles_updated"]:
        yield f"  profiles  {counts['profiles_created']:,} created, {counts['profiles_updated']:,} updated"
    if counts["rejected"]:
        yield f"  see       onefold runs rejected {outcome.run_id}"


@runs_app.command("watch")
def runs_watch(
    run_id: Annotated[str | None, typer.Argument(help="The newest run, if none is given.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Follow a run until it ends; exit as `onefold sync` would. Ctrl+C leaves the run alone."""
    space = workspace(folder)
    if run_id is None:
        newest = space.runs(1)
        if not newest:
            raise NotFound("there is no run yet; `onefold sync` makes one")
        run_id = str(newest[0]["run_id"])
    try:
        for run in _followed(space, run_id):
            dump(run) if as_json else typer.echo(_line(run))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return
    sys.exit(1 if run["status"] in ("failed", "cancelled") else 0)


def _followed(space: Workspace, run_id: str) -> Iterator[dict[str, Any]]:
    """A run each time it has moved, until it has ended."""
    told = None
    while True:
        run = space.follow(run_id)
        if run != told:
            yield run
            told = run
        if run["status"] != "running":
            return
        sleep(0.5)


def _line(run: dict[str, Any]) -> str:
    """Where a run is, or how it ended."""
    title = f"{run['run_id']} {run['mapping']}: {run['status']}"
    if run["status"] != "running":
        at = f" at {run['stage']}" if "stage" in run else ""
        sent = f", {run['sent']:,} calls sent" if "sent" in run else ""
        return f"{title}{at}{sent}" + (f": {run['error']}" if "error" in run else "")
    if "progress" not in run:
        return title
    at = run["progress"]
    rows = f" {at['rows']:,}" + (f" of {at['total']:,}" if at["total"] is not None else "") + " rows"
    rate = f", {at['rate']:,} rows/s" if at["rate"] else ""
    asked = f", cancelled by {run['cancelled_by']}" if "cancelled_by" in run else ""
    return f"{title}, {at['stage']}{rows if at['rows'] or at['total'] else ''}{rate}{asked}"


@runs_app.command("cancel")
def runs_cancel(run_id: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Stop a run that is under way, on whatever host: what is committed stays, the next sync does the rest."""
    run = workspace(folder).cancel(run_id)
    if as_json:
        dump(run)
    else:
        typer.echo(f"Asked {run['mapping']} to stop; `onefold runs watch {run['run_id']}` tells when it has")


@runs_app.command("next")
def runs_next(folder: Folder = HERE, as_json: Json = False) -> None:
    """Show when each mapping is synced next, by its schedule, while `onefold serve` runs."""
    lines = workspace(folder).timetable()
    if as_json:
        for line in lines:
            dump(line)
        return
    columns = ["mapping", "schedule", "last_run", "status", "next_due"]
    table = []
    for line in lines:
        last = line["last_run"] or {}
        due = line["next_due"] or ("off" if line["off"] else "")
        table.append([line["mapping"], line["schedule"], *(cell(last.get(x)) for x in ("started_at", "status")), due])
    grid(columns, table)
