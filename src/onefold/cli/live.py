"""Serving, and what comes in live: serve, debug, usage."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from onefold.cli.apps import app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, show, workspace


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = 8000,
    url: Annotated[str, typer.Option(help="The address by which people reach it, if another: behind a proxy.")] = "",
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Serve the web app, the tracking API, the Profile API and the configuration API."""
    from onefold import serve as server

    def said(address: str, setup: str | None) -> None:
        if as_json:
            dump({"url": address, **({"setup": setup} if setup else {})})
        else:
            typer.echo(f"Onefold serves {folder.resolve()} at {address}; Ctrl+C ends it.")
            if setup:
                typer.echo(f"There is no user yet. Open this link, once, to become the first admin:\n  {setup}")
        sys.stdout.flush()

    server.serve(workspace(folder), host, port, said, url)


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
    grid(columns, [[cell(line[column]) for column in columns] for line in found])
