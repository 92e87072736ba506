"""Runs: a list, as it is everywhere, and how one is said on a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.web import kit, words
from onefold.web.kit import column, el, link
from onefold.web.shell import ask, asked, crumbs, path
from onefold.workspace import Workspace

NEWEST = 200
FILTERS = (("", "All"), ("running", "Running"), ("failed", "Failed"), ("partly", "Partly"))
Run = dict[str, Any]

COLUMNS = [
    column("state", "State"),
    column("mapping", "Mapping", name=True),
    column("started", "Started"),
    column("by", "Started by", faint=True),
    column("read", "Read", num=True),
    column("changed", "Changed", num=True),
    column("rejected", "Rejected", num=True),
    column("merges", "Merges", num=True),
    column("took", "Took", num=True),
]


async def runs(args: PageArguments) -> None:
    """The newest runs of all mappings."""
    status, mapping = asked(args, "status"), asked(args, "mapping")
    crumbs(("Runs", "/runs"))

    def read(workspace: Workspace) -> list[Run]:
        return workspace.runs(NEWEST)

    found = await ask(read)
    with kit.page():
        kit.simple_head("Runs", "One run is one sync of one mapping.")
        table = listing(found, status, mapping, "/runs")

    async def look() -> None:
        table(await ask(read))

    ui.timer(2, look)


def listing(found: list[Run], status: str, mapping: str, address: str) -> Callable[[list[Run]], None]:
    """Runs with a filter by status; gives what shows others in their place."""

    def href(wanted: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in (("status", wanted), ("mapping", mapping)) if value)
        return f"{address}?{query}" if query else address

    with kit.row():
        kit.segment_links([(href(value), word) for value, word in FILTERS], href(status), "Status")
        if mapping:
            kit.pill(mapping)
            link("All mappings", address)

    def rows(runs: list[Run]) -> list[kit.Cell]:
        wanted = (run for run in runs if status in ("", run["status"]) and mapping in ("", run["mapping"]))
        return [row(run) for run in wanted]

    shown = rows(found)
    with el("section", "of-panel"):
        if not shown and (status or mapping):
            said = f"No runs match “{', '.join(filter(None, (mapping, status)))}”"
            with kit.empty(said, f"{words.many(len(found), 'run')} in all."):
                kit.button("Clear filter", href=address)
        elif not shown:
            with kit.empty("No runs yet", "A run is one sync of one mapping. Sync one, and see here how it goes."):
                kit.button("Open destinations", href="/destinations")
        table = kit.Table(COLUMNS, shown, "Runs")
        table.set_visibility(bool(shown))

    def show(runs: list[Run]) -> None:
        now = rows(runs)
        table.show(now)
        if now:
            table.set_visibility(True)

    return show


def row(run: Run) -> kit.Cell:
    """A run as a row of a table."""
    rejected = run.get("rejected")
    return {
        "id": run["run_id"],
        "go": path("runs", run["run_id"]),
        "state": {**kit.state(run["status"]), "href": path("runs", run["run_id"])} | progress_of(run),
        "mapping": {"t": run["mapping"].partition("/")[2], "s": run["mapping"].partition("/")[0]},
        "started": {"t": words.ago(run["started_at"]), "title": words.exact(run["started_at"])},
        "by": started_by(run),
        "read": words.number(run.get("extracted")),
        "changed": words.number(changed(run)),
        "rejected": {"t": words.number(rejected), "tone": "bad" if rejected else "off"},
        "merges": words.number(run.get("merges")),
        "took": words.lasted(run.get("seconds")),
    }


def progress_of(run: Run) -> kit.Cell:
    """How far a run under way is, as the words of its state."""
    progress = run.get("progress") or {}
    if run["status"] != "running" or not progress.get("total"):
        return {}
    return {"t": f"Running, {words.percent(progress['rows'], progress['total'])}"}


def changed(run: Run) -> int | None:
    return run["added"] + run["updated"] + run["deleted"] if "added" in run else None


def started_by(run: Run) -> str:
    known = {"cli": "command line", "api": "API", "web": "web app", "schedule": "schedule"}
    return known.get(run["started_by"], str(run["started_by"]))
