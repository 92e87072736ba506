"""One run: its stages, figures, throughput, log and rejected rows; live while it is under way."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.config import PROFILES
from onefold.remote import REMOTE
from onefold.roles import EDITOR
from onefold.web import chart, kit, refused, runs, words
from onefold.web.kit import column, el, link, text
from onefold.web.runs import Run
from onefold.web.shell import ask, asked, crumbs, given, may, path
from onefold.workspace import Workspace

LIVE = 0.5  # seconds between two looks
# The engine's stages, and those of them that write what they have done.
STAGES = {"read": "Read", "diff": "Diff", "map": "Map", "apply": "Resolve and commit", "index": "Index"}
DELIVERED = {"read": "Read", "diff": "Diff", "map": "Map", "deliver": "Deliver"}
WRITING = ("apply", "deliver")
FIGURES = (
    ("added", "Added"),
    ("updated", "Updated"),
    ("deleted", "Deleted"),
    ("unchanged", "Unchanged"),
    ("rejected", "Rejected"),
    ("profiles_created", "Profiles created"),
    ("profiles_updated", "Profiles updated"),
    ("merges", "Merges"),
)
COMMITS = 40  # lines of a log that tell of commits


async def run(args: PageArguments) -> None:
    """One run."""
    run_id = given(args, "run")

    def read(workspace: Workspace) -> tuple[Run, list[Run]]:
        found = workspace.run(run_id)
        return found, list(workspace.rejected(run_id, refused.ROWS)) if found.get("rejected") else []

    found, rejected = await ask(read)
    mapping = found["mapping"].partition("/")[2]
    crumbs(("Runs", "/runs"), (mapping, f"/runs?mapping={found['mapping']}"), (found["run_id"], args.path))
    with kit.page():
        page: _Page | _Written = _Written() if found["mapping"].startswith(PROFILES) else _Page()
        page.show(found)
        rows = refused.Rows(found, rejected, asked(args, "code"))

    async def look() -> None:
        nonlocal found
        now, refused_now = await ask(read)
        if now == found:
            return
        found = now
        page.show(found)
        rows.show(found, refused_now)
        if found["status"] != "running":
            timer.deactivate()
            kit.toast(f"{mapping}: {words.STATES[found['status']][0].lower()}")

    timer = ui.timer(LIVE, look, active=found["status"] == "running")


class _Page:
    """The parts above the rejected rows, each drawn anew when what it shows has changed."""

    def __init__(self) -> None:
        self._head, self._stages, self._figures = (el("div", "of-stack") for _ in range(3))
        with el("div", "of-split of-split-level"):
            self._chart = _Throughput()
            with kit.panel("Log") as (right, body):
                self._follows, self._log = right, body

    def show(self, found: Run) -> None:
        for place, draw in ((self._head, _head), (self._stages, _stages), (self._figures, _figures), (self._log, _log)):
            place.clear()
            with place:
                draw(found)
        self._follows.clear()
        if found["status"] == "running":
            with self._follows:
                text("follows the run", "of-note")
        self._chart.show(found)


class _Written:
    """The page of a run of Profiles Sync."""

    def __init__(self) -> None:
        self._place = el("div", "of-stack")

    def show(self, found: Run) -> None:
        self._place.clear()
        with self._place:
            _written(found)


# --- the head -----------------------------------------------------------------------------------------


def _head(found: Run) -> None:
    destination, _, mapping = found["mapping"].partition("/")
    recipe = (found.get("recipe") or {}).get("mapping") or {}
    with kit.head(mapping) as (name, facts, actions):
        with name:
            kit.state_pill(found["status"])
        with facts:
            text(f"{words.action(recipe['action'])} to" if recipe else "To")
            link(destination, path("destinations", destination))
            text(f"· started {words.clock(found['started_at'])} on {words.day(found['started_at'])}")
            text(f"by {runs.started_by(found)} · {_elapsed(found)}")
            if found.get("about"):
                text(f"· {found['kind']} of")
                link(found["about"], path("runs", found["about"]), "of-mono")
        with actions:
            if found["status"] != "running" and found.get("sent") and may(EDITOR):
                kit.button("Replay", lambda: _replay(found), "", "resend")
            viewer = kit.button("View mapping", href=path("destinations", destination, "mappings", mapping))
            viewer.props["data-edit"] = "1"
            _stopper(found)
    _wrong(found, "What was committed stays; the next sync goes on from there.")
    if found.get("note"):
        kit.alert("No profile changed", str(found["note"]), tone="warn")


def _wrong(found: Run, now: str) -> None:
    """Why a run failed or was stopped, if so; `now` says what that means."""
    if found.get("error"):
        sentence, stopped = str(found["error"]), found["status"] == "cancelled"
        tone = "warn" if stopped else "bad"
        kit.alert(kit.sentence(sentence), "" if stopped else now, str(found.get("code") or ""), tone)


def _written(found: Run) -> None:
    """A run of Profiles Sync: the rows it wrote into each table."""
    with kit.head(found["mapping"].removeprefix(PROFILES)) as (name, facts, actions):
        with name:
            kit.state_pill(found["status"])
        with facts:
            text("Profiles of")
            link(found["space"], path("spaces", found["space"]))
            text(f"as tables · started {words.clock(found['started_at'])} on {words.day(found['started_at'])}")
            text(f"by {runs.started_by(found)} · {_elapsed(found)}")
        with actions:
            _stopper(found)
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


def _stopper(found: Run) -> None:
    if found["status"] == "running" and may(EDITOR):
        stopping = "cancelled_by" in found
        said = "Stopping…" if stopping else "Stop run"
        kit.button(said, lambda: _stop(found["run_id"]), "danger", "stop", off=stopping)


async def _replay(found: Run) -> None:
    """Say what sending this run's calls again would do, and do it if wanted. Raises OnefoldError."""
    run_id = found["run_id"]
    said = await ask(lambda workspace: workspace.replayable(run_id))
    others = (
        ("already_there", "in profiles already"),
        ("superseded", "of rows that were sent again since, or are gone"),
        ("forgotten", "no longer kept whole"),
    )
    rest = ", ".join(f"{said[key]:,} {why}" for key, why in others if said[key])
    sent = f"The run sent {words.many(said['sent'], 'call')}"
    if not said["to_send"]:
        kit.toast(f"Nothing is to be sent again. {sent}: {rest or 'none is recorded'}", "succeeded")
        return

    async def done() -> None:
        new = await ask(lambda workspace: workspace.start_replay(run_id, started_by="web"))
        ui.navigate.to(path("runs", new))

    again = words.many(said["to_send"], "call")
    left = f"; of the others {rest}" if rest else ""
    kit.confirm(
        "Replay this run?",
        f"{sent}. {kit.sentence(again)} go again to {said['to']}, as they are recorded and under the same"
        f" message ids, so that nothing is doubled{left}.",
        f"Send {again} again",
        done,
        destroy=False,
    )


