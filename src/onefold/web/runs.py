"""Runs: a list, as it is everywhere, and how one is said on a line."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.web import kit, words
from onefold.web.kit import column, el, link
from onefold.web.shell import ask, asked, crumbs, path
from onefold.workspace import Workspace

NEWEST = 200
LIVE = 1.0  # seconds between two looks
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
    crumbs(("Runs", "/runs"))
    with kit.page():
        kit.simple_head("Runs", "One run is one sync of one mapping, or of the tables in a warehouse.")
        await listing(args, "/runs")


async def listing(args: PageArguments, address: str, within: str = "") -> None:
    """The newest runs, of a destination (DEST/) or all, with filters by status and mapping; kept up to date."""
    status, mapping = asked(args, "status"), asked(args, "mapping")

    def read(workspace: Workspace) -> list[Run]:
        return workspace.runs(NEWEST, mapping or within, status)

    def href(wanted: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in (("status", wanted), ("mapping", mapping)) if value)
        return f"{address}?{query}" if query else address

    found = await ask(read)
    with kit.row():
        kit.segment_links([(href(value), word) for value, word in FILTERS], href(status), "Status")
        if mapping:
            kit.pill(mapping)
            link("All mappings", address)
    with el("section", "of-panel"):
        with el("div") as none:
            if status or mapping:
                with kit.empty(f"No runs match “{', '.join(filter(None, (mapping, status)))}”", "There are others."):
                    kit.button("Clear filter", href=address)
            else:
                said = "A run is one sync of one mapping. Sync one, and see here how it goes."
                with kit.empty("No runs yet", said):
                    kit.button("Open destinations", href="/destinations")
        table = kit.Table(COLUMNS, [], "Runs")

    def show(found: list[Run]) -> None:
        table.show([row(run) for run in found])
        table.set_visibility(bool(found))
        none.set_visibility(not found)

    async def look() -> None:
        show(await ask(read))

    show(found)
    ui.timer(LIVE, look)


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
        "read": words.number(run.get("extracted", run.get("calls"))),
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
    known = {"cli": "command line", "api": "API", "web": "web app"}
    how = known.get(run["started_by"], str(run["started_by"]))
    return f"{run['who']}, {how}" if run.get("who") else how
