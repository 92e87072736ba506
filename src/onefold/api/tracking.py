"""The tracking API (reference, section 6): takes calls in, and says so when they are on disk.

A request is read, checked and handed to the inbox; what its calls mean is found out afterwards, by the resolver. So a
call that breaks a rule is answered with 200, as the SDKs expect, and shows in the debugger as rejected.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, time_ns
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from onefold import canonical
from onefold.api.access import basic
from onefold.api.answer import Refused
from onefold.api.route import Below
from onefold.errors import OnefoldError
from onefold.inbox import LIMIT, Inbox, InboxFull, Request
from onefold.telemetry import Metrics, logger

PREFIX = "/v1/"
CALL_BYTES, BATCH_BYTES, BATCH_CALLS = 32 << 10, 500 << 10, 2_500
BODY = 2 * BATCH_BYTES  # what is not even read to its end: an envelope around a batch is smaller
# Requests that come within so many seconds share a commit, unless so many calls are there sooner.
PAUSE, ENOUGH = 0.005, 2_500
HELD = 64 << 20  # bytes that may wait for a commit
FRESH = 1.0  # seconds after which another configuration is noticed
KINDS = ("identify", "track", "page", "screen", "group", "alias")
# What is posted where -> the type of a single call, None for a batch. One letter is what browsers use.
PATHS: dict[str, str | None] = {
    **{kind: kind for kind in KINDS},
    **{kind[0]: kind for kind in KINDS},
    **dict.fromkeys(("batch", "b", "import")),
}
DONE = b'{"success":true}'
_CORS = [(b"access-control-allow-origin", b"*")]
_PREFLIGHT = [
    *_CORS,
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Content-Encoding, X-Retry-Count"),
    (b"access-control-max-age", b"86400"),
]


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]


class Keys:
    """The write keys that are good, each with its profile source."""

    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._version = -1
        self.sources: dict[str, str] = {}

    def read(self) -> None:
        """Take up what was applied since. Raises OnefoldError."""
        catalog = self._workspace.catalog
        version = catalog.version()
        if version != self._version:
            applied = self._workspace.again().applied if version else None
            live = {source.slug for space in applied.spaces for source in space.sources} if applied else set()
            self.sources = {key: source for source, key in catalog.write_keys().items() if source in live}
            self._version = version


class Commits:
    """Requests that arrive at about the same time are committed together."""

    def __init__(self, inbox: Inbox, woken: Callable[[], None], limit: int = LIMIT) -> None:
        self._inbox = inbox
        self._woken = woken
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "inbox")
        self._held: list[tuple[Request, asyncio.Future[None]]] = []
        self._calls = self._bytes = 0
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = inbox.waiting()  # bytes that were not applied when last seen

    async def add(self, request: Request) -> None:
        """Returns when the request is on disk. Raises InboxFull, OnefoldError."""
        if self.waiting + self._bytes >= self._limit or self._bytes >= HELD:
            raise InboxFull("more calls are waiting to be applied than may; send this again in a moment")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._held.append((request, future))
        self._calls += request.calls
        self._bytes += len(request.body)
        if self._calls >= ENOUGH:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(PAUSE, self._flush)
        await future

    async def look(self) -> None:
        """See how much is waiting."""
        self.waiting = await asyncio.get_running_loop().run_in_executor(self._thread, self._inbox.waiting)

    def _flush(self) -> None:
        """Commit what is held, unless a commit is under way: then when it is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._held:
            return
        held, self._held = self._held, []
        self._calls, self._busy = 0, True
        loop = asyncio.get_running_loop()

        def done(found: asyncio.Future[int]) -> None:
            self._busy = False
            self._bytes -= sum(len(request.body) for request, _ in held)
            error = found.exception()
            if error is None:
                self.waiting = found.result()
                self._woken()
            for _, future in held:
                if future.done():  # its client has gone
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
            self._flush()

        loop.run_in_executor(self._thread, self._inbox.add, [request for request, _ in held]).add_done_callback(done)

    async def close(self) -> None:
        """Finish what is held."""
        while self._held or self._busy:
            self._flush()
            await asyncio.sleep(PAUSE)
        self._thread.shutdown()


