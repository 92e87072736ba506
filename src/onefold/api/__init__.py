"""What Onefold answers over HTTP (design, section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

# The names by which a server that serves this host only is asked.
HERE = ("localhost", "127.0.0.1", "[::1]")

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from onefold.web import Web
    from onefold.workspace import Workspace


def app(
    workspace: Workspace,
    *,
    woken: Callable[[], None] = lambda: None,
    resolving: Callable[[], bool] = lambda: True,
    limit: int | None = None,
    hosts: Collection[str] = HERE,
    web: Web | None = None,
) -> Starlette:
    """The application of a workspace; what it opened it closes when it ends. Raises OnefoldError.

    `woken` is called when calls are in the inbox; `resolving` tells whether somebody takes them out; `limit`: the
    bytes that may wait there; `hosts`: the names by which the server may be asked; `web`: the
    web app, which answers what nothing else does.
    """
    from starlette.applications import Starlette

    from onefold.api import configuration, debugger, health, profile, tracking
    from onefold.errors import OnefoldError
    from onefold.inbox import FILE, LIMIT, Inbox
    from onefold.telemetry import Metrics, logger

    inbox = Inbox(workspace.home / FILE)
    keys, metrics = tracking.Keys(workspace), Metrics()
    keys.read()
    commits = tracking.Commits(inbox, woken, LIMIT if limit is None else limit)

    async def look() -> None:
        """Take up every second what changed elsewhere."""
        while True:
            await asyncio.sleep(tracking.FRESH)
            try:
                await asyncio.to_thread(keys.read)
                await commits.look()
            except OnefoldError as error:
                logger().error("look_failed", code=error.code)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(look())
        async with web.running() if web else nullcontext():
            yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await commits.close()
        inbox.close()

    # The first that fits answers: what has a longer path stands first.
    routes = [
        *profile.routes(workspace),
        *tracking.routes(tracking.Tracking(keys, commits, metrics)),
        *debugger.routes(workspace, hosts),
        *configuration.routes(workspace, hosts),
        *health.routes(commits, metrics, resolving),
        *(web.routes if web else ()),
    ]
    return Starlette(routes=routes, lifespan=lifespan)
