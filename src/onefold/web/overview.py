"""The overview: is it healthy, what needs somebody, and what ran."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.errors import OnefoldError
from onefold.roles import EDITOR
from onefold.web import chart, destinations, kit, rejected, runs, words
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, asked, crumbs, may, path
from onefold.workspace import Workspace

RANGES = {
    "24h": ("24 h", timedelta(hours=24), 24),
    "7d": ("7 d", timedelta(days=7), 28),
    "30d": ("30 d", timedelta(days=30), 30),
}
NEWEST, TICKS, LIVE = 1000, 24, 2.0
KINDS = ("added", "updated", "deleted", "rejected")
TONES = {"succeeded": "ok", "partly": "warn", "failed": "bad", "running": "run"}
Read = tuple[config.Workspace, list[runs.Run], list[rejected.Group], dict[str, int], list[dict[str, Any]]]


def _read(workspace: Workspace) -> Read:
    now = workspace.configuration()
    sizes: dict[str, int] = {}
    for space in now.spaces:
        try:
            sizes[space.slug] = workspace.size(space.slug)
        except OnefoldError:
            continue  # its own screen says what is wrong with it
    return now, workspace.runs(NEWEST), rejected.groups(workspace), sizes, workspace.usage()


async def overview(args: PageArguments) -> None:
    """How the workspace does."""
    chosen = asked(args, "range", "24h")
    chosen = chosen if chosen in RANGES else "24h"
    crumbs(("Overview", "/"))
    read = await ask(_read)
    if not any((read[0].spaces, read[0].sources, read[0].models, read[0].destinations)):
        _first()
        return
    with kit.page():
        with kit.head("Overview") as (_, _, actions), actions:
            kit.segment_links(
                [("/" if key == "24h" else f"/?range={key}", word) for key, (word, *_) in RANGES.items()],
                "/" if chosen == "24h" else f"/?range={chosen}",
                "Range",
            )
            if may(EDITOR) and read[0].destinations:
                kit.button("Sync all", lambda: _sync_all(read[0]), "", "sync")
        body = el("div", "of-stack")
    with body:
        _body(read, chosen)

    async def look() -> None:
        nonlocal read
        now = await ask(_read)
        if now != read:
            read = now
            body.clear()
            with body:
                _body(read, chosen)

    ui.timer(LIVE, look)


def _first() -> None:
    """An empty workspace says what to do next."""
    with kit.page():
        kit.simple_head("Welcome to Onefold", "Four steps from a warehouse to profiles.")
        with el("div", "of-choices"):
            for href, title, said in (
                (
                    "/spaces/new",
                    "1. Create a Profile Space",
                    "Where profiles are kept, and by which rules they are one.",
                ),
                ("/sources/new", "2. Add a source", "The warehouse whose rows become profiles."),
                ("/models/new", "3. Write a model", "A query with a unique key."),
                ("/destinations/new", "4. Add a destination", "Its mappings turn rows into calls."),
            ):
                with el("a", "of-choice", href=href):
                    el("strong", "", title)
                    text(said)


async def _sync_all(now: config.Workspace) -> None:
    for destination in now.destinations:
        if destination.enabled:
            await destinations.sync(destination, destination.mappings)


def _body(read: Read, chosen: str) -> None:
    now, newest, groups, sizes, usage = read
    word, span, bars = RANGES[chosen]
    since = (datetime.now(UTC) - span).isoformat()
    recent = [run for run in newest if words.moment(run["started_at"]).isoformat() >= since]
    _figures(now, newest, recent, groups, sizes, usage, word)
    with el("div", "of-split"):
        _chart(recent, span, bars, word)
        _profiles(now, recent, sizes, word)
    _attention(newest, groups)
    _syncs(now, newest)


def _figures(
    now: config.Workspace,
    newest: list[runs.Run],
    recent: list[runs.Run],
    groups: list[rejected.Group],
    sizes: dict[str, int],
    usage: list[dict[str, Any]],
    word: str,
) -> None:
    last = destinations.last_runs(newest)
    enabled = [
        f"{one.slug}/{mapping.slug}"
        for one in now.destinations
        if one.enabled
        for mapping in one.mappings
        if mapping.enabled and mapping.model
    ]
    status = Counter(last[path_]["status"] for path_ in enabled if path_ in last)
    failing, partly = status["failed"], status["partly"]
    changed = sum(runs.changed(run) or 0 for run in recent)
    read = sum(run.get("extracted") or 0 for run in recent)
    unchanged = sum(run.get("unchanged") or 0 for run in recent)
    open_ = sum(group["rows"] for group in groups)
    created, merges = (sum(run.get(key) or 0 for run in recent) for key in ("profiles_created", "merges"))
    month = [line for line in usage if line["month"] == usage[0]["month"]] if usage else []
    with kit.strip():
        said = ", ".join(
            filter(None, (f"{failing} failing" if failing else "", f"{partly} with rejected rows" if partly else ""))
        )
        kit.figure(
            "Syncs healthy", str(len(enabled) - failing - partly), said or "nothing fails", unit=f"of {len(enabled)}"
        )
        kit.figure(
            "Rows synced", words.number(changed), f"{words.short(read)} read, {words.short(unchanged)} unchanged"
        )
        where = len({group["mapping"] for group in groups})
        kit.figure(
            "Rejected rows, open",
            words.number(open_),
            f"in {words.many(where, 'mapping')}" if open_ else "none",
            tone="bad" if open_ else "",
        )
        kit.figure("Profiles", words.number(sum(sizes.values())), f"+{created:,} new, {merges:,} merges in {word}")
        calls = sum(line["api_calls"] for line in month)
        refused = sum(line["rejected"] for line in month)
        kit.figure("Live calls", words.number(calls), f"this month, {refused:,} rejected")


def _chart(recent: list[runs.Run], span: timedelta, bars: int, word: str) -> None:
    width = span / bars
    start = datetime.now(UTC) - span
    sums = {kind: [0] * bars for kind in KINDS}
    for run in recent:
        at = min(bars - 1, max(0, int((words.moment(run["started_at"]) - start) / width)))
        for kind in KINDS:
            sums[kind][at] += run.get(kind) or 0
    labels = [
        f"{start + width * (at + 1):%H:%M}" if span.days <= 1 else f"{start + width * (at + 1):%-d %b}"
        for at in range(bars)
    ]
    unit = "hour" if width <= timedelta(hours=1) else "6 hours" if width < timedelta(days=1) else "day"
    with kit.panel("Rows synced", f"per {unit}, all mappings", plain=True) as (right, _):
        with right, el("div", "of-legend", aria_hidden="true"):
            for kind in KINDS:
                with el("span"):
                    el("i", f"of-{kind}")
                    text(kind.capitalize())
        if not any(map(any, sums.values())):
            with kit.empty(
                f"Nothing was synced in the last {word}", "Rows that were added, updated or deleted are counted here."
            ):
                pass
            return
        total = ", ".join(f"{sum(sums[kind]):,} {kind}" for kind in KINDS)
        chart.draw(f"Rows synced in the last {word}: {total}", _bars(labels, sums))


def _bars(labels: list[str], sums: dict[str, list[int]]) -> chart.Options:
    return {
        "xAxis": {"type": "category", "data": labels},
        "series": [
            {
                "type": "bar",
                "stack": "rows",
                "name": kind.capitalize(),
                "data": sums[kind],
                "barCategoryGap": "28%",
                "itemStyle": {":color": chart.color(kind)},
            }
            for kind in KINDS
        ],
    }


def _profiles(now: config.Workspace, recent: list[runs.Run], sizes: dict[str, int], word: str) -> None:
    total = sum(sizes.values())
    figures = {
        key: sum(run.get(key) or 0 for run in recent)
        for key in ("profiles_created", "profiles_updated", "merges", "identifiers_dropped")
    }
    name = now.spaces[0].slug if len(now.spaces) == 1 else "all spaces"
    with kit.panel("Profiles", name) as (right, _):
        with right:
            link("All profiles", "/profiles")
        rows: list[kit.Cell] = [
            {"id": "total", "what": "Total", "count": words.number(total), "note": ""},
            {"id": "new", "what": "New", "count": words.number(figures["profiles_created"]), "note": f"in {word}"},
            {
                "id": "updated",
                "what": "Updated",
                "count": words.number(figures["profiles_updated"]),
                "note": words.percent(figures["profiles_updated"], total) if total else "",
            },
            {"id": "merged", "what": "Merged", "count": words.number(figures["merges"]), "note": ""},
            {
                "id": "limit",
                "what": "Identifiers left out",
                "count": words.number(figures["identifiers_dropped"]),
                "note": {"t": "Rules", "href": "/rules"},
            },
        ]
        columns = [
            column("what", "What", name=True),
            column("count", "Count", num=True),
            column("note", "Note", num=True, faint=True),
        ]
        kit.Table(columns, rows, "Profiles", dense="30").classes("of-headless")


def _attention(newest: list[runs.Run], groups: list[rejected.Group]) -> None:
    failed = [run for run in destinations.last_runs(newest).values() if run["status"] == "failed"]
    with kit.panel("Needs attention") as (right, _):
        with right:
            if groups:
                link("All rejected rows", "/rejected")
        rows = [_failed(run) for run in failed] + [_refused(group) for group in groups[:8]]
        if not rows:
            with kit.empty("Nothing needs you", "Failed runs and rejected rows stand here, each with what to do."):
                pass
            return
        columns = [
            column("state", "State"),
            column("mapping", "Mapping", name=True),
            column("what", "What happened"),
            column("rows", "Rows", num=True),
            column("when", "When", faint=True),
            column("act", "Action", tight=True, hidden=True),
        ]
        kit.Table(columns, rows, "Needs attention")


def _failed(run: runs.Run) -> kit.Cell:
    href = path("runs", run["run_id"])
    return {
        "id": run["run_id"],
        "go": href,
        "state": {"t": "Run failed", "icon": "failed", "tone": "bad"},
        "mapping": {"t": run["mapping"].partition("/")[2], "s": run["mapping"].partition("/")[0]},
        "what": {"t": words.flat(run.get("error") or "", 160), "title": run.get("error")},
        "when": {"t": words.ago(run["started_at"]), "title": words.exact(run["started_at"])},
        "act": {"act": "Open run", "href": href},
    }


def _refused(group: rejected.Group) -> kit.Cell:
    href = path("runs", group["run"]["run_id"])
    return {
        "id": f"{group['mapping']} {group['code']}",
        "go": href,
        "state": {"t": "Rejected", "icon": "partly", "tone": "warn"},
        "mapping": {"t": group["mapping"].partition("/")[2], "s": group["mapping"].partition("/")[0]},
        "what": {"t": words.flat(group["why"], 120), "c": group["code"], "title": group["why"]},
        "rows": words.number(group["rows"]),
        "when": {"t": words.ago(group["run"]["started_at"]), "title": words.exact(group["run"]["started_at"])},
        "act": {"act": "Review", "href": href},
    }


def _syncs(now: config.Workspace, newest: list[runs.Run]) -> None:
    history: dict[str, list[str]] = {}
    for run in newest:
        history.setdefault(run["mapping"], []).append(run["status"])
    last = destinations.last_runs(newest)
    with kit.panel("Syncs", f"last {TICKS} runs of each") as (right, _):
        with right:
            link("All runs", "/runs")
        rows = []
        for destination in now.destinations:
            for mapping in destination.mappings:
                selector = f"{destination.slug}/{mapping.slug}"
                latest, statuses = last.get(selector), history.get(selector, [])[:TICKS]
                href = path("destinations", destination.slug, "mappings", mapping.slug)
                ticks = ["none"] * (TICKS - len(statuses)) + [TONES.get(one, "") for one in reversed(statuses)]
                counts = Counter(statuses)
                label = ", ".join(
                    [words.many(len(statuses), "run"), *(f"{count} {one}" for one, count in counts.items())]
                )
                rows.append(
                    {
                        "id": selector,
                        "go": href,
                        "state": destinations.last_cell(mapping, latest) | {"s": None},
                        "mapping": {"t": mapping.name, "s": words.action(mapping.action), "href": href},
                        "history": {"ticks": ticks, "label": label},
                        "changed": words.number(runs.changed(latest)) if latest else "—",
                        "last": {"t": words.ago(latest["started_at"]), "title": words.exact(latest["started_at"])}
                        if latest
                        else "—",
                        "next": words.when(mapping.schedule) if mapping.model else "as they come",
                    }
                )
        if not rows:
            with kit.empty("No mappings yet", "A mapping turns the rows of a model into calls."):
                kit.button("Open destinations", href="/destinations")
            return
        columns = [
            column("state", "State"),
            column("mapping", "Mapping", name=True),
            column("history", "History"),
            column("changed", "Rows changed", num=True),
            column("last", "Last run", faint=True),
            column("next", "Next", faint=True),
        ]
        kit.Table(columns, rows, "Syncs")
