"""The web app: mounted beside the APIs, whose requests never pass through it. Screens ask the facade only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

    from onefold.workspace import Workspace

RECONNECT = 30.0  # seconds that a page may lose its connection without being loaded anew


class Web:
    """The web app of a workspace; one a process, as NiceGUI is."""

    def __init__(self, workspace: Workspace, hosts: Collection[str]) -> None:
        from nicegui import ui
        from starlette.applications import Starlette
        from starlette.routing import Mount

        from onefold.web import door, pages

        self._inner: Starlette = Starlette()
        ui.add_head_html(door.links(), shared=True)
        ui.run_with(
            self._inner,  # type: ignore[arg-type] # it needs no more than Starlette has
            root=pages.root(workspace),
            title="Onefold",
            language="en-US",
            favicon=pages.FAVICON,
            dark=None,
            tailwind=False,
            binding_refresh_interval=None,
            reconnect_timeout=RECONNECT,
            show_welcome_message=False,
        )
        guarded = door.Guard(self._inner, workspace, hosts)
        self.routes: list[BaseRoute] = [*door.Door(workspace, hosts).routes(), Mount("/", guarded)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the server runs."""
        async with self._inner.router.lifespan_context(self._inner):
            yield
