"""The configuration API: everything under /api does what the command line does, through the same facade."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from onefold.api import HERE
from onefold.api.access import Gate, set_cookie
from onefold.api.answer import Refused, send_answer, send_error
from onefold.api.operations import BODIES, OPERATIONS, Operation, Schema, openapi
from onefold.api.route import Below
from onefold.roles import VIEWER, Who
from onefold.sessions import LONGEST, Session, view
from onefold.workspace import Workspace

PREFIX = "/api/"
DESCRIPTION = "/api/openapi.json"
# What may run at once; a preview or a plan can take seconds.
THREADS = 4
BODY = 65_536


def routes(workspace: Workspace, hosts: Collection[str] = HERE) -> list[BaseRoute]:
    """The routes of the configuration API; `hosts` are the names by which the server may be asked."""
    api = Api(workspace, hosts)
    workspace.closing.callback(api.close)
    return [Below(PREFIX, api)]


class Api:
    """The ASGI application behind the routes."""

    def __init__(self, workspace: Workspace, hosts: Collection[str]) -> None:
        self._workspace = workspace
        self._gate = Gate(workspace, hosts)
        self._threads = ThreadPoolExecutor(THREADS, "configuration-api")
        self._document: bytes = msgspec.json.encode(openapi(version("onefold")))

    def close(self) -> None:
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid4().hex
        try:
            body = await _read(receive)
            loop = asyncio.get_running_loop()
            status, found, extra = await loop.run_in_executor(self._threads, self._answer, scope, body)
        except Exception as error:  # whatever it is, it has an answer
            await send_error(scope, send, request_id, error)
        else:
            await send_answer(scope, send, request_id, found, status, extra)

    def _answer(self, scope: Scope, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and further headers of an answer. Raises Refused, OnefoldError."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._gate.from_here(headers)
        path = scope["raw_path"].decode("ascii", "replace")
        path = path[path.index(PREFIX) :]
        if path == DESCRIPTION and scope["method"] in ("GET", "HEAD"):
            return 200, self._document, {}
        address = (scope.get("client") or ("",))[0]
        opened = (scope["method"], path) in _OPEN
        who = (
            Who("(nobody)", VIEWER, address=address) if opened else self._gate.admit(headers, scope["method"], address)
        )
        operation, given = _match(scope["method"], path)
        given |= _query(operation, scope["query_string"]) | _body(operation, headers, body)
        if operation.role is not None:
            who.need(operation.role)
        workspace = self._workspace.again(who)
        try:
            found = operation.run(workspace, given)
        finally:
            workspace.closing.close()
        further = {}
        if operation.status == 202:
            further["Location"] = f"/api/runs/{found['run_id']}"
        if operation.cookie:  # a session begins, or ends
            begun = isinstance(found, Session)
            value, lasts = (found.token, LONGEST // 1_000_000) if begun else ("", 0)
            further["Set-Cookie"] = set_cookie(headers, value, lasts, secure=scope["scheme"] == "https")
            found = view(found.who if begun else who)
        text: bytes = msgspec.json.encode(found)
        return operation.status, text, further


async def _read(receive: Receive) -> bytes:
    """The body of a request. Raises Refused, 413."""
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > BODY:
            raise Refused(413, "body_too_long", f"the body has more than {BODY} bytes")
        if not message.get("more_body"):
            return body


def _match(method: str, path: str) -> tuple[Operation, dict[str, Any]]:
    """The operation that a request is for, and the parameters in its path. Raises Refused, 404 and 405."""
    parts = path.split("/")
    allowed = []
    for operation, template in _TEMPLATES:
        if len(parts) != len(template):
            continue
        if all(part == there or there.startswith("{") for part, there in zip(parts, template, strict=True)):
            if method in (operation.method, "HEAD" if operation.method == "GET" else None):
                values = (unquote(part) for part, there in zip(parts, template, strict=True) if there.startswith("{"))
                return operation, dict(zip(operation.names, values, strict=True))
            allowed += ["GET", "HEAD"] if operation.method == "GET" else [operation.method]
    if allowed or path == DESCRIPTION:
        allow = ", ".join(allowed or ["GET", "HEAD"])
        raise Refused(405, "method_not_allowed", f"{method} does nothing here; use {allow}", {"Allow": allow})
    raise Refused(404, "not_found", f"there is nothing at this address; {DESCRIPTION} lists what there is")


# What is asked for without a session.
_OPEN = {(operation.method, operation.path) for operation in OPERATIONS if operation.role is None}
_TEMPLATES = [(operation, operation.path.split("/")) for operation in OPERATIONS]


def _query(operation: Operation, text: bytes) -> dict[str, Any]:
    """The parameters of a query, the default of those that are not given. Raises Refused."""
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise _wrong("the query is not UTF-8, percent-encoded") from None
    found = {name: schema.get("default") for name, schema in operation.query.items()}
    seen: set[str] = set()
    for name, value in pairs:
        if name not in operation.query:
            accepted = ", ".join(operation.query) or "none"
            raise _wrong(f"there is no parameter {name!r}; this takes {accepted}")
        if name in seen:
            raise _wrong(f"{name} is given twice")
        seen.add(name)
        found[name] = _value(name, value, operation.query[name])
    return found


def _value(name: str, text: str, schema: Schema) -> Any:
    if schema["type"] == "boolean":
        if text not in ("true", "false"):
            raise _wrong(f"{name} is true or false, not {text!r}")
        return text == "true"
    if schema["type"] == "integer":
        least, most = schema["minimum"], schema["maximum"]
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise _wrong(f"{name} is a number from {least} to {most}, not {text!r}")
        return int(text)
    if "\0" in text:
        raise _wrong(f"{name} holds a NUL character")
    return text


_TYPES = {"string": str, "boolean": bool, "integer": int, "array": list, "object": dict}


def _body(operation: Operation, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The parameters in a body, the default of those that are not given. Raises Refused."""
    found = {name: schema.get("default") for name, schema in operation.body.items()}
    if operation.method not in BODIES:
        return found
    if not body and not operation.needed:
        return found
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "unsupported_media_type", "send the body as application/json")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise _wrong("the body is not JSON") from None
    if not isinstance(given, dict):
        raise _wrong("the body is not a JSON object")
    for name, value in given.items():
        if name not in operation.body:
            accepted = ", ".join(operation.body) or "nothing"
            raise _wrong(f"there is no parameter {name!r}; the body takes {accepted}")
        kind = operation.body[name]["type"]
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            raise _wrong(f"{name} is {'an' if kind[0] in 'aio' else 'a'} {kind}")
        found[name] = value
    for name in operation.needed:
        if name not in given:
            raise _wrong(f"{name} is missing")
    return found


def _wrong(message: str) -> Refused:
    return Refused(400, "invalid_request", message)
