"""What Onefold answers over HTTP (design, section 8): each part exports the routes it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from onefold.workspace import Workspace


def app(workspace: Workspace) -> Starlette:
    """The application of one workspace; what its parts hold open closes with the workspace."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from onefold.api import configuration, profile

    def health(_: Request) -> Response:
        workspace.catalog.configuration()
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/healthz", health), *profile.routes(workspace), *configuration.routes(workspace)])
