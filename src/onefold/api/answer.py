"""How an answer is written: JSON, a Request-Id, and errors that have a status, a code and a sentence."""

from __future__ import annotations

import logging

import msgspec
from starlette.types import Scope, Send

from onefold import errors

# Error -> HTTP status; the first that fits.
STATUS: tuple[tuple[type[errors.OnefoldError], int], ...] = (
    (errors.NotFound, 404),
    (errors.Disabled, 409),
    (errors.Conflict, 409),
    (errors.LoginFailed, 401),
    (errors.Forbidden, 403),
    (errors.TooManyAttempts, 429),
    (errors.WarehouseError, 502),
    (errors.StoreError, 503),
    (errors.OnefoldError, 422),
)

log = logging.getLogger("onefold.api")


class Refused(Exception):
    """A request that is answered with an error: HTTP status, stable code, one sentence, further headers."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}


async def send_answer(
    scope: Scope, send: Send, request_id: str, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    """Send a JSON text."""
    said = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def send_error(scope: Scope, send: Send, request_id: str, error: Exception) -> None:
    """Send `{"error": {"code", "message"}}`; what nobody foresaw is logged, and answered with 500.

    An object that cannot be saved has `fields` too: dotted path -> sentences.
    """
    fields = {"fields": error.fields} if isinstance(error, errors.InvalidObject) else {}
    if isinstance(error, errors.OnefoldError):
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        wait = str(error.seconds) if isinstance(error, errors.TooManyAttempts) else "1" if status == 503 else None
        error = Refused(status, error.code, str(error), {"Retry-After": wait} if wait else None)
    elif not isinstance(error, Refused):
        log.error("request %s failed", request_id, exc_info=error)
        error = Refused(500, "internal_error", f"Onefold failed; its log says more of request {request_id}")
    body = msgspec.json.encode({"error": {"code": error.code, "message": str(error), **fields}})
    await send_answer(scope, send, request_id, body, error.status, error.headers)
