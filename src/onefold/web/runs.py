"""Runs, and one run: its stages, figures, log and rejected rows; live while it is under way."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.config import PROFILES
from onefold.web import kit, words
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, asked, crumbs, given, path
from onefold.workspace import Workspace

NEWEST, ROWS = 200, 500  # runs listed; rejected rows shown of a run
LIVE = 0.5  # seconds between two looks
STAGES = {"read": "Read", "diff": "Diff", "map": "Map", "apply": "Resolve and commit", "index": "Index"}
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
        kit.simple_head("Runs", "One run is one sync of one mapping, or of the tables in a warehouse.")
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


# --- one run ------------------------------------------------------------------------------------------


async def run(args: PageArguments) -> None:
    """One run."""
    run_id = given(args, "run")

    def read(workspace: Workspace) -> tuple[Run, list[Run], str]:
        found = workspace.run(run_id)
        mappings = workspace.configuration().destinations
        action = next(
            (
                mapping.action
                for destination in mappings
                for mapping in destination.mappings
                if f"{destination.slug}/{mapping.slug}" == found["mapping"]
            ),
            "",
        )
        return found, list(workspace.rejected(run_id, ROWS)), action

    found, rejected, action = await ask(read)
    destination, _, mapping = found["mapping"].partition("/")
    crumbs(("Runs", "/runs"), (mapping, f"/runs?mapping={found['mapping']}"), (found["run_id"], args.path))
    with kit.page() as page:
        _body(found, rejected, action, destination, mapping)

    async def look() -> None:
        nonlocal found
        if found["status"] != "running":
            timer.deactivate()
            return
        now, rows, _ = await ask(read)
        if now == found:
            return
        found = now
        page.clear()
        with page:
            _body(found, rows, action, destination, mapping)
        if found["status"] != "running":
            kit.toast(f"{mapping}: {words.STATES[found['status']][0].lower()}")

    timer = ui.timer(LIVE, look, active=found["status"] == "running")


def _body(found: Run, rejected: list[Run], action: str, destination: str, mapping: str) -> None:
    if found["mapping"].startswith(PROFILES):
        _written(found, mapping)
        return
    with kit.head(mapping) as (name, facts, actions):
        with name:
            kit.state_pill(found["status"])
        with facts:
            text(f"{words.action(action)} to" if action else "To")
            link(destination, path("destinations", destination))
            text(f"· started {words.clock(found['started_at'])} on {words.day(found['started_at'])}")
            text(f"by {started_by(found)} · {_elapsed(found)}")
        with actions:
            kit.button("View mapping", href=path("destinations", destination, "mappings", mapping))
    _wrong(found, "What was committed stays; the next sync goes on from there.")
    _stages(found)
    _figures(found)
    _rejected(found, rejected)


def _wrong(found: Run, now: str) -> None:
    """Why a run failed, if it did; `now` says what that means."""
    if found.get("error"):
        sentence = str(found["error"])
        kit.alert(sentence[:1].upper() + sentence[1:], now, str(found.get("code") or ""))


def _written(found: Run, target: str) -> None:
    """A run of Profiles Sync: the rows it wrote into each table."""
    with kit.head(target) as (name, facts, _):
        with name:
            kit.state_pill(found["status"])
        with facts:
            text("Profiles of")
            link(found["space"], path("spaces", found["space"]))
            text(f"as tables · started {words.clock(found['started_at'])} on {words.day(found['started_at'])}")
            text(f"by {started_by(found)} · {_elapsed(found)}")
    _wrong(found, "The tables are as they were; the next run does it all.")
    for said in [*["All tables were made anew."] * bool(found.get("full")), *(found.get("notes") or ())]:
        kit.note(said)
    rows = {table: count for table, count in (found.get("rows") or {}).items() if count}
    with kit.strip():
        kit.figure("Calls read", words.number(found.get("calls")), small=True)
        kit.figure("Rows written", words.number(sum(rows.values()) if "rows" in found else None), small=True)
    if rows:
        columns = [column("table", "Table", name=True, mono=True), column("rows", "Rows written", num=True)]
        cells = [{"id": table, "table": table, "rows": words.number(count)} for table, count in rows.items()]
        with kit.panel("Tables", words.number(len(rows))):
            kit.Table(columns, cells, "Tables", dense="30")


def _elapsed(found: Run) -> str:
    if found["status"] != "running":
        return f"took {words.lasted(found.get('seconds'))}"
    gone = words.ago(found["started_at"]).removesuffix(" ago")
    progress = found.get("progress") or {}
    if progress.get("rate") and progress.get("total"):
        left = (progress["total"] - progress["rows"]) / progress["rate"]
        return f"{gone} so far, about {words.lasted(max(left, 1))} left in this stage"
    return f"{gone} so far"


def _stages(found: Run) -> None:
    """Five stages: amount and rate while running, amount and time after."""
    seconds, progress = found.get("stages") or {}, found.get("progress") or {}
    amounts = {
        "read": (found.get("extracted"), "rows"),
        "diff": (changed(found), "changed"),
        "map": (found.get("sent"), "calls"),
        "apply": (found.get("sent"), "calls"),
        "index": (found.get("profiles_created"), "new profiles"),
    }
    now = _stage(progress.get("stage", ""))
    order = list(STAGES)
    with kit.strip():
        for stage, word in STAGES.items():
            at = found["status"] == "running" and stage == now
            done = stage in seconds or found["status"] in ("succeeded", "partly")
            before = found["status"] == "running" and now in order and order.index(stage) < order.index(now)
            with el("div", "of-running" if at else ""):
                with kit.row():
                    if at:
                        el("i", "of-spin", aria_hidden="true")
                    else:
                        kit.icon(
                            "succeeded" if done or before else "never",
                            f"of-i-14 {'of-tone-ok' if done or before else 'of-tone-off'}",
                        )
                    el("span", "of-name", word)
                _amount(at, progress, amounts[stage], seconds.get(stage))
                rows, total = (progress["rows"], progress.get("total") or 0) if at else (1 if done or before else 0, 1)
                kit.meter(rows, total, word, "" if at else "ok")


def _amount(at: bool, progress: Run, amount: tuple[int | None, str], seconds: float | None) -> None:
    with kit.row("of-note"):
        if at:
            of = f" of {progress['total']:,}" if progress.get("total") else " rows"
            text(f"{progress['rows']:,}{of}")
            rate = f"{words.short(progress['rate'])}/s" if progress.get("rate") else ""
        else:
            text("" if amount[0] is None else f"{amount[0]:,} {amount[1]}")
            rate = words.lasted(seconds) if seconds is not None else ""
        el("span", "of-right", rate)


def _stage(name: str) -> str:
    """The stage of the five that one of the engine's belongs to."""
    return {"open": "read", "done": "index"}.get(name, name)


