"""Warehouse sources: where rows are read."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config, secret
from onefold.errors import OnefoldError
from onefold.roles import EDITOR
from onefold.warehouses import Table
from onefold.web import edit, kit, words
from onefold.web.edit import Form
from onefold.web.kit import column, el, text
from onefold.web.shell import ask, crumbs, given, may, path
from onefold.workspace import Workspace, pick

KINDS = {
    "duckdb": ("A DuckDB file", "path", "Path", "warehouse.duckdb", "Relative to the workspace folder."),
    "files": ("A folder of Parquet, CSV or JSON files", "path", "Folder", "data/", "Each file or folder is a table."),
    "sqlite": ("A SQLite file", "path", "Path", "crm.sqlite", "Relative to the workspace folder."),
    "postgres": (
        "A PostgreSQL database",
        "url",
        "URL",
        "postgresql://reader:${CRM_PASSWORD}@host/database",
        "A password that is typed goes to .onefold/secrets.env, not into the workspace file. Or write ${NAME}, a"
        " variable of the server.",
    ),
}


async def sources(args: PageArguments) -> None:
    """All sources."""
    crumbs(("Sources", args.path))
    now = await ask(Workspace.configuration)
    with kit.page():
        actions = kit.simple_head("Sources", "Where rows are read. Onefold never writes to them.")
        if may(EDITOR) and now.sources:
            with actions:
                kit.button("Add source", None, "primary", "plus", href="/sources/new")
        with el("section", "of-panel"):
            if not now.sources:
                with kit.empty(
                    "No sources yet",
                    "A source is a warehouse whose tables become profiles: DuckDB, files, SQLite or PostgreSQL.",
                ):
                    if may(EDITOR):
                        kit.button("Add source", None, "primary", "plus", href="/sources/new")
                return
            columns = [
                column("name", "Source", name=True),
                column("type", "Type"),
                column("where", "Where", mono=True, faint=True),
                column("models", "Models", num=True),
            ]
            rows = [
                {
                    "id": source.slug,
                    "go": path("sources", source.slug),
                    "name": {"t": source.name, "href": path("sources", source.slug)},
                    "type": words.SOURCES.get(source.type, source.type),
                    "where": where(source),
                    "models": sum(model.source == source.slug for model in now.models),
                }
                for source in now.sources
            ]
            kit.Table(columns, rows, "Sources")


def where(source: config.Source) -> str:
    return secret.mask(str(source.options.get("path") or source.options.get("url") or ""))


# --- add ----------------------------------------------------------------------------------------------


async def new(args: PageArguments) -> None:
    """Add a source: its kind, where it is, and whether it can be read."""
    crumbs(("Sources", "/sources"), ("Add source", args.path))
    now = await ask(Workspace.configuration)
    kind = "duckdb"
    with kit.page():
        kit.simple_head("Add source", "Choose what it is, say where, and test the connection.")
        choices = el("div", "of-choices", role="group", aria_label="Kind of source")
        place = el("div", "of-form")
        tested = el("div")

    def choose(wanted: str) -> None:
        nonlocal kind
        kind = wanted
        choices.clear()
        with choices:
            for key, (title, *_) in KINDS.items():
                with el("button", "of-choice", type="button", aria_pressed=str(key == kind).lower()) as made:
                    el("strong", "", words.SOURCES[key])
                    text(title)
                kit.on(made, "click", lambda key=key: choose(key))
        place.clear()
        tested.clear()
        with place:
            form(kind)

    def form(kind: str) -> None:
        _, key, label, example, hint = KINDS[kind]
        made = Form()
        made.add("name", "Name", words.SOURCES[kind] if kind != "duckdb" else "Warehouse", must=True)
        made.add(key, label, "", hint, must=True, mono=True)
        made.fields[key].input.props["placeholder"] = example
        with kit.row():
            kit.button("Add source", lambda: add(made, key), "primary")
            kit.button("Test connection", lambda: test(made, key), "", "test")
            kit.button("Cancel", None, "ghost", href="/sources")

    def value(made: Form, key: str) -> edit.Data:
        name = made.value("name")
        taken = [source.slug for source in now.sources]
        return {"slug": edit.slug(name, taken), "name": name, "type": kind, key: made.value(key)}

    async def test(made: Form, key: str) -> bool:
        tested.clear()
        source = value(made, key)

        def read(workspace: Workspace) -> list[Table]:
            return workspace.draft("source", source["slug"], source).test_source(source["slug"])

        found: list[Table] = []

        async def act() -> None:
            nonlocal found
            found = await ask(read)

        done = await made.attempt(act)
        if done:
            with tested:
                kit.alert("The connection works", f"{words.many(len(found), 'table')} can be read.", tone="ok")
                tables_panel(found)
        return done

    async def add(made: Form, key: str) -> None:
        if not made.free("name", (source.name for source in now.sources), "source") or not await test(made, key):
            return
        source = value(made, key)
        if await made.attempt(lambda: edit.save(edit.add("source", source["slug"], source))):
            kit.toast(f"{source['name']} was added", more="Create a model", href=f"/models/new?source={source['slug']}")
            ui.navigate.to(path("sources", source["slug"]))

    choose(kind)


def tables_panel(tables: list[Table]) -> None:
    """The tables of a source, with their columns."""
    with kit.panel("Tables", str(len(tables))):
        if not tables:
            with kit.empty("No tables", "The source can be read, but nothing is in it that can be queried."):
                pass
            return
        rows = [
            {
                "id": table.name,
                "name": {"t": table.name, "mono": True},
                "count": len(table.columns),
                "columns": words.flat(", ".join(one.name for one in table.columns), 300),
            }
            for table in tables
        ]
        columns = [
            column("name", "Table", name=True),
            column("count", "Columns", num=True),
            column("columns", "Names", mono=True, faint=True),
        ]
        table = kit.Table(columns, rows, "Tables", dense="34")
        for row in rows:
            row["go"] = True
        table.on_open(lambda name: _table(next(one for one in tables if one.name == name)))


def _table(table: Table) -> None:
    with kit.dialog(table.name):
        rows = [{"id": one.name, "name": one.name, "type": one.type} for one in table.columns]
        kit.Table(
            [column("name", "Column", mono=True), column("type", "Type", mono=True, faint=True)],
            rows,
            "Columns",
            dense="30",
        )


# --- one ----------------------------------------------------------------------------------------------


async def source(args: PageArguments) -> None:
    """One source: whether it can be read, its tables, its models."""
    slug = given(args, "source")

    def read(workspace: Workspace) -> tuple[config.Source, list[config.Model], edit.Data, int]:
        now = workspace.configuration()
        found = pick(now.sources, slug, "source")
        models = [model for model in now.models if model.source == slug]
        mappings = sum(
            mapping.model in {model.slug for model in models}
            for destination in now.destinations
            for mapping in destination.mappings
        )
        return found, models, edit.read(workspace, "source", slug).found or {}, mappings

    found, models, data, mappings = await ask(read)
    crumbs(("Sources", "/sources"), (found.name, args.path))
    with kit.page():
        with kit.head(found.name) as (_, facts, actions):
            with facts:
                text(f"{words.SOURCES.get(found.type, found.type)} ·")
                kit.mono(where(found))
                if models:
                    text("· read by")
                    kit.links([(model.name, path("models", model.slug)) for model in models])
            with actions:
                kit.button("Test connection", lambda: test(), "", "test")
                if may(EDITOR):
                    kit.button("Edit", lambda: _edit(found, data), "").props["data-edit"] = "1"
                    kit.button("New model", None, "primary", "plus", href=f"/models/new?source={slug}")
                    with kit.menu(label="More"):
                        kit.menu_item("Delete source", lambda: _delete(found, models), "trash", bad=True)
        place = el("div", "of-stack")

    async def test() -> None:
        place.clear()
        with place:
            waiting = kit.loading()
        try:
            tables = await ask(lambda workspace: workspace.test_source(slug))
        except OnefoldError as error:
            place.clear()
            with place:
                waits = f"{words.many(len(models), 'model')} and {words.many(mappings, 'mapping')}"
                said = f"{waits} wait for it; nothing is lost."
                kit.alert(f"{found.name} cannot be read", said, str(error))
                with kit.row():
                    kit.button("Try again", test, "", "resend", small=True)
            return
        waiting.delete()
        with place:
            tables_panel(tables)

    await test()


def _edit(found: config.Source, data: edit.Data) -> None:
    key, label, hint = KINDS[found.type][1], KINDS[found.type][2], KINDS[found.type][4]
    with kit.dialog(f"Edit {found.name}") as box:
        form = Form()
        form.add("name", "Name", data.get("name", found.slug), must=True)
        form.add(key, label, data.get(key, ""), hint, must=True, mono=True)

        async def done() -> None:
            values = {"name": form.value("name"), key: form.value(key)}
            if await form.attempt(lambda: edit.update("source", found.slug, values)):
                box.close()
                kit.toast("Source saved")
                ui.navigate.to(path("sources", found.slug))

        with el("div", "of-dialog-end"):
            kit.button("Cancel", box.close)
            kit.button("Save changes", done, "primary")


def _delete(found: config.Source, models: list[Any]) -> None:
    if models:
        kit.toast(f"{words.many(len(models), 'model')} read from it; delete these first", "partly")
        return

    async def done() -> None:
        await edit.remove("source", found.slug)
        kit.toast(f"{found.name} was deleted")
        ui.navigate.to("/sources")

    kit.confirm(f"Delete the source {found.name}?", "The warehouse itself stays as it is.", "Delete source", done)
