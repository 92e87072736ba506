"""Usage: what came in through the tracking API, by month and profile source."""

from __future__ import annotations

from typing import Any

from nicegui.page_arguments import PageArguments

from onefold.web import kit, words
from onefold.web.kit import column, el
from onefold.web.shell import ask, crumbs
from onefold.workspace import Workspace

SAID = "API calls are accepted tracking calls. What the destination sends counts as neither calls nor tracked users."


async def usage(args: PageArguments) -> None:
    """Calls and tracked users, month by month."""
    crumbs(("Usage", args.path))
    found: list[dict[str, Any]] = await ask(Workspace.usage)
    with kit.page():
        kit.simple_head("Usage", SAID)
        month = [line for line in found if line["month"] == found[0]["month"]] if found else []
        with kit.strip():
            for key, label in (
                ("api_calls", "API calls"),
                ("tracked_users", "Tracked users"),
                ("sent", "Sent by syncs and mappings"),
                ("rejected", "Rejected calls"),
                ("duplicates", "Duplicates"),
            ):
                total = sum(line[key] for line in month)
                tone = "bad" if key == "rejected" and total else ""
                kit.figure(label, words.number(total), month[0]["month"] if month else "", tone=tone)
        with el("section", "of-panel"):
            if not found:
                with kit.empty("Nothing came in yet", "Send a live call with a write key, or sync a mapping."):
                    kit.button("Open the debugger", href="/debugger")
                return
            columns = [
                column("month", "Month", name=True),
                column("source", "Profile source"),
                *(
                    column(key, label, num=True)
                    for key, label in (
                        ("api_calls", "API calls"),
                        ("tracked_users", "Tracked users"),
                        ("sent", "Sent"),
                        ("rejected", "Rejected"),
                        ("duplicates", "Duplicates"),
                    )
                ),
            ]
            rows = [
                {
                    "id": str(at),
                    **{key: words.number(value) if isinstance(value, int) else value for key, value in line.items()},
                }
                for at, line in enumerate(found)
            ]
            kit.Table(columns, rows, "Usage by month and source")