def _figures(found: Run) -> None:
    with kit.strip():
        for key, label in (
            ("added", "Added"),
            ("updated", "Updated"),
            ("deleted", "Deleted"),
            ("unchanged", "Unchanged"),
            ("rejected", "Rejected"),
            ("profiles_created", "Profiles created"),
            ("profiles_updated", "Profiles updated"),
            ("merges", "Merges"),
        ):
            value = found.get(key)
            tone = "bad" if key == "rejected" and value else ""
            kit.figure(label, words.number(value), tone=tone, small=True)
    said = [
        f"{found[key]:,} {word}"
        for key, word in (
            ("filtered", "not selected by the trigger"),
            ("unresolved", "calls that belong to no profile"),
            ("identifiers_dropped", "identifiers left out by a limit"),
        )
        if found.get(key)
    ]
    if said:
        kit.note(", ".join(said))


def _rejected(found: Run, rows: list[Run]) -> None:
    total = found.get("rejected") or len(rows)
    if not total:
        return
    codes = found.get("rejected_by_code") or {}
    shown = rows
    with kit.panel("Rejected rows", words.number(total)) as (right, _):
        with right:
            options = [("", f"All {total:,}"), *((code, f"{code} {count:,}") for code, count in codes.items())]
            kit.segments(options, "", lambda code: choose(code), "Code")
            kit.button("Export CSV", lambda: _export(found, shown), "ghost", "download", small=True)
        table = rejected_table(shown)
        if total > len(rows):
            el("div", "of-panel-foot of-note", f"The first {len(rows):,} of {total:,} are shown.")

    def choose(code: str) -> None:
        nonlocal shown
        shown = [one for one in rows if code in ("", one["code"])]
        table.show(rejected_rows(shown))


def _export(found: Run, rows: list[Run]) -> None:
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow(["key", "code", "message", "row"])
    for one in rows:
        lines.writerow([one["key"], one["code"], one["message"], json.dumps(one["row"], ensure_ascii=False)])
    ui.download.content(written.getvalue(), f"rejected-{found['run_id']}.csv", "text/csv")


REJECTED = [
    column("key", "Key", mono=True),
    column("code", "Code"),
    column("why", "Why"),
    column("row", "Row", mono=True, faint=True),
]


def rejected_rows(rows: list[Run]) -> list[kit.Cell]:
    return [
        {
            "id": str(at),
            "go": True,
            "key": "—" if one["key"] is None else words.flat(one["key"], 60),
            "code": {"t": one["code"], "code": True},
            "why": one["message"],
            "row": "" if one["row"] is None else words.flat(one["row"], 160),
        }
        for at, one in enumerate(rows)
    ]


def rejected_table(rows: list[Run]) -> kit.Table:
    """Rejected rows; each opens whole."""
    table = kit.Table(REJECTED, rejected_rows(rows), "Rejected rows", dense="34")

    def whole(at: str) -> None:
        one = rows[int(at)]
        with kit.dialog(f"Row {one['key'] if one['key'] is not None else 'without a key'}", wide=True):
            kit.alert(one["message"], original=one["code"])
            if one.get("remedy"):
                el("p", "of-text", one["remedy"])
            kit.dump(one["row"])

    table.on_open(whole)
    return table
