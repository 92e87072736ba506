"""Destinations: instances of Segment Profiles; their mappings, runs, rejected rows and settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.page_arguments import PageArguments

from onefold import config, meaning, secret
from onefold.errors import OnefoldError
from onefold.roles import EDITOR
from onefold.web import edit, kit, runs, standing, words
from onefold.web.edit import Form
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, asked, crumbs, given, may, path
from onefold.web.standing import Standing
from onefold.workspace import Workspace, pick

LIVE = 1.0
COLUMNS = [
    column("on", "On", tight=True),
    column("name", "Mapping", name=True),
    column("action", "Action"),
    column("model", "Model", mono=True),
    column("records", "Which records"),
    column("schedule", "Schedule"),
    column("last", "Last run"),
    column("changed", "Changed", num=True),
    column("rejected", "Rejected", num=True),
    column("menu", "Actions", tight=True, hidden=True),
]
MENU = [
    {"key": "edit", "t": "Edit"},
    {"key": "sync", "t": "Sync now"},
    {"key": "full", "t": "Sync all rows again"},
    {"key": "duplicate", "t": "Duplicate"},
    {"key": "copy", "t": "Copy as JSON"},
    {"key": "delete", "t": "Delete", "bad": True},
]


async def destinations(args: PageArguments) -> None:
    """All destinations."""
    crumbs(("Destinations", args.path))
    now = await ask(Workspace.configuration)
    with kit.page():
        actions = kit.simple_head("Destinations", "Where the rows of a source go, as calls.")
        if may(EDITOR) and now.destinations:
            with actions:
                kit.button("Add destination", None, "primary", "plus", href="/destinations/new")
        with el("section", "of-panel"):
            if not now.destinations:
                said = "A destination turns the rows of a source into profiles by its mappings, up to 50 of them."
                with kit.empty("No destinations yet", said):
                    if may(EDITOR):
                        kit.button("Add destination", None, "primary", "plus", href="/destinations/new")
                return
            columns = [
                column("name", "Destination", name=True),
                column("state", "State"),
                column("type", "Type"),
                column("source", "Source"),
                column("region", "Delivers to"),
                column("mappings", "Mappings", num=True),
            ]
            rows = [
                {
                    "id": one.slug,
                    "go": path("destinations", one.slug),
                    "name": {"t": one.name, "href": path("destinations", one.slug)},
                    "state": {"t": "Enabled", "icon": "succeeded", "tone": "ok"}
                    if one.enabled
                    else {"t": "Disabled", "icon": "never", "tone": "off"},
                    "type": "Segment Profiles",
                    "source": one.source,
                    "region": words.region(secret.mask(one.endpoint)),
                    "mappings": f"{len(one.mappings)} of {config.MAPPINGS}",
                }
                for one in now.destinations
            ]
            kit.Table(columns, rows, "Destinations")


# --- add ----------------------------------------------------------------------------------------------


async def new(args: PageArguments) -> None:
    """Add a destination: its type, then its source."""
    crumbs(("Destinations", "/destinations"), ("Add destination", args.path))
    now = await ask(Workspace.configuration)
    with kit.page():
        kit.simple_head("Add destination")
        place = el("div", "of-stack")

    def first() -> None:
        place.clear()
        with place:
            el("h2", "", "1. What is it?")
            with el("div", "of-choices", role="group", aria_label="Type"):
                with el("button", "of-choice", type="button", aria_pressed="true"):
                    el("strong", "", "Segment Profiles")
                    text("Sends identify, group, track and subscription calls to a Profile Space.")
            with kit.row():
                kit.button("Next", second, "primary")
                kit.button("Cancel", None, "ghost", href="/destinations")

    def second() -> None:
        place.clear()
        with place:
            el("h2", "", "2. Which source sends data to it?")
            if not now.sources:
                with kit.empty("No sources yet", "A destination reads from a warehouse source."):
                    kit.button("Add source", None, "primary", "plus", href="/sources/new")
                return
            chosen = {"source": now.sources[0].slug}
            form = Form()
            with el("div", "of-form"):
                options = [(one.slug, f"{one.name} ({words.SOURCES.get(one.type, one.type)})") for one in now.sources]
                form.add("source", "Warehouse source", chosen["source"], options=options)
                taken = [one.slug for one in now.destinations]
                form.add("name", "Name", "Profiles" if not taken else "", must=True)

            async def create() -> None:
                name = form.value("name")
                if not form.free("name", (one.name for one in now.destinations), "destination"):
                    return
                slug = edit.slug(name, taken)
                value = {
                    "slug": slug,
                    "name": name,
                    "type": "segment_profiles",
                    "source": form.value("source"),
                    "enabled": False,
                    "settings": {"endpoint": "local"},
                    "mappings": [],
                }
                if await form.attempt(lambda: edit.save(edit.add("destination", slug, value))):
                    kit.toast(f"{name} was added, not enabled yet")
                    ui.navigate.to(path("destinations", slug, "settings"))

            with kit.row():
                kit.button("Create destination", create, "primary")
                kit.button("Back", first, "ghost")

    first()


# --- one ----------------------------------------------------------------------------------------------


Read = tuple[config.Workspace, config.Destination, Standing]


def reader(slug: str) -> Callable[[Workspace], Read]:
    def read(workspace: Workspace) -> Read:
        now = workspace.configuration()
        found = pick(now.destinations, slug, "destination")
        return now, found, standing.read(workspace, slug)

    return read


def head(now: config.Workspace, found: config.Destination, stands: Standing, tab: str) -> None:
    """The head with the switch, Sync now and the tabs."""
    crumbs(("Destinations", "/destinations"), (found.name, path("destinations", found.slug)))
    source = next((one.name for one in now.sources if one.slug == found.source), found.source)
    with kit.head(found.name) as (_, facts, actions):
        with facts:
            text("Segment Profiles · reads from")
            link(source, path("sources", found.source))
            text("· delivers to")
            el("b", "", words.region(secret.mask(found.endpoint)))
        with actions:
            if may(EDITOR):
                switch = kit.Switch(found.enabled, lambda on: enable(on=on), "Enable destination")
                label = text(_enabled(found.enabled), "of-name")
                with kit.menu("Sync now", "play"):
                    kit.menu_item("Sync all mappings", lambda: _all(found.slug))
                    kit.menu_item("Sync all rows again", lambda: _full(found))

    async def enable(*, on: bool, again: bool = False) -> None:
        await ask(lambda workspace: workspace.enable("destination", found.slug, on=on))
        if tab == "settings":  # whose form says the same
            ui.navigate.reload()
            return
        switch.set(value=on)
        label.text = _enabled(on)  # type: ignore[attr-defined]
        if not again:
            said = f"{found.name} is {'enabled' if on else 'disabled; no sync starts'}"
            kit.toast(said, more="Undo", act=lambda: enable(on=not on, again=True))

    rejected = sum(stands.refused.values())
    kit.tabs(
        [
            (path("destinations", found.slug), "Mappings", len(found.mappings)),
            (path("destinations", found.slug, "runs"), "Runs", None),
            (path("destinations", found.slug, "rejected"), "Rejected rows", rejected or None),
            (path("destinations", found.slug, "settings"), "Settings", None),
        ],
        path("destinations", found.slug, *([tab] if tab else [])),
    )


def _enabled(on: bool) -> str:
    return "Destination enabled" if on else "Destination disabled"


async def _all(slug: str, *, full: bool = False) -> None:
    """Start a run of each mapping that is enabled now, also since the page was opened."""
    found = pick((await ask(Workspace.configuration)).destinations, slug, "destination")
    await sync(found, found.mappings, full=full)


async def sync(found: config.Destination, mappings: Any, *, full: bool = False) -> None:
    """Start a run of each mapping that is enabled; says what was started."""
    if not found.enabled:
        raise OnefoldError(f"{found.name} is not enabled; switch the destination on first", code="disabled")
    started, refused = [], []
    for mapping in mappings:
        selector = f"{found.slug}/{mapping.slug}"
        if not mapping.enabled and len(mappings) > 1:
            continue
        try:
            started.append(
                await ask(
                    lambda workspace, selector=selector: workspace.start(  # type: ignore[misc]
                        selector, full=full, started_by="web"
                    )
                )
            )
        except OnefoldError as error:
            refused.append(error)
    if refused and not started:
        raise refused[0]
    if not started:
        raise OnefoldError("no mapping is enabled; switch one on first", code="disabled")
    href = path("runs", started[0]) if len(started) == 1 else path("destinations", found.slug, "runs")
    kit.toast(f"{words.many(len(started), 'sync', 'syncs')} started", "play", "Follow", href=href)


def _full(found: config.Destination) -> None:
    said = "Every row of every enabled mapping is read and sent again, also those that did not change."
    kit.confirm(
        f"Sync all rows of {found.name} again?",
        said,
        "Sync all rows",
        lambda: _all(found.slug, full=True),
        destroy=False,
    )


async def mappings(args: PageArguments) -> None:
    """The mappings of a destination."""
    read = reader(given(args, "destination"))
    now, found, stands = await ask(read)
    status, said = asked(args, "show"), asked(args, "q")
    with kit.page():
        head(now, found, stands, "")
        _Mappings(now, found, stands, status, said).build(read)


class _Mappings:
    """The table of mappings, with its filters."""

    def __init__(
        self, now: config.Workspace, found: config.Destination, stands: Standing, status: str, said: str
    ) -> None:
        self.now, self.found, self.stands, self.status, self.said = now, found, stands, status, said

    def build(self, read: Any) -> None:
        found = self.found
        full = len(found.mappings) >= config.MAPPINGS
        with kit.row():
            kit.search("Filter mappings", self.said, self._filter)
            base = path("destinations", found.slug)
            kit.segment_links(
                [(base, "All"), (f"{base}?show=enabled", "Enabled"), (f"{base}?show=attention", "Needs attention")],
                f"{base}?show={self.status}" if self.status else base,
                "Which mappings",
            )
            el("div", "of-grow")
            text(f"{len(found.mappings)} of {config.MAPPINGS} mappings", "of-text")
            with el("div").style("width: 72px"):
                kit.meter(len(found.mappings), config.MAPPINGS, "Mappings used", "acc")
            if may(EDITOR):
                if full:
                    kit.button(
                        "Add mapping",
                        lambda: kit.toast(
                            f"A destination holds at most {config.MAPPINGS} mappings;"
                            " delete one, or add another destination",
                            "partly",
                        ),
                        "primary",
                        "plus",
                    )
                else:
                    kit.button(
                        "Add mapping", None, "primary", "plus", href=path("destinations", found.slug, "mappings", "new")
                    )
        with el("section", "of-panel"):
            self.table = kit.Table(COLUMNS, self.rows(), "Mappings")
            self.none = el("div")
        self._none()
        self.table.on_toggle(self._toggle)
        self.table.on_act(self._act)

        async def look() -> None:
            _, _, self.stands = await ask(read)
            self.table.show(self.rows())

        ui.timer(LIVE, look)

    def _filter(self, said: str) -> None:
        self.said = said
        self.table.show(self.rows())
        self._none()

    def _none(self) -> None:
        self.none.clear()
        rows = self.rows()
        self.table.set_visibility(bool(rows))
        if rows:
            return
        with self.none:
            if self.found.mappings:
                with kit.empty(
                    "No mapping fits the filter", f"{words.many(len(self.found.mappings), 'mapping')} in all."
                ):
                    kit.button("Clear filter", href=path("destinations", self.found.slug))
                return
            ready = words.many(len(self.now.models), "model")
            with kit.empty(
                "No mappings yet", f"A mapping says which rows of a model become which calls. {ready} ready to use."
            ):
                if not self.now.models:
                    kit.button("Create a model first", None, "primary", href="/models/new")
                elif may(EDITOR):
                    kit.button(
                        "Add mapping",
                        None,
                        "primary",
                        "plus",
                        href=path("destinations", self.found.slug, "mappings", "new"),
                    )

    def rows(self) -> list[kit.Cell]:
        found = []
        for mapping in self.found.mappings:
            selector = f"{self.found.slug}/{mapping.slug}"
            run, refused = self.stands.last.get(selector), self.stands.refused.get(selector, 0)
            wrong = refused or (run is not None and run["status"] == "failed")
            if (self.status == "enabled" and not mapping.enabled) or (self.status == "attention" and not wrong):
                continue
            if self.said.lower() not in f"{mapping.name} {mapping.slug} {mapping.model} {mapping.action}".lower():
                continue
            found.append(self._row(mapping, run, refused, self.stands.due_in(selector)))
        return found

    def _row(self, mapping: config.Mapping, run: runs.Run | None, refused: int, due: str | None) -> kit.Cell:
        href = path("destinations", self.found.slug, "mappings", mapping.slug)
        selected = words.records(mapping.trigger)
        return {
            "id": mapping.slug,
            "go": href,
            "on": {"on": mapping.enabled, "label": f"Enable {mapping.name}", "off": not may(EDITOR)},
            "name": {"t": mapping.name, "href": href},
            "action": {"t": words.action(mapping.action), "faint": True},
            "model": {"t": mapping.model or "live calls"},
            "records": selected or {"t": mapping.trigger, "code": True, "title": mapping.trigger},
            "schedule": {"t": words.when(mapping.schedule), "s": due, "faint": mapping.schedule is None},
            "last": last_cell(mapping, run),
            "changed": words.number(runs.changed(run)) if run else None,
            "rejected": {"t": words.number(refused), "tone": "bad" if refused else "off"} if run else None,
            "menu": {"menu": MENU if may(EDITOR) else MENU[:1], "label": f"Actions of {mapping.name}"},
        }

    async def _toggle(self, slug: str, on: bool, again: bool = False) -> None:
        await ask(lambda workspace: workspace.enable("mapping", f"{self.found.slug}/{slug}", on=on))
        _, self.found, self.stands = await ask(reader(self.found.slug))
        self.table.show(self.rows())
        if not again:
            said = f"{pick(self.found.mappings, slug, 'mapping').name} is {'enabled' if on else 'not enabled any more'}"
            kit.toast(said, more="Undo", act=lambda: self._toggle(slug, not on, again=True))

    async def _act(self, slug: str, act: str) -> None:
        mapping = pick(self.found.mappings, slug, "mapping")
        selector = f"{self.found.slug}/{slug}"
        if act == "edit":
            ui.navigate.to(path("destinations", self.found.slug, "mappings", slug))
        elif act in ("sync", "full"):
            await sync(self.found, [mapping], full=act == "full")
        elif act == "delete":
            _delete(self.found, mapping)
        elif act == "copy":
            data = await ask(lambda workspace: edit.read(workspace, "mapping", selector).found or {})
            said = json.dumps(data, ensure_ascii=False, indent=2)
            ui.clipboard.write(said)
            kit.toast("The mapping is copied as JSON")
        elif act == "duplicate":
            await duplicate(self.found, slug)


async def duplicate(found: config.Destination, slug: str) -> None:
    """A copy of a mapping, not enabled."""
    selector = f"{found.slug}/{slug}"
    data = await ask(lambda workspace: edit.read(workspace, "mapping", selector).found or {})
    taken = [mapping.slug for mapping in found.mappings]
    copied = {
        **data,
        "slug": edit.slug(f"{slug} copy", taken),
        "name": f"{data.get('name', slug)} copy",
        "enabled": False,
    }
    await edit.save(edit.add("mapping", f"{found.slug}/{copied['slug']}", copied))
    kit.toast(f"{copied['name']} was made, not enabled")
    ui.navigate.to(path("destinations", found.slug, "mappings", copied["slug"]))


def _delete(found: config.Destination, mapping: config.Mapping) -> None:
    async def done() -> None:
        await edit.remove("mapping", f"{found.slug}/{mapping.slug}")
        kit.toast(f"{mapping.name} was deleted", "trash")
        ui.navigate.to(path("destinations", found.slug))

    said = "The profiles that it made or updated stay as they are, and its runs can still be seen."
    kit.confirm(f"Delete the mapping {mapping.name}?", said, "Delete mapping", done)


def last_cell(mapping: config.Mapping, run: runs.Run | None) -> kit.Cell:
    """The state and time of the last run of a mapping."""
    if run is None:
        return kit.state("never" if mapping.model else "paused") | (
            {} if mapping.model else {"t": "Live", "icon": "debugger"}
        )
    if run["status"] == "running":
        return kit.state("running") | runs.progress_of(run) | {"s": f"started {words.clock(run['started_at'])[:5]}"}
    return kit.state(run["status"]) | {"s": words.ago(run["started_at"]), "title": run.get("error")}


async def destination_runs(args: PageArguments) -> None:
    """The runs of a destination."""
    slug = given(args, "destination")
    now, found, stands = await ask(reader(slug))
    with kit.page():
        head(now, found, stands, "runs")
        await runs.listing(args, path("destinations", slug, "runs"), f"{slug}/")


async def settings(args: PageArguments) -> None:
    """Name, region, whether it is enabled; delete."""
    slug = given(args, "destination")
    now, found, stands = await ask(reader(slug))
    spaces = {space.slug: space for space in now.spaces}
    with kit.page():
        head(now, found, stands, "settings")
        form, chosen = Form(), {"enabled": found.enabled}
        with el("div", "of-form"):
            form.add("name", "Name", found.name, must=True)
            known = found.endpoint in meaning.REGIONS
            options = [
                ("local", "This workspace (local)"),
                ("north_america", "Segment, North America"),
                ("europe", "Segment, Europe"),
                ("url", "Another address"),
            ]
            region = form.add(
                "endpoint",
                "Endpoint region",
                found.endpoint if known else "url",
                "Where the calls are delivered. It must be the region of the Profile Space, or nothing arrives.",
                options=options,
            )
            with el("div") as url:
                form.add("url", "Address", "" if known else found.endpoint, "A Segment-compatible endpoint.", mono=True)
            region.input.on_value_change(lambda event: url.set_visibility(event.value == "url"))
            url.set_visibility(not known)
            with kit.row():
                kit.Switch(
                    found.enabled, lambda on: chosen.update(enabled=on), "Enable Destination", off=not may(EDITOR)
                )
                text("Enable Destination", "of-name")
            kit.note("Enable it when its mappings are ready. A disabled destination starts no sync.")
            named = [one.name for one in spaces.values() if one.region != "local"]
            if named:
                kit.note(f"Spaces outside this workspace's region: {', '.join(named)}.")

            async def save() -> None:
                endpoint = form.value("endpoint")
                endpoint = form.value("url") if endpoint == "url" else endpoint
                values = {"name": form.value("name"), "enabled": chosen["enabled"], "settings": {"endpoint": endpoint}}
                if await form.attempt(lambda: edit.update("destination", slug, values)):
                    kit.toast("Settings saved")
                    ui.navigate.to(path("destinations", slug))

            with kit.row():
                if may(EDITOR):
                    kit.button("Save changes", save, "primary").props["data-save"] = "1"
                kit.button("Test connection", lambda: _test(now, found, tested), "", "test")
                if may(EDITOR):
                    kit.button("Delete destination", lambda: _remove(found), "danger", "trash")
            tested = el("div", "of-gone")


async def _test(now: config.Workspace, found: config.Destination, place: Element) -> None:
    """Say whether the source of a destination can be read, and where its calls go."""
    source = next((one for one in now.sources if one.slug == found.source), None)
    to = f"Calls go to {words.region(secret.mask(found.endpoint))}"
    to += "." if found.endpoint == "local" else "; the first sync shows whether they are taken there."
    try:
        tables = await ask(lambda workspace: workspace.test_source(found.source)) if source else []
    except OnefoldError as error:
        place.clear()
        with place:
            kit.alert(f"{source.name if source else found.source} cannot be read", str(error), error.code)
        return
    place.clear()
    with place:
        read = f"{source.name} can be read: {words.many(len(tables), 'table')}. " if source else ""
        kit.alert("Connection tested", f"{read}{to}", tone="ok")


def _remove(found: config.Destination) -> None:
    async def done() -> None:
        await edit.remove("destination", found.slug)
        ui.navigate.to("/destinations")

    said = f"{words.many(len(found.mappings), 'mapping')} go with it. The profiles that they made stay as they are."
    kit.confirm(f"Delete the destination {found.name}?", said, "Delete destination", done)
