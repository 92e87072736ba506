"""Whether the server is well: `/healthz` for those who restart it, `/metrics` for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from onefold.api.tracking import Commits
from onefold.telemetry import Metrics


def routes(commits: Commits, metrics: Metrics, resolving: Callable[[], bool]) -> list[BaseRoute]:
    """Both routes; neither tells anything of anybody."""

    async def healthz(_: Request) -> JSONResponse:
        well = resolving()
        found = {"status": "ok" if well else "resolver is down", "inbox_bytes": commits.waiting}
        return JSONResponse(found, 200 if well else 503)

    async def figures(_: Request) -> Response:
        metrics.waiting.set(commits.waiting)
        metrics.resolving.set(resolving())
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/metrics", figures)]
