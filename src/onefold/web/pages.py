"""Which screen stands at which address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from fastapi import Request
from nicegui import ui

from onefold.api.access import cookie
from onefold.web import shell
from onefold.web.shell import Shell
from onefold.workspace import Workspace

# Address -> module and function.
ROUTES = {
    "/": "overview.overview",
    "/sources": "sources.sources",
    "/sources/new": "sources.new",
    "/sources/{source}": "sources.source",
    "/models": "models.models",
    "/models/new": "model.new",
    "/models/{model}": "model.model",
    "/destinations": "destinations.destinations",
    "/destinations/new": "destinations.new",
    "/destinations/{destination}": "destinations.mappings",
    "/destinations/{destination}/runs": "destinations.destination_runs",
    "/destinations/{destination}/rejected": "rejected.within",
    "/destinations/{destination}/settings": "destinations.settings",
    "/destinations/{destination}/mappings/new": "mapping.new",
    "/destinations/{destination}/mappings/{mapping}": "mapping.mapping",
    "/rejected": "rejected.rejected",
    "/runs": "runs.runs",
    "/runs/{run}": "run.run",
    "/spaces": "spaces.spaces",
    "/spaces/new": "spaces.new",
    "/spaces/{space}": "spaces.space",
    "/rules": "rules.rules",
    "/settings": "settings.settings",
    "/settings/{tab}": "settings.tab",
    "/profiles": "profiles.profiles",
    "/spaces/{space}/profiles/{profile}": "profile.profile",
    "/spaces/{space}/find/{identifier}": "profiles.found",
    "/debugger": "debugger.debugger",
    "/usage": "usage.usage",
    "/help": "help.help_",
    "/components": "components.components",
}
FAVICON = (
    '<svg viewBox="0 0 20 20" xmlns="http://www.w3.org/2000/svg"><rect width="20" height="20" rx="5" fill="#18191c"/>'
    '<path d="M5 5.5v9M5 10h5l5-3" stroke="#fff" fill="none" stroke-width="1.8" stroke-linecap="round"/></svg>'
)


def _routes() -> dict[str, Any]:
    found = {}
    for path, name in ROUTES.items():
        module, _, function = name.partition(".")
        found[path] = getattr(import_module(f"onefold.web.{module}"), function)
    return found


def root(workspace: Workspace) -> Callable[[Request], Awaitable[None]]:
    """The one page, whose part in the middle changes with the address."""
    from onefold.web import jump

    routes = _routes()

    async def page(request: Request) -> None:
        headers = dict(request.headers)
        token, address = cookie(headers) or "", request.client.host if request.client else ""
        session = workspace.session(token, address)
        if session is None:
            ui.navigate.to("/login")
            return
        frame = Shell(workspace, token, session.who, address)
        frame.name = workspace.again(session.who).configuration().name
        theme = request.cookies.get("onefold_theme")
        ui.dark_mode({"dark": True, "light": False}.get(theme or ""))
        ui.colors(primary="#3152cc", positive="#17693c", negative="#b3261e", warning="#875200", dark_page="#131417")
        shell.build(frame, routes, jump.open_box)

    page.__annotations__ = {"request": Request}
    return page
