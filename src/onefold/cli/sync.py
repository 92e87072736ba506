"""`onefold sync`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onefold.cli.apps import app
from onefold.cli.output import HERE, Folder, Json, bars, dump, progress, show, workspace

if TYPE_CHECKING:
    from onefold.runs import Outcome


@app.command()
def sync(
    selector: Annotated[str | None, typer.Argument(metavar="[DEST[/MAPPING]]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it all, show it, and take it back.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Send every row again.")] = False,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Go on when most known rows are gone.")
    ] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", hidden=True, help="Of a run that was announced.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Bring what changed in the warehouse into the profiles."""
    from onefold.cancel import Cancel

    space, cancel = workspace(folder), Cancel()
    if not dry_run and space.differs:
        typer.echo("Warning: onefold.yaml differs from what was applied, which is used; see `onefold plan`", err=True)
    named: list[dict[str, Any]] = []
    failed = any_there = False
    with ExitStack() as stack:
        stack.enter_context(cancel.signals())
        shown = None if as_json else bars(stack)
        outcomes = space.sync(
            selector,
            dry_run=dry_run,
            full=full,
            allow_deletes=allow_deletes,
            progress=progress(shown) if shown else None,
            effect=named.append if dry_run and not as_json else None,
            run_id=run_id,
            cancel=cancel,
        )
        for outcome in outcomes:
            any_there, failed = True, failed or outcome.status in ("failed", "cancelled")
            if as_json:
                dump(outcome.line())
            else:
                show(_outcome(outcome, dry_run=dry_run))
                show(_named(named, outcome))
            named.clear()
    if not any_there and not as_json:
        typer.echo("There is no mapping to sync; add one to onefold.yaml, and apply.")
    sys.exit(1 if failed else 0)


def _outcome(outcome: Outcome, *, dry_run: bool) -> list[str]:
    """A sync's result for people."""
    title = f"{outcome.mapping}: {outcome.status}"
    c = outcome.counts
    if outcome.error is not None:
        where = f" at {outcome.stage}" if outcome.stage else ""
        done = [f"  calls     {c['sent']:,} sent before that, {c['rejected']:,} rejected"] if c["sent"] else []
        see = [f"  see       onefold runs rejected {outcome.run_id}"] if c["rejected"] and not dry_run else []
        return [f"{title}{where}: {outcome.error}", *done, *see]
    rate = c["extracted"] / outcome.seconds if outcome.seconds else 0
    lines = [
        f"{title}{' (dry run: nothing was changed)' if dry_run else ''} in {outcome.seconds:.1f} s, {rate:,.0f} rows/s",
        f"  rows      {c['extracted']:,} read: {c['added']:,} added, {c['updated']:,} updated,"
        f" {c['deleted']:,} deleted, {c['unchanged']:,} unchanged",
        f"  calls     {c['sent']:,} sent, {c['filtered']:,} filtered, {c['rejected']:,} rejected",
    ]
    if not outcome.note:  # it says why there is nothing to tell
        figures = (c["profiles_created"], c["profiles_updated"], c["merges"])
        lines.append("  profiles  {:,} created, {:,} updated, {:,} merges".format(*figures))
    if c["unresolved"] or c["identifiers_dropped"]:
        lines.append(
            f"  identity  {c['unresolved']:,} calls of nobody, {c['identifiers_dropped']:,} identifiers dropped"
        )
    if outcome.note and not dry_run:
        lines.append(f"  note      {outcome.note}")
    if c["rejected"] and not dry_run:
        lines.append(f"  see       onefold runs rejected {outcome.run_id}")
    return lines


# The kinds of effects that a dry run names, and where all of them are counted.
_KINDS = {"create": "profiles_created", "update": "profiles_updated", "merge": "merges", "reject": "rejected"}


def _named(effects: list[dict[str, Any]], outcome: Outcome) -> Iterator[str]:
    """What a dry run would do, by name: the first of each kind, and how many more there are."""
    from onefold.preview import sentence
    from onefold.runs import NAMED

    for kind in dict.fromkeys(effect["do"] for effect in effects):
        found = [effect for effect in effects if effect["do"] == kind][:NAMED]
        yield from (f"  would be: {sentence(effect)}" for effect in found)
        more = outcome.counts[_KINDS[kind]] - len(found) if kind in _KINDS else 0
        if more > 0:
            yield f"            … {more:,} more"
