"""The models: SQL with a unique key."""

from __future__ import annotations

from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.roles import EDITOR
from onefold.web import kit, words
from onefold.web.kit import column, el
from onefold.web.shell import ask, crumbs, may, path
from onefold.workspace import Workspace


async def models(args: PageArguments) -> None:
    """All models."""
    crumbs(("Models", args.path))
    now = await ask(Workspace.configuration)
    with kit.page():
        actions = kit.simple_head("Models", "A SQL query with a unique key, which tells its rows apart.")
        with actions:
            if may(EDITOR) and now.models:
                kit.button("New model", None, "primary", "plus", href="/models/new")
        with el("section", "of-panel"):
            if not now.models:
                said = "A model says which rows of a source are looked at, and by which column they are told apart."
                with kit.empty("No models yet", said):
                    if not now.sources:
                        kit.button("Add a source first", None, "primary", href="/sources/new")
                    elif may(EDITOR):
                        kit.button("New model", None, "primary", "plus", href="/models/new")
                return
            columns = [
                column("name", "Model", name=True),
                column("source", "Source"),
                column("key", "Unique key", mono=True),
                column("used", "Used by"),
                column("sql", "SQL", mono=True, faint=True),
            ]
            rows = [
                {
                    "id": model.slug,
                    "go": path("models", model.slug),
                    "name": {"t": model.name, "href": path("models", model.slug)},
                    "source": model.source,
                    "key": model.key,
                    "used": ", ".join(mapping.slug for _, mapping in used_by(now, model.slug)) or "—",
                    "sql": words.flat(model.sql, 90),
                }
                for model in now.models
            ]
            kit.Table(columns, rows, "Models")


def used_by(now: config.Workspace, model: str) -> list[tuple[config.Destination, config.Mapping]]:
    return [
        (destination, mapping)
        for destination in now.destinations
        for mapping in destination.mappings
        if mapping.model == model
    ]
