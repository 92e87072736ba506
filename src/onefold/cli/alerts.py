"""`onefold alert`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from onefold.cli.apps import alert_app
from onefold.cli.output import HERE, Folder, Json, cell, dump, grid, show, workspace


@alert_app.command("list")
def alert_list(folder: Folder = HERE, as_json: Json = False) -> None:
    """List the alerts: what each watches, what fires now, and its last message."""
    found = workspace(folder).alerts()
    if as_json:
        for alert in found:
            dump(alert)
        return
    for alert in found:
        when = ", ".join(name if value is True else f"{name} {value}" for name, value in alert["when"].items())
        to = ", ".join(f"{name} {place}" for name, place in alert["to"].items())
        show([f"{alert['slug']}: {when} -> {to}"])
        show(
            f"  fires     {fires['mapping']} {fires['rule']}, since {fires['since']}, times: {fires['count']:,}"
            for fires in alert["fires"]
        )
    columns = ["at", "alert", "kind", "mapping", "channel", "sent_at", "answer"]
    messages = [message for alert in found for message in alert["messages"]]
    if messages:
        grid(columns, [[cell(message[column]) for column in columns] for message in messages])


@alert_app.command("test")
def alert_test(
    slug: Annotated[str | None, typer.Argument(metavar="[SLUG]")] = None, folder: Folder = HERE, as_json: Json = False
) -> None:
    """Send a test message, and say what the other side answered."""
    found = workspace(folder).test_alert(slug)
    for line in found:
        if as_json:
            dump(line)
        else:
            typer.echo(
                f"{line['alert']} by {line['channel']}: {'sent' if line['sent'] else 'NOT SENT'}; {line['answer']}"
            )
    if not found:
        typer.echo("There is no alert; add one to onefold.yaml (docs/operations.md), and apply.", err=True)
    sys.exit(0 if all(line["sent"] for line in found) else 1)
