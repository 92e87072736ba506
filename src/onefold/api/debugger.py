"""The debugger over HTTP: `GET /api/debugger/SOURCE`, as JSON, or live as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from onefold.api import HERE, streams
from onefold.api.access import Gate
from onefold.api.answer import Refused, send_answer, send_error
from onefold.api.route import Below
from onefold.debugger import LIMIT, Cursor, cursor
from onefold.workspace import Workspace

PREFIX = "/api/debugger/"
PAUSE = 0.5  # seconds between two looks


def routes(workspace: Workspace, hosts: Collection[str] = HERE) -> list[BaseRoute]:
    return [Below(PREFIX, Api(workspace, hosts))]


class Api:
    """The ASGI application behind the route; it asks for a session or an admin token, as all below /api does."""

    def __init__(self, workspace: Workspace, hosts: Collection[str]) -> None:
        self._workspace = workspace
        self._gate = Gate(workspace, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid4().hex
        request = Request(scope)
        try:
            headers = dict(request.headers)
            await asyncio.to_thread(self._admitted, scope["method"], headers)
            source, after, limit, text = _asked(request)
            calls, following = await asyncio.to_thread(self._read, source, after, limit, text)
        except Exception as error:  # whatever it is, it has an answer
            await send_error(scope, send, request_id, error)
            return
        if "text/event-stream" not in headers.get("accept", ""):
            body = json.dumps({"data": calls, "cursor": str(following)}, ensure_ascii=False).encode()
            await send_answer(scope, send, request_id, body)
            return
        stream = self._stream(source, text, calls, following)
        said = {"Cache-Control": "no-store", "Request-Id": request_id}
        await StreamingResponse(stream, media_type="text/event-stream", headers=said)(scope, receive, send)

    def _admitted(self, method: str, headers: dict[str, str]) -> None:
        self._gate.from_here(headers)
        if method not in ("GET", "HEAD"):
            raise Refused(405, "method_not_allowed", "the debugger is only read: use GET", {"Allow": "GET, HEAD"})
        self._gate.admit(headers, method, "")

    def _read(self, source: str, after: Cursor | None, limit: int, text: str) -> tuple[list[dict[str, Any]], Cursor]:
        calls, following = self._workspace.again().debug(source, after, limit)
        sought = text.lower()
        return [call for call in calls if sought in json.dumps(call, ensure_ascii=False).lower()], following

    async def _stream(
        self, source: str, text: str, calls: list[dict[str, Any]], following: Cursor
    ) -> AsyncIterator[str]:
        """The calls that are there, then those that come, each an event; its id leads on after a pause."""
        while True:
            for call in calls:
                yield f"event: call\nid: {following}\ndata: {json.dumps(call, ensure_ascii=False)}\n\n"
            if not calls:
                yield ": nothing new\n\n"  # tells a client that went away from one that waits
            if not await streams.pause(PAUSE):
                return
            calls, following = await asyncio.to_thread(self._read, source, following, LIMIT, text)


def _asked(request: Request) -> tuple[str, Cursor | None, int, str]:
    """The source, the cursor, how many calls, and what they are to hold. Raises Refused, 400."""
    query = request.query_params
    for name in query:
        if name not in ("limit", "after", "text"):
            raise Refused(400, "invalid_request", f"there is no parameter {name!r}; this takes limit, after, text")
    limit = query.get("limit", str(LIMIT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= LIMIT):
        raise Refused(400, "invalid_request", f"limit is a number from 1 to {LIMIT}, not {limit!r}")
    given = request.headers.get("last-event-id") or query.get("after")
    after = cursor(given) if given else None
    if given and after is None:
        raise Refused(400, "invalid_request", "after is a cursor that an earlier answer gave")
    return (
        request.path_params.get("source") or request.url.path.removeprefix(PREFIX),
        after,
        int(limit),
        query.get("text", ""),
    )
