"""How syncs stand: their last runs, when they are due next, and their rejected rows that are open."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from onefold import config
from onefold.errors import OnefoldError
from onefold.web import words
from onefold.workspace import Workspace

Group = dict[str, Any]
# Folder -> what Workspace.moved said, and the open rejected rows then: they are counted anew when a run has ended.
_OPEN: dict[Path, tuple[tuple[int | None, ...], list[Group]]] = {}
_COUNTING = Lock()  # whoever asks meanwhile waits for the same answer


@dataclass(frozen=True)
class Standing:
    """By mapping, DEST/MAPPING: its last run, the status of its newest runs, when it is due, its open rejected rows."""

    last: dict[str, dict[str, Any] | None]
    statuses: dict[str, list[str]]
    due: dict[str, str | None]
    refused: dict[str, int]

    def due_in(self, path: str) -> str | None:
        """When a mapping is synced next by its schedule, in words; None where nothing says so."""
        due = self.due.get(path)
        return None if due is None else words.until(due).replace("now", "due now")

    def next(self, path: str, mapping: config.Mapping) -> str:
        """The same, or else what it waits for."""
        if not mapping.model:
            return "as they come"
        return "—" if path not in self.due else self.due_in(path) or words.when(mapping.schedule)


def read(workspace: Workspace, selector: str | None = None, newest: int = 1) -> Standing:
    """Of all mappings, or of those that DEST selects. Raises NotFound."""
    found = workspace.latest(selector, newest)
    refused: dict[str, int] = dict.fromkeys(found, 0)
    for group in groups(workspace):
        if group["mapping"] in refused:
            refused[group["mapping"]] += group["rows"]
    return Standing(
        last={path: last for path, (last, _) in found.items()},
        statuses={path: statuses for path, (_, statuses) in found.items()},
        due={line["mapping"]: line["next_due"] for line in workspace.timetable() if line["off"] is None},
        refused=refused,
    )


def groups(workspace: Workspace) -> list[Group]:
    """The rejected rows that are open, as Workspace.open_rejected; most rows first."""
    moved = workspace.moved()
    with _COUNTING:
        known, found = _OPEN.get(workspace.folder, ((), []))
        if known != moved:
            found = []
            for destination in workspace.configuration().destinations:
                with suppress(OnefoldError):  # a space that cannot be opened: its own screen says why
                    found += workspace.open_rejected(destination.slug)
            found.sort(key=lambda group: -group["rows"])
            _OPEN[workspace.folder] = (moved, found)
        return found
