"""Rejected rows: what was refused in the last run of each mapping, with the reason."""

from __future__ import annotations

from typing import Any

from nicegui.page_arguments import PageArguments

from onefold.web import destinations, kit, words
from onefold.web.kit import column, el
from onefold.web.shell import ask, crumbs, given, path
from onefold.workspace import Workspace

NEWEST = 400
Group = dict[str, Any]


def groups(workspace: Workspace, within: str = "") -> list[Group]:
    """The rejected rows of each mapping's last run: by code, with an example, most rows first."""
    found = []
    newest = workspace.runs(NEWEST)
    for run in destinations.last_runs([run for run in newest if run["status"] != "running"]).values():
        if not run.get("rejected") or not run["mapping"].startswith(within):
            continue
        codes = workspace.run(run["run_id"]).get("rejected_by_code") or {}
        examples = {row["code"]: row["message"] for row in workspace.rejected(run["run_id"], 200)}
        found += [
            {"run": run, "mapping": run["mapping"], "code": code, "rows": count, "why": examples.get(code, "")}
            for code, count in codes.items()
        ]
    return sorted(found, key=lambda group: -group["rows"])


async def rejected(args: PageArguments) -> None:
    """All open rejected rows."""
    crumbs(("Rejected", args.path))
    found = await ask(groups)
    with kit.page():
        total = sum(group["rows"] for group in found)
        said = f"{words.many(total, 'row')} refused. Nothing is lost: a rejected row is tried again when it changes."
        kit.simple_head("Rejected", said if found else "Rows that were refused, each with its reason.")
        _panel(found)


async def within(args: PageArguments) -> None:
    """Those of a destination."""
    slug = given(args, "destination")
    now, destination, newest = await ask(destinations.reader(slug))
    found = await ask(lambda workspace: groups(workspace, f"{slug}/"))
    with kit.page():
        destinations.head(now, destination, newest, "rejected")
        _panel(found)


def _panel(found: list[Group]) -> None:
    with el("section", "of-panel"):
        if not found:
            with kit.empty("No rejected rows", "Rows that a mapping refuses are kept here with a code and a sentence."):
                kit.button("Open runs", href="/runs")
            return
        columns = [
            column("mapping", "Mapping", name=True),
            column("code", "Code"),
            column("why", "Why"),
            column("rows", "Rows", num=True),
            column("when", "When", faint=True),
            column("act", "Review", tight=True, hidden=True),
        ]
        rows = [
            {
                "id": str(at),
                "go": path("runs", group["run"]["run_id"]),
                "mapping": {"t": group["mapping"].partition("/")[2], "s": group["mapping"].partition("/")[0]},
                "code": {"t": group["code"], "code": True},
                "why": group["why"],
                "rows": words.number(group["rows"]),
                "when": {"t": words.ago(group["run"]["started_at"]), "title": words.exact(group["run"]["started_at"])},
                "act": {"act": "Review", "href": path("runs", group["run"]["run_id"])},
            }
            for at, group in enumerate(found)
        ]
        kit.Table(columns, rows, "Rejected rows by reason")
