"""The debugger live: `GET /api/debugger/SOURCE` as Server-Sent Events. As JSON it is one of the operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from onefold.api import HERE, streams
from onefold.api.access import Gate
from onefold.api.answer import Refused, send_error
from onefold.api.configuration import asked
from onefold.api.operations import debug
from onefold.api.route import Below
from onefold.debugger import LIMIT, cursor
from onefold.roles import VIEWER
from onefold.workspace import Workspace

PREFIX = "/api/debugger/"
STREAM = "text/event-stream"
PAUSE = 0.5  # seconds between two looks


class Streamed(Below):
    """All paths that begin so, for who accepts a stream."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        streamed = scope["type"] == "http" and STREAM in Headers(scope=scope).get("accept", "")
        return super().matches(scope) if streamed else (Match.NONE, {})


def routes(workspace: Workspace, hosts: Collection[str] = HERE) -> list[BaseRoute]:
    return [Streamed(PREFIX, Api(workspace, hosts))]


class Api:
    """The ASGI application behind the route; it asks for a session or an admin token, as all below /api does."""

    def __init__(self, workspace: Workspace, hosts: Collection[str]) -> None:
        self._workspace = workspace
        self._gate = Gate(workspace, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid4().hex
        try:
            given = await asyncio.to_thread(self._asked, scope, dict(Headers(scope=scope)))
            first = await asyncio.to_thread(self._read, given)
        except Exception as error:  # whatever it is, it has an answer
            await send_error(scope, send, request_id, error)
            return
        said = {"Cache-Control": "no-store", "Request-Id": request_id}
        await StreamingResponse(self._stream(given, first), media_type=STREAM, headers=said)(scope, receive, send)

    def _asked(self, scope: Scope, headers: dict[str, str]) -> dict[str, Any]:
        """The parameters of the operation. Raises Refused."""
        self._gate.from_here(headers)
        who = self._gate.admit(headers, scope["method"], "")
        operation, given = asked(scope)
        if not operation.stream:
            raise Refused(406, "not_acceptable", "this is no stream; ask for application/json")
        who.need(operation.role or VIEWER)
        last = headers.get("last-event-id")
        if last:
            if cursor(last) is None:
                raise Refused(400, "invalid_request", f"Last-Event-ID is the id of an event, not {last!r}")
            given["after"] = last
        return given

    def _read(self, given: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = debug(self._workspace.again(), given)
        return found

    async def _stream(self, given: dict[str, Any], found: dict[str, Any]) -> AsyncIterator[str]:
        """The calls that are there, then those that come, each an event; an id leads on after a pause.

        Of calls that are read together the last has it: who was cut off among them hears them again.
        """
        while True:
            events = [f"event: call\ndata: {json.dumps(call, ensure_ascii=False)}\n" for call in found["data"]]
            if events:
                events[-1] += f"id: {found['cursor']}\n"
            for said in events:
                yield f"{said}\n"
            if not events:
                yield ": nothing new\n\n"  # tells a client that went away from one that waits
            if not await streams.pause(PAUSE):
                return
            given = {**given, "after": found["cursor"], "limit": LIMIT}
            found = await asyncio.to_thread(self._read, given)
