"""What all commands share: the options, and how things are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

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


def bars(stack: ExitStack) -> Bars | None:
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
    shown = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    return stack.enter_context(shown)


def progress(shown: Bars) -> Callable[[str], Callable[[str, int, int | None], None]]:
    """What draws the progress of each mapping."""
    from time import perf_counter

    def of(path: str) -> Callable[[str, int, int | None], None]:
        task = shown.add_task(path, total=None, rate="")
        began = perf_counter()

        def said(stage: str, done: int, total: int | None) -> None:
            rate = f"{done / (perf_counter() - began):,.0f} rows/s" if done else ""
            description = f"{path}: {stage}"
            # What is done has its lines; its bar makes room.
            shown.update(task, description=description, completed=done, total=total, rate=rate, visible=stage != "done")

        return said

    return of
