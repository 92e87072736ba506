"""The command line (design, section 7): every command calls the workspace and prints what it got."""

from __future__ import annotations

import os
import sys

import typer

from onefold import garbage

# Commands are listed by `--help` in this order.
from onefold.cli import setting_up, sync, runs, profiles, spaces, profiles_sync, tokens, users, live, alerts, keeping  # isort: skip  # noqa: F401
from onefold.cli.apps import app
from onefold.errors import InvalidWorkspace, OnefoldError


def main() -> None:
    """The `onefold` command: errors are one sentence on standard error, and exit 1."""
    garbage.seldom()
    # What numpy has for matrices starts a thread for each further processor, which is busy for 40 ms; we have none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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


__all__ = ["app", "main"]