class Tracking:
    """The ASGI application behind the routes."""

    def __init__(self, keys: Keys, commits: Commits, metrics: Metrics) -> None:
        self._keys = keys
        self._commits = commits
        self._metrics = metrics
        self._statuses = {status: metrics.requests.labels(str(status)) for status in (200, 400, 401, 429)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, body = 200, _CORS, DONE
        try:
            if scope["method"] == "OPTIONS":
                status, headers, body = 204, _PREFLIGHT, b""
            elif scope["method"] in ("GET", "HEAD"):
                body = self._settings(scope)
            else:
                await self._take(scope, receive)
        except Refused as refused:
            status, body = refused.status, _sentence(refused.code, str(refused))
            headers = [*_CORS, *((name.encode(), value.encode()) for name, value in refused.headers.items())]
        except InboxFull as error:
            status, body = 429, _sentence(error.code, str(error))
            headers = [*_CORS, (b"retry-after", b"1")]
        except OnefoldError as error:
            logger().error("inbox_failed", code=error.code)
            status, body = 503, _sentence(error.code, "the calls could not be kept; send them again in a moment")
            headers = [*_CORS, (b"retry-after", b"1")]
        (self._statuses.get(status) or self._metrics.requests.labels(str(status))).inc()
        said = [*headers, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _take(self, scope: Scope, receive: Receive) -> None:
        """Take in the calls of a request. Raises Refused, InboxFull, OnefoldError."""
        name = scope["path"][len(scope.get("root_path", "")) + len(PREFIX) :].rstrip("/")
        if scope["method"] != "POST" or name not in PATHS:
            if name == "m" and scope["method"] == "POST":
                return  # what browser SDKs measure of themselves; nothing of it is kept
            raise _nothing(scope)
        headers = dict(scope["headers"])
        given = headers.get(b"authorization")
        source = self._source(basic(given.decode("latin-1")) or "") if given else None
        text = await _read(receive, headers.get(b"content-encoding", b""))
        began = perf_counter()
        kind = PATHS[name]
        body = _decoded(text, kind)
        calls = 1 if kind else _counted(text, body)
        if kind and len(text) > CALL_BYTES:
            raise _large(f"the call has {len(text):,} bytes; at most {CALL_BYTES:,} are accepted")
        if source is None:
            key = body.get("writeKey")
            source = self._source(key if isinstance(key, str) else "")
        if calls:
            await self._commits.add(Request(source, time_ns() // 1000, kind, calls, text))
        self._metrics.calls.labels(source).inc(calls)
        self._metrics.seconds.observe(perf_counter() - began)

    def _source(self, key: str) -> str:
        """The profile source of a write key. Raises Refused, 401."""
        source = self._keys.sources.get(key)
        if source is None:
            message = (
                "the write key is unknown, or its source was removed; `onefold source keys` lists them"
                if key
                else "send the write key as user name of basic authentication, or as writeKey in the body"
            )
            raise Refused(401, "invalid_write_key", message)
        return source

    def _settings(self, scope: Scope) -> bytes:
        """The document that browser SDKs begin with: where calls go. Raises Refused."""
        parts = scope["path"].split("/")
        if len(parts) != 5 or parts[2] != "projects" or parts[4] != "settings":
            raise _nothing(scope)
        key = unquote(parts[3])
        if key not in self._keys.sources:
            raise Refused(404, "invalid_write_key", "the write key is unknown, or its source was removed")
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        integration = {
            "apiKey": key,
            "apiHost": f"{host}/v1",
            "protocol": scope["scheme"],
            "unbundledIntegrations": [],
            "addBundledMetadata": True,
            "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
        }

        found = {"integrations": {"Segment.io": integration}, "plan": {}, "edgeFunction": {}, "enabledMiddleware": {}}
        encoded: bytes = msgspec.json.encode(
            {**found, "metrics": {"sampleRate": 0}, "legacyVideoPluginsEnabled": False}
        )
        return encoded


async def _read(receive: Receive, encoding: bytes) -> bytes:
    """The body of a request, inflated. Raises Refused, 400."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "incomplete", "the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > BODY:
            raise Refused(400, "too_large", f"the body has more than {BODY:,} bytes", {"connection": "close"})
        if not message.get("more_body"):
            break
    encoding = encoding.strip().lower()
    if encoding not in (b"gzip", b"x-gzip"):
        if encoding not in (b"", b"identity"):
            raise Refused(400, "invalid_encoding", "Content-Encoding is gzip, or none; others are not read")
        return body
    inflating = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = inflating.decompress(body, BODY + 1)
    except zlib.error:
        raise Refused(400, "invalid_gzip", "the body is not gzip, though Content-Encoding says so") from None
    if len(found) > BODY:
        raise Refused(400, "too_large", f"the body inflates to more than {BODY:,} bytes")
    if not inflating.eof:
        raise Refused(400, "invalid_gzip", "the gzip body ends too early")
    return found


def _decoded(text: bytes, kind: str | None) -> dict[str, Any]:
    """The body as an object; in a batch one call may hold what only that call is rejected for. Raises Refused, 400."""
    try:
        body: Any = _decode(text, kind)
    except (ValueError, msgspec.DecodeError):
        raise Refused(400, "invalid_json", "the body is not valid JSON") from None
    except RecursionError:
        raise Refused(400, "invalid_json", "the body is nested too deeply") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_json", "the body is not a JSON object")
    return body


def _decode(text: bytes, kind: str | None) -> Any:
    try:
        return msgspec.json.decode(text)
    except (UnicodeDecodeError, msgspec.DecodeError):
        if kind:
            raise
        return canonical.read_any(text)


def _counted(text: bytes, body: dict[str, Any]) -> int:
    """How many calls a batch has, within the limits. Raises Refused, 400."""
    batch = body.get("batch")
    if not isinstance(batch, list):
        raise Refused(400, "invalid_batch", 'a batch is {"batch": [...]} with a list of calls')
    if len(batch) > BATCH_CALLS:
        raise _large(f"the batch has {len(batch):,} calls; at most {BATCH_CALLS:,} are accepted")
    if len(text) > CALL_BYTES:
        sizes = _sizes(text, batch)
        if sum(sizes) > BATCH_BYTES:
            raise _large(f"the calls of the batch have {sum(sizes):,} bytes; at most {BATCH_BYTES:,} are accepted")
        if max(sizes, default=0) > CALL_BYTES:
            raise _large(f"a call of the batch has {max(sizes):,} bytes; at most {CALL_BYTES:,} are accepted")
    return len(batch)


def _sizes(text: bytes, batch: list[Any]) -> list[int]:
    """The bytes of each call of a batch."""
    try:
        return [len(memoryview(item)) for item in msgspec.json.decode(text, type=_Batch).batch]
    except msgspec.DecodeError:  # half of a surrogate pair
        return [len(json.dumps(item, ensure_ascii=False, separators=(",", ":"))) for item in batch]


def _large(message: str) -> Refused:
    return Refused(400, "too_large", message)


def _nothing(scope: Scope) -> Refused:
    if scope["method"] == "POST" or scope["path"].rpartition("/")[2] not in PATHS:
        return Refused(
            404, "not_found", f"there is nothing at this address; calls go to {PREFIX}{', '.join(KINDS)}, batch"
        )
    return Refused(405, "method_not_allowed", "calls are sent with POST", {"allow": "POST, OPTIONS"})


def _sentence(code: str, message: str) -> bytes:
    encoded: bytes = msgspec.json.encode({"success": False, "code": code, "message": message})
    return encoded


def routes(tracking: Tracking) -> list[BaseRoute]:
    """The routes of the tracking API: all below /v1 that nobody else has."""
    return [Below(PREFIX, tracking)]