async def _stop(run_id: str) -> None:
    await ask(lambda workspace: workspace.cancel(run_id))
    kit.toast("The run is asked to stop; what is committed stays", "stop")


def _elapsed(found: Run) -> str:
    if found["status"] != "running":
        return f"took {words.lasted(found.get('seconds'))}"
    gone = words.ago(found["started_at"]).removesuffix(" ago")
    progress = found.get("progress") or {}
    if progress.get("rate") and progress.get("total"):
        left = (progress["total"] - progress["rows"]) / progress["rate"]
        return f"{gone} so far, about {words.lasted(max(left, 1))} left in this stage"
    return f"{gone} so far"


# --- stages and figures -------------------------------------------------------------------------------


def _stages(found: Run) -> None:
    """The stages: amount and rate while running, amount and time after."""
    stages = DELIVERED if found["space"].startswith(REMOTE) else STAGES
    running, progress, spent = found["status"] == "running", found.get("progress") or {}, _spent(found)
    amounts = {
        "read": (found.get("extracted"), "row"),
        "diff": (runs.changed(found), "changed"),
        "map": (found.get("sent"), "call"),
        "apply": (found.get("sent"), "call"),
        "deliver": (found.get("sent"), "call"),
        "index": (found.get("profiles_created"), "new profile"),
    }
    reached = {stage for _, stage, *_ in found["trail"]} | set(spent)
    with kit.strip():
        for stage, word in stages.items():
            # Rows are mapped while those before them are written.
            at = running and (stage == progress.get("stage") or (stage == "map" and progress.get("stage") in WRITING))
            done = not at and (stage in reached or found["status"] in ("succeeded", "partly"))
            with el("div", "of-running" if at else ""):
                with kit.row():
                    if at:
                        el("i", "of-spin", aria_hidden="true")
                    else:
                        kit.icon("succeeded" if done else "never", f"of-i-14 of-tone-{'ok' if done else 'off'}")
                    el("span", "of-name", word)
                _amount(at, progress, amounts[stage] if at or done else (None, ""), spent.get(stage))
                rows, total = (progress["rows"], progress.get("total") or 0) if at else (int(done), 1)
                kit.meter(rows, total, word, "" if at else "ok")


