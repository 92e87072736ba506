"""What all commands share: the options, and how things are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from onefold.workspace import Workspace

Folder = Annotated[Path, typer.Option("-C", metavar="DIR", help="The workspace folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line for lists.")]
HERE = Path()


def workspace(folder: Path) -> Workspace:
    from onefold import workspace as facade

    return facade.open(folder)


def show(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def dump(document: Any) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))


def cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def grid(columns: list[str], rows: list[list[str]]) -> None:
    """Columns under their names, cut to 40 characters."""
    cut = [[cell if len(cell) <= 40 else cell[:39] + "…" for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[at]) for row in cut) for at in range(len(columns))]
    for row in cut:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
