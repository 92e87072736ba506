"""The overview: is it healthy, what needs somebody, and what ran."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.errors import OnefoldError
from onefold.roles import EDITOR
from onefold.web import chart, destinations, kit, runs, standing, words
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, asked, crumbs, may, path
from onefold.web.standing import Group, Standing
from onefold.workspace import Workspace

RANGES = {
    "24h": ("24 h", timedelta(hours=24), 24),
    "7d": ("7 d", timedelta(days=7), 28),
    "30d": ("30 d", timedelta(days=30), 30),
}
TICKS, LIVE = 24, 2.0
WINDOW = 60.0  # seconds over which calls a second are counted
KINDS = ("added", "updated", "deleted", "rejected")
FIGURES = (*KINDS, "extracted", "unchanged", "profiles_created", "profiles_updated", "merges", "identifiers_dropped")
TONES = {"succeeded": "ok", "partly": "warn", "failed": "bad", "running": "run"}
# (seconds of the clock, live calls so far) of the last looks, whoever's they were.
_CALLS: deque[tuple[float, int]] = deque()


@dataclass(frozen=True)
class Read:
    """What the overview shows."""

    now: config.Workspace
    standing: Standing
    groups: list[Group]
    spans: list[dict[str, int]]  # FIGURES of each bar of the chart
    sizes: dict[str, int]  # profiles of each space
    usage: list[dict[str, Any]]  # of this month

    def sum(self, figure: str) -> int:
        return sum(span[figure] for span in self.spans)


def _read(workspace: Workspace, chosen: str) -> Read:
    now = workspace.configuration()
    sizes: dict[str, int] = {}
    for space in now.spaces:
        with suppress(OnefoldError):  # its own screen says what is wrong with it
            sizes[space.slug] = workspace.size(space.slug)
    _, span, bars = RANGES[chosen]
    usage = workspace.usage()
    return Read(
        now,
        standing.read(workspace, newest=TICKS),
        standing.groups(workspace),
        workspace.tally(datetime.now(UTC) - span, bars, FIGURES),
        sizes,
        [line for line in usage if line["month"] == usage[0]["month"]],
    )


def _rate(read: Read) -> float:
    """Live calls a second, of late; every look adds to what is known."""
    calls, at = sum(line["api_calls"] for line in read.usage), monotonic()
    if _CALLS and calls < _CALLS[-1][1]:  # another month, or another folder
        _CALLS.clear()
    _CALLS.append((at, calls))
    while at - _CALLS[0][0] > WINDOW:
        _CALLS.popleft()
    gone = at - _CALLS[0][0]
    return (calls - _CALLS[0][1]) / gone if gone else 0.0


async def overview(args: PageArguments) -> None:
    """How the workspace does."""
    chosen = asked(args, "range", "24h")
    chosen = chosen if chosen in RANGES else "24h"
    word = RANGES[chosen][0]
    crumbs(("Overview", "/"))
    shown = await ask(lambda workspace: _read(workspace, chosen))
    now = shown.now
    if not any(one.mappings for one in now.destinations) and not any(shown.sizes.values()):
        _first(now)
        return
    with kit.page():
        with kit.head("Overview") as (_, _, actions), actions:
            with kit.row("of-note").classes("of-live"):
                kit.icon("debugger", "of-i-14")
                text("Live")
            kit.segment_links(
                [("/" if key == "24h" else f"/?range={key}", word) for key, (word, *_) in RANGES.items()],
                "/" if chosen == "24h" else f"/?range={chosen}",
                "Range",
            )
            if may(EDITOR) and now.destinations:
                kit.button("Sync all", _sync_all, "", "sync")
        strip = el("div")
        with el("div", "of-split of-split-level of-split-low"):
            bars = _Bars(chosen)
            profiles = el("div", "of-filled")
        attention, syncs = el("div"), el("div")

    def show(read: Read) -> None:
        for place, draw in ((strip, _figures), (profiles, _profiles), (attention, _attention), (syncs, _syncs)):
            place.clear()
            with place:
                draw(read, word)
        bars.show(read)

    async def look() -> None:
        nonlocal shown
        found = await ask(lambda workspace: _read(workspace, chosen))
        if found != shown:
            shown = found
            show(found)

    show(shown)
    ui.timer(LIVE, look)


def _first(now: config.Workspace) -> None:
    """A workspace without mappings and profiles says what to do next."""
    place = path("destinations", now.destinations[0].slug, "mappings", "new") if now.destinations else ""
    with kit.page():
        kit.simple_head("Welcome to Onefold", "Five steps from a warehouse to profiles.")
        with el("ol", "of-choices"):
            for at, (done, href, title, said) in enumerate(
                (
                    (
                        now.spaces,
                        "/spaces/new",
                        "Create a Profile Space",
                        "Where profiles are kept, and by which rules they are one.",
                    ),
                    (now.sources, "/sources/new", "Add a source", "The warehouse whose rows become profiles."),
                    (now.models, "/models/new", "Write a model", "A query with a unique key."),
                    (now.destinations, "/destinations/new", "Add a destination", "It sends rows to a Profile Space."),
                    ((), place or "/destinations", "Add a mapping", "Which rows become which calls, and when."),
                ),
                1,
            ):
                with el("li"), el("a", "of-choice", href=href):
                    with el("strong"):
                        if done:
                            kit.icon("succeeded", "of-i-14 of-tone-ok")
                            kit.sr("Done: ")
                        text(f"{at}. {title}")
                    text(said)


async def _sync_all() -> None:
    now = await ask(Workspace.configuration)
    enabled = [one for one in now.destinations if one.enabled and any(mapping.enabled for mapping in one.mappings)]
    if not enabled:
        raise OnefoldError("no destination with a mapping is enabled; switch one on first", code="disabled")
    for destination in enabled:
        await destinations.sync(destination, destination.mappings)


def _figures(read: Read, word: str) -> None:
    stands = read.standing
    enabled = [
        f"{one.slug}/{mapping.slug}"
        for one in read.now.destinations
        if one.enabled
        for mapping in one.mappings
        if mapping.enabled and mapping.model
    ]
    last = {path_: stands.last.get(path_) for path_ in enabled}
    failing = [path_ for path_, run in last.items() if run and run["status"] == "failed"]
    partly = [path_ for path_ in enabled if stands.refused.get(path_) and path_ not in failing]
    open_ = sum(group["rows"] for group in read.groups)
    rate = _rate(read)
    with kit.strip():
        _healthy(len(enabled), len(failing), len(partly))
        kit.figure(
            "Rows synced",
            words.number(sum(read.sum(kind) for kind in ("added", "updated", "deleted"))),
            f"{words.short(read.sum('extracted'))} read, {words.short(read.sum('unchanged'))} unchanged",
        )
        where = len({group["mapping"] for group in read.groups})
        oldest = words.ago(min((group["at"] for group in read.groups), default=None)).removesuffix(" ago")
        kit.figure(
            "Rejected rows, open",
            words.number(open_),
            f"in {words.many(where, 'mapping')}, oldest {oldest}" if open_ else "none",
            tone="bad" if open_ else "",
        )
        created, merges = read.sum("profiles_created"), read.sum("merges")
        kit.figure(
            "Profiles",
            words.number(sum(read.sizes.values())),
            f"+{created:,} new, {words.many(merges, 'merge')} in {word}",
        )
        calls, refused = (sum(line[key] for line in read.usage) for key in ("api_calls", "rejected"))
        kit.figure(
            "Live calls",
            words.number(rate) if rate >= 100 else f"{rate:.1f}".removesuffix(".0"),
            f"{words.short(calls)} this month, {refused:,} rejected",
            unit="per second",
        )


def _healthy(enabled: int, failing: int, partly: int) -> None:
    """How many syncs do well, and a dot for each kind of those that do not."""
    with kit.figure("Syncs healthy", str(enabled - failing - partly), unit=f"of {enabled}"), kit.row("of-note"):
        found = [("bad", f"{failing} failing")] * bool(failing)
        found += [("warn", f"{partly} with rejected rows")] * bool(partly)
        for tone, said in found or [("ok" if enabled else "off", "nothing fails" if enabled else "none is enabled")]:
            with el("span"):
                el("i", f"of-dot of-dot-{tone}", aria_hidden="true")
                text(said)


class _Bars:
    """Rows synced, one bar a span."""

    def __init__(self, chosen: str) -> None:
        self._word, self._span, self._count = RANGES[chosen]
        width = self._span / self._count
        unit = "hour" if width <= timedelta(hours=1) else "6 hours" if width < timedelta(days=1) else "day"
        with kit.panel("Rows synced", f"per {unit}, all mappings", plain=True) as (right, self._body):
            with right, el("div", "of-legend", aria_hidden="true"):
                for kind in KINDS:
                    with el("span"):
                        el("i", f"of-{kind}")
                        text(kind.capitalize())
        self._drawn: ui.echart | None = None

    def show(self, read: Read) -> None:
        options = self._options(read.spans)
        if self._drawn is not None and not self._drawn.is_deleted:
            chart.show(self._drawn, options)
            return
        self._body.clear()
        with self._body:
            if any(read.sum(kind) for kind in KINDS):
                total = ", ".join(f"{read.sum(kind):,} {kind}" for kind in KINDS)
                self._drawn = chart.draw(f"Rows synced in the last {self._word}: {total}", options)
                return
            said = "Rows that were added, updated or deleted are counted here."
            with kit.empty(f"Nothing was synced in the last {self._word}", said):
                pass

    def _options(self, spans: list[dict[str, int]]) -> chart.Options:
        start, width = datetime.now(UTC) - self._span, self._span / self._count
        ends = [start + width * (at + 1) for at in range(self._count)]
        labels = [f"{end:%H:%M}" if self._span.days <= 1 else f"{end:%-d %b}" for end in ends]
        return {
            "xAxis": {"type": "category", "data": labels},
            "series": [
                {
                    "type": "bar",
                    "stack": "rows",
                    "name": kind.capitalize(),
                    "data": [span[kind] for span in spans],
                    "barCategoryGap": "28%",
                    "itemStyle": {":color": chart.color(kind)},
                }
                for kind in KINDS
            ],
        }


def _profiles(read: Read, word: str) -> None:
    total, spaces = sum(read.sizes.values()), read.now.spaces
    name = spaces[0].slug if len(spaces) == 1 else "all spaces"
    with kit.panel("Profiles", name) as (right, _):
        with right:
            link("All profiles", "/profiles")
        rows: list[kit.Cell] = [
            {"id": "total", "what": "Total", "count": words.number(total), "note": ""},
            {"id": "new", "what": "New", "count": words.number(read.sum("profiles_created")), "note": f"in {word}"},
            {
                "id": "updated",
                "what": "Updated",
                "count": words.number(read.sum("profiles_updated")),
                # More than all: some were updated more than once, and no share says that.
                "note": words.percent(read.sum("profiles_updated"), total)
                if 0 < read.sum("profiles_updated") <= total
                else "",
            },
            {"id": "merged", "what": "Merged", "count": words.number(read.sum("merges")), "note": ""},
            {
                "id": "limit",
                "what": "Identifiers left out",
                "count": words.number(read.sum("identifiers_dropped")),
                "note": {"t": "Rules", "href": "/rules"},
            },
        ]
        columns = [
            column("what", "What", name=True),
            column("count", "Count", num=True),
            column("note", "Note", num=True, faint=True),
        ]
        kit.Table(columns, rows, "Profiles", dense="30").classes("of-headless")


def _attention(read: Read, _word: str) -> None:
    failed = [run for run in read.standing.last.values() if run and run["status"] == "failed"]
    with kit.panel("Needs attention") as (right, _):
        with right:
            if read.groups:
                link("All rejected rows", "/rejected")
        actions = {
            f"{one.slug}/{mapping.slug}": words.action(mapping.action)
            for one in read.now.destinations
            for mapping in one.mappings
        }
        rows = [_failed(run, actions) for run in failed] + [_refused(group, actions) for group in read.groups[:8]]
        if not rows:
            with kit.empty("Nothing needs you", "Failed runs and rejected rows stand here, each with what to do."):
                pass
            return
        columns = [
            column("state", "State", width="128px"),
            column("mapping", "Mapping", name=True, width="22%"),
            column("what", "What happened"),
            column("rows", "Rows", num=True, width="76px"),
            column("when", "When", faint=True, width="104px"),
            column("act", "Action", hidden=True, num=True, width="104px"),
        ]
        kit.Table(columns, rows, "Needs attention", fixed=True)


def _failed(run: runs.Run, actions: dict[str, str]) -> kit.Cell:
    href = path("runs", run["run_id"])
    return {
        "id": run["run_id"],
        "go": href,
        "state": {"t": "Run failed", "icon": "failed", "tone": "bad"},
        "mapping": {"t": run["mapping"].partition("/")[2], "s": actions.get(run["mapping"])},
        "what": {"t": words.flat(run.get("error") or "", 160), "title": run.get("error")},
        "when": {"t": words.ago(run["started_at"]), "title": words.exact(run["started_at"])},
        "act": {"act": "Open run", "href": href},
    }


def _refused(group: Group, actions: dict[str, str]) -> kit.Cell:
    href = path("runs", group["run_id"]) + f"?code={group['code']}"
    return {
        "id": f"{group['run_id']} {group['code']}",
        "go": href,
        "state": {"t": "Rejected", "icon": "partly", "tone": "warn"},
        "mapping": {"t": group["mapping"].partition("/")[2], "s": actions.get(group["mapping"])},
        "what": {"t": words.flat(group["why"], 120), "c": group["code"], "title": group["why"]},
        "rows": words.number(group["rows"]),
        "when": {"t": words.ago(group["at"]), "title": words.exact(group["at"])},
        "act": {"act": "Review", "href": href},
    }


def _syncs(read: Read, _word: str) -> None:
    stands = read.standing
    with kit.panel("Syncs", f"last {TICKS} runs of each") as (right, _):
        with right:
            link("All runs", "/runs")
        rows = []
        for destination in read.now.destinations:
            for mapping in destination.mappings:
                selector = f"{destination.slug}/{mapping.slug}"
                latest, statuses = stands.last.get(selector), stands.statuses.get(selector, [])
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
                        "next": stands.next(selector, mapping),
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