def _amount(at: bool, progress: Run, amount: tuple[int | None, str], seconds: float | None) -> None:
    with kit.row("of-note"):
        if at:
            of = f" of {progress['total']:,}" if progress.get("total") else " rows"
            text(f"{progress['rows']:,}{of}")
            rate = f"{words.short(progress['rate'])}/s" if progress.get("rate") else ""
        else:
            count, word = amount
            said = "" if count is None else f"{count:,} changed" if word == "changed" else words.many(count, word)
            text(said)
            rate = words.lasted(seconds) if seconds is not None else ""
        el("span", "of-right", rate)


def _spent(found: Run) -> dict[str, float]:
    """The seconds of each stage that is over: as recorded, and before that by the trail."""
    if found.get("stages"):
        return {stage: spent["seconds"] for stage, spent in found["stages"].items()}
    begun: dict[str, float] = {}
    for at, stage, *_ in found["trail"]:
        begun.setdefault(stage, at)
    return {stage: after - at for (stage, at), after in zip(begun.items(), list(begun.values())[1:], strict=False)}


def _figures(found: Run) -> None:
    with kit.strip():
        for key, label in FIGURES:
            value = found.get(key)
            tone = "bad" if key == "rejected" and value else "off" if key == "unchanged" else ""
            kit.figure(label, words.number(value), tone=tone, small=True)
    said = [
        f"{found[key]:,} {word}"
        for key, word in (
            ("filtered", "not selected by the trigger"),
            ("unresolved", "calls that belong to no profile"),
            ("identifiers_dropped", "identifiers left out by a limit"),
            ("retried", "tried again"),
        )
        if found.get(key)
    ]
    if said:
        kit.note(", ".join(said))


# --- throughput ---------------------------------------------------------------------------------------


class _Throughput:
    """Rows a second over time; of a run too short for that, by stage."""

    def __init__(self) -> None:
        with kit.panel("Throughput", "rows per second", plain=True) as (self._legend, body):
            self._body = body
        self._drawn: ui.echart | None = None
        self._lines: list[tuple[str, list[list[float]]]] | None = None

    def show(self, found: Run) -> None:
        lines = [line for line in (_line(found["trail"], stage) for stage in ("read", *WRITING)) if len(line[1]) > 2]
        lines = [line for line in lines if line[0] != "Read"] or lines  # reading is so much faster that it hides others
        if lines and self._drawn is not None and not self._drawn.is_deleted:
            if lines != self._lines:
                chart.show(self._drawn, _options(found, lines))
        else:
            self._body.clear()
            with self._body:
                self._drawn = self._draw(found, lines)
        self._lines = lines

    def _draw(self, found: Run, lines: list[tuple[str, list[list[float]]]]) -> ui.echart | None:
        if lines:
            said = ", ".join(f"{name}: {max(rate for _, rate in points):,.0f} at most" for name, points in lines)
            return chart.draw(f"Rows per second. {said}", _options(found, lines))
        rows = [
            {
                "id": stage,
                "stage": {**STAGES, **DELIVERED}[stage],
                "rows": words.number(spent["rows"]),
                "took": words.lasted(spent["seconds"]),
                "rate": words.number(spent["rows"] / spent["seconds"]) if spent["rows"] and spent["seconds"] else "—",
            }
            for stage, spent in (found.get("stages") or {}).items()
            if stage in {**STAGES, **DELIVERED}
        ]
        if rows:
            columns = [
                column("stage", "Stage", name=True),
                column("rows", "Rows", num=True),
                column("took", "Took", num=True),
                column("rate", "Rows per second", num=True),
            ]
            kit.Table(columns, rows, "Throughput by stage", dense="30")
        else:
            with kit.empty("Nothing to draw yet", "A line begins with the first rows that are committed."):
                pass
        return None


