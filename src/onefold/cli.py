"""The command line (design, section 7): every command calls the workspace and prints what it got."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onefold.errors import InvalidWorkspace, NotFound, OnefoldError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from onefold.workspace import Outcome, Workspace

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Many identifiers, one profile: warehouse tables become customer profiles.")  # fmt: skip
source_app = typer.Typer(no_args_is_help=True, help="Warehouse sources.")
model_app = typer.Typer(no_args_is_help=True, help="SQL models.")
mapping_app = typer.Typer(no_args_is_help=True, help="Mappings of a destination.")
profile_app = typer.Typer(no_args_is_help=True, help="Read profiles.")
space_app = typer.Typer(no_args_is_help=True, help="Profile Spaces.")
runs_app = typer.Typer(invoke_without_command=True, help="What ran, and what was rejected.")
token_app = typer.Typer(no_args_is_help=True, help="Access tokens of the Profile API and the configuration API.")
for name, group in {
    "source": source_app,
    "model": model_app,
    "mapping": mapping_app,
    "profile": profile_app,
    "runs": runs_app,
    "space": space_app,
    "token": token_app,
}.items():
    app.add_typer(group, name=name)

Folder = Annotated[Path, typer.Option("-C", metavar="DIR", help="The workspace folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line for lists.")]
HERE = Path()


def main() -> None:
    """The `onefold` command: errors are one sentence on standard error, and exit 1."""
    try:
        app()
    except OnefoldError as error:
        lines = str(error).splitlines() if isinstance(error, InvalidWorkspace) else [str(error)]
        for line in lines:
            typer.echo(f"Error: {line}" if len(lines) == 1 else line, err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)  # the reader of our output went away, as `| head` does
    except Exception as error:
        if os.environ.get("ONEFOLD_TRACEBACK"):
            raise
        typer.echo(
            f"Error: Onefold failed: {type(error).__name__}: {error}. What was committed stays; the next sync goes"
            " on from there. Please report it with what ONEFOLD_TRACEBACK=1 prints",
            err=True,
        )
        sys.exit(1)


def workspace(folder: Path) -> Workspace:
    from onefold import workspace as facade

    return facade.open(folder)


def show(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def dump(document: Any) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))


# --- set up -------------------------------------------------------------------------------------------


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
    _grid(["source", "space", "write_key"], [[line["source"], line["space"], line["write_key"]] for line in found])


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
    _grid(columns, [[_cell(row[column]) for column in columns] for row in rows])


@mapping_app.command("test")
def mapping_test(
    selector: Annotated[str, typer.Argument(metavar="DEST/MAPPING")],
    key: Annotated[str | None, typer.Option(help="The key of the row; the first row without it.")] = None,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show a row, the call it becomes, and what that would do to which profiles. Changes nothing."""
    found = workspace(folder).test_mapping(selector, key)
    if as_json:
        dump(found)
        return
    from onefold.preview import sentence

    typer.echo("Row\n  " + json.dumps(found["row"], ensure_ascii=False))
    if found["rejected"]:
        typer.echo(f"Rejected ({found['rejected']['code']})\n  {found['rejected']['message']}")
        return
    if not found["selected"]:
        typer.echo("The trigger does not select this row; no call is sent.")
        return
    for call in found["calls"]:
        typer.echo("Call\n" + _indent(json.dumps(call, ensure_ascii=False, indent=2)))
    typer.echo("Effect")
    show(f"  {sentence(effect)}" for effect in found["effects"])


# --- sync ---------------------------------------------------------------------------------------------


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
    space = workspace(folder)
    if not dry_run and space.differs:
        typer.echo("Warning: onefold.yaml differs from what was applied, which is used; see `onefold plan`", err=True)
    named: list[dict[str, Any]] = []
    failed = False
    with ExitStack() as stack:
        bars = None if as_json else _bars(stack)
        outcomes = space.sync(
            selector,
            dry_run=dry_run,
            full=full,
            allow_deletes=allow_deletes,
            progress=_progress(bars) if bars else None,
            effect=named.append if dry_run and not as_json else None,
            run_id=run_id,
        )
        for outcome in outcomes:
            failed |= outcome.status in ("failed", "cancelled")
            if as_json:
                dump(outcome.line())
            else:
                show(_outcome(outcome, dry_run=dry_run))
                show(_named(named, outcome))
            named.clear()
    sys.exit(1 if failed else 0)


def _outcome(outcome: Outcome, *, dry_run: bool) -> list[str]:
    """A sync's result for people."""
    title = f"{outcome.mapping}: {outcome.status}"
    if outcome.error is not None:
        return [f"{title}: {outcome.error}"]
    c = outcome.counts
    rate = c["extracted"] / outcome.seconds if outcome.seconds else 0
    lines = [
        f"{title}{' (dry run: nothing was changed)' if dry_run else ''} in {outcome.seconds:.1f} s, {rate:,.0f} rows/s",
        f"  rows      {c['extracted']:,} read: {c['added']:,} added, {c['updated']:,} updated,"
        f" {c['deleted']:,} deleted, {c['unchanged']:,} unchanged",
        f"  calls     {c['sent']:,} sent, {c['filtered']:,} filtered, {c['rejected']:,} rejected",
        f"  profiles  {c['profiles_created']:,} created, {c['profiles_updated']:,} updated, {c['merges']:,} merges",
    ]
    if c["unresolved"] or c["identifiers_dropped"]:
        lines.append(
            f"  identity  {c['unresolved']:,} calls of nobody, {c['identifiers_dropped']:,} identifiers dropped"
        )
    if c["rejected"] and not dry_run:
        lines.append(f"  see       onefold runs rejected {outcome.run_id}")
    return lines