def _line(trail: list[Any], stage: str) -> tuple[str, list[list[float]]]:
    """The rate of a stage: (seconds since the run began, rows a second), one step between two points of the trail."""
    found: list[list[float]] = []
    points = [point for point in trail if point[1] == stage and (point[2] or stage == "read")]
    if stage in WRITING:  # the first chunk was begun with the mapping
        points = [[point[0], stage, 0, None] for point in trail if point[1] == "map"][:1] + points
    for (before, _, less, _), (at, _, more, _) in pairwise(points):
        if at > before and more > less:
            rate = round((more - less) / (at - before))
            found += [[before, rate], [at, rate]]
    return {**STAGES, **DELIVERED}[stage], found


def _options(found: Run, lines: list[tuple[str, list[list[float]]]]) -> chart.Options:
    start = int(words.moment(found["started_at"]).timestamp() * 1000)
    clock = f"v => new Date({start} + v * 1000).toISOString().slice(11, 19)"
    return {
        "xAxis": {
            "type": "value",
            "min": 0,
            "splitNumber": 4,
            "axisLabel": {":formatter": clock, "showMaxLabel": False},
        },
        "series": [
            {
                "type": "line",
                "name": name,
                "data": points,
                "showSymbol": False,
                "lineStyle": {"width": 1.5, ":color": chart.color("added")},
                "itemStyle": {":color": chart.color("added")},
            }
            for name, points in lines
        ],
    }


# --- the log ------------------------------------------------------------------------------------------


def _log(found: Run) -> None:
    with el("ol", "of-log", tabindex="0", aria_label="Log of the run") as log:
        for at, said, tone in _lines(found):
            with el("li"):
                kit.mono(at)
                text(said, f"of-tone-{tone}" if tone else "")
    ui.run_javascript(f"getHtmlElement({log.id})?.scrollTo(0, 1e6)")


def _lines(found: Run) -> list[tuple[str, str, str]]:
    """(time, sentence, tone) for each thing that happened, as far as it was recorded."""
    recipe = found.get("recipe") or {}
    model = (recipe.get("model") or {}).get("slug", "the model")
    source = (recipe.get("model") or {}).get("source", "its source")
    started = words.moment(found["started_at"])
    lines = [(0.0, f"Started by {runs.started_by(found)}", "")]
    seen: set[str] = set()
    commits: list[tuple[float, str, str]] = []
    for at, stage, rows, total in found["trail"]:
        if stage == "read" and stage not in seen:
            lines.append((at, f"Reading {model} from {source}", ""))
        elif stage == "diff" and stage not in seen:
            lines.append((at, f"{words.many(total, 'row')} read", ""))
        elif stage == "map" and stage not in seen:
            lines.append((at, f"{words.many(total, 'row differs', 'rows differ')} from what was seen", ""))
        elif stage in WRITING and rows:
            commits.append((at, f"{rows:,} of {total:,} rows {'delivered' if stage == 'deliver' else 'committed'}", ""))
        elif stage == "done" and "map" not in seen:
            lines.append((at, "No row differs from what was seen", ""))
        seen.add(stage)
    lines += commits[-COMMITS:]
    now = found.get("seconds") or (found["trail"][-1][0] if found["trail"] else 0.0)
    if found.get("cancelled_by"):
        lines.append((now, f"{found['cancelled_by']} asked it to stop", "warn"))
    if found.get("rejected"):
        lines.append((now, f"{words.many(found['rejected'], 'row')} rejected", "bad"))
    if found["status"] != "running":
        word, _, tone = words.STATES[found["status"]]
        code = f": {found['code']}" if found.get("code") else ""
        lines.append((now, f"{word} after {words.lasted(found.get('seconds'))}{code}", "" if tone == "ok" else tone))
    return [(f"{started + timedelta(seconds=at):%H:%M:%S}", said, tone) for at, said, tone in lines]