# The kinds of effects that a dry run names, and where all of them are counted.
_KINDS = {"create": "profiles_created", "update": "profiles_updated", "merge": "merges", "reject": "rejected"}


def _named(effects: list[dict[str, Any]], outcome: Outcome) -> Iterator[str]:
    """What a dry run would do, by name: the first of each kind, and how many more there are."""
    from onefold.preview import sentence
    from onefold.workspace import NAMED

    for kind in dict.fromkeys(effect["do"] for effect in effects):
        found = [effect for effect in effects if effect["do"] == kind][:NAMED]
        yield from (f"  would be: {sentence(effect)}" for effect in found)
        more = outcome.counts[_KINDS[kind]] - len(found) if kind in _KINDS else 0
        if more > 0:
            yield f"            … {more:,} more"


def _bars(stack: ExitStack) -> Bars | None:
    """Progress bars on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Where standard output is the terminal too, lines are printed above the bars; else they go where they should.
    bars = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    return stack.enter_context(bars)


def _progress(bars: Bars) -> Callable[[str], Callable[[str, int, int | None], None]]:
    from time import perf_counter

    def of(path: str) -> Callable[[str, int, int | None], None]:
        task = bars.add_task(path, total=None, rate="")
        began = perf_counter()

        def said(stage: str, done: int, total: int | None) -> None:
            rate = f"{done / (perf_counter() - began):,.0f} rows/s" if done else ""
            description = f"{path}: {stage}"
            # What is done has its lines; its bar makes room.
            bars.update(task, description=description, completed=done, total=total, rate=rate, visible=stage != "done")

        return said

    return of


# --- spaces -------------------------------------------------------------------------------------------


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


# --- runs ---------------------------------------------------------------------------------------------


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
    _grid(columns, [[_cell(run.get(column)) for column in columns] for run in found])


@runs_app.command("show")
def runs_show(run_id: str, folder: Folder = HERE, as_json: Json = False) -> None:
    """Show one run whole."""
    found = workspace(folder).run(run_id)
    if as_json:
        dump(found)
        return
    show(f"{name:20} {_cell(value)}" for name, value in found.items() if value is not None)


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
            typer.echo(f"{_cell(row['key'])}  {row['code']}: {row['message']}")
            typer.echo(f"  {json.dumps(row['row'], ensure_ascii=False)}")


# --- profiles -----------------------------------------------------------------------------------------

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
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Find profiles by a part of any identifier."""
    _show_profiles(workspace(folder).search(space, text, limit), as_json=as_json)


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
        lines.append(f"  {item['joined'][1]} and {item['joined'][0]}   {_from(item)}")
    return lines


def _from(item: dict[str, Any]) -> str:
    """Where a fact came from, in words."""
    by = item["mapping"] or item["source"]
    return f"({item['call']} from {by}, {item['timestamp']})"


# --- access tokens ------------------------------------------------------------------------------------


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
    _grid(columns, [[_cell(token[column]) for column in columns] for token in found])


@token_app.command("revoke")
def token_revoke(token_id: Annotated[str, typer.Argument(metavar="ID")], folder: Folder = HERE,
                 as_json: Json = False) -> None:  # fmt: skip
    """Make a token worthless."""
    workspace(folder).revoke_token(token_id)
    if as_json:
        dump({"id": token_id, "revoked": True})
    else:
        typer.echo(f"Token {token_id} is revoked; a running server refuses it within a second.")


# --- live ---------------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8000,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Serve the tracking API, the Profile API and the configuration API."""
    from onefold import serve as server

    def said(address: str) -> None:
        if as_json:
            dump({"url": address})
        else:
            typer.echo(f"Onefold serves {folder.resolve()} at {address}; Ctrl+C ends it.")
        sys.stdout.flush()

    server.serve(workspace(folder), host, port, said)


@app.command()
def debug(
    source: str,
    limit: Annotated[int, typer.Option(help="How many calls to begin with.", min=0, max=500)] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with new ones as they come.")] = True,
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Show the calls of a profile source as they come, accepted and rejected."""
    from time import sleep

    space = workspace(folder)
    calls, cursor = space.debug(source, None, limit)
    try:
        while True:
            for call in calls:
                dump(call) if as_json else show(_called(call))
            sys.stdout.flush()
            if not follow:
                return
            sleep(0.5)
            calls, cursor = space.debug(source, cursor)
    except KeyboardInterrupt:
        return


def _called(call: dict[str, Any]) -> list[str]:
    what = " ".join(filter(None, [call["type"] or "row", call["event"]]))
    by = f" by {call['mapping']}" if call["mapping"] else ""
    if call["status"] == "rejected":
        return [f"{call['received_at']}  {what}{by}  rejected ({call['code']}): {call['message']}"]
    filed = ", ".join(filter(None, [call["profile"], call["account"]])) or "nobody"
    return [f"{call['received_at']}  {what}{by}  -> {filed}"]


@app.command()
def usage(folder: Folder = HERE, as_json: Json = False) -> None:
    """Show API calls and tracked users per month and source; what syncs sent counts as neither."""
    found = workspace(folder).usage()
    if as_json:
        for line in found:
            dump(line)
        return
    columns = ["month", "source", "api_calls", "tracked_users", "rejected", "duplicates", "sent"]
    _grid(columns, [[_cell(line[column]) for column in columns] for line in found])


# --- output -------------------------------------------------------------------------------------------


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def _grid(columns: list[str], rows: list[list[str]]) -> None:
    """Columns under their names, cut to 40 characters."""
    cut = [[cell if len(cell) <= 40 else cell[:39] + "…" for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[at]) for row in cut) for at in range(len(columns))]
    for row in cut:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


__all__ = ["NotFound", "app", "main"]
