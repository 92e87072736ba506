"""The door of the web app: who is let in; login and first start, as plain pages; and the files that pages need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from html import escape
from importlib.resources import files
from urllib.parse import parse_qs, quote, urlsplit

import anyio.to_thread
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onefold.api.access import cookie, from_here, set_cookie
from onefold.api.answer import Refused
from onefold.errors import OnefoldError
from onefold.sessions import LONGEST, Session
from onefold.web import style
from onefold.web.shell import LOGO
from onefold.workspace import Workspace

BODY = 16_384
KEPT = "public, max-age=31536000, immutable"
# NiceGUI compiles its templates in the page, so scripts cannot be held to files alone.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:;"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
FONTS = "".join(f"<link rel=preload as=font type=font/ttf href=/web/{name}.ttf crossorigin>" for name in style.FONTS)


def links() -> str:
    """What stands in the head of every page."""
    return (
        f'{FONTS}<link rel="stylesheet" href="/web/style.css?{style.version()}">'
        f'<script src="/web/web.js?{style.version()}" defer></script>'
    )


class Guard:
    """Lets to the app only who asks from here and has a session; everybody else is shown the login."""

    def __init__(self, app: ASGIApp, workspace: Workspace, hosts: Collection[str]) -> None:
        self._app = app
        self._workspace = workspace
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            from_here(headers, self._hosts)
        except Refused as error:
            return await _refuse(scope, receive, send, 403, str(error))
        path: str = scope["path"]
        if not path.startswith("/_nicegui/") and path != "/favicon.ico":
            address = (scope.get("client") or ("",))[0]
            token = cookie(headers)
            session = await anyio.to_thread.run_sync(self._workspace.session, token, address) if token else None
            if not session:
                if scope["type"] == "websocket" or path.startswith("/_nicegui"):
                    return await _refuse(scope, receive, send, 403, "the session has ended; log in again")
                asked = path + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
                to = "/login" if asked == "/" else f"/login?next={quote(asked)}"
                return await RedirectResponse(to, 303)(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        return await self._app(scope, receive, with_headers)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, said: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": said[:100]})
        return
    await PlainTextResponse(said, status)(scope, receive, send)


class Door:
    """The plain pages and files."""

    def __init__(self, workspace: Workspace, hosts: Collection[str]) -> None:
        self._workspace = workspace
        self._hosts = frozenset(hosts)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/web/{file}", _file),
            Route("/login", self._checked(self._login), methods=["GET", "POST"]),
            Route("/setup", self._checked(self._setup), methods=["GET", "POST"]),
            Route("/logout", self._checked(self._logout), methods=["POST"]),
        ]

    def _checked(self, page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            try:
                from_here(dict(request.headers), self._hosts)
            except Refused as error:
                return PlainTextResponse(str(error), 403)
            response = await page(request)
            response.headers.update({**HEADERS, "Cache-Control": "no-store"})
            return response

        return answered

    async def _login(self, request: Request) -> Response:
        to = request.query_params.get("next", "/")
        if request.method == "GET":
            first = await anyio.to_thread.run_sync(self._first)
            return _form("Log in", "", "Log in", first=first)
        form = await _posted(request)
        try:
            session = await anyio.to_thread.run_sync(
                self._workspace.login, form.get("name", ""), form.get("password", ""), _address(request)
            )
        except OnefoldError as error:
            return _form("Log in", str(error), "Log in", name=form.get("name", ""))
        return _enter(request, session, to)

    def _first(self) -> bool:
        from onefold import users

        return not users.exist(self._workspace.catalog)

    async def _setup(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        said = "You become the first admin of this workspace. The link works once."
        if request.method == "GET":
            good = self._workspace.sessions.offered(token)
            wrong = "" if good else "This link was used, or is of an earlier start. Log in, or start the server again."
            return _form("Welcome to Onefold", wrong, "Create account", said=said, new=True, off=not good)
        form = await _posted(request)
        try:
            if form.get("password") != form.get("again"):
                raise OnefoldError("the two passwords differ", code="passwords_differ")
            session = await anyio.to_thread.run_sync(
                self._workspace.setup, token, form.get("name", ""), form.get("password", ""), _address(request)
            )
        except OnefoldError as error:
            return _form(
                "Welcome to Onefold", str(error), "Create account", said=said, new=True, name=form.get("name", "")
            )
        return _enter(request, session, "/")

    async def _logout(self, request: Request) -> Response:
        headers = dict(request.headers)
        token = cookie(headers)
        if token:
            session = await anyio.to_thread.run_sync(self._workspace.session, token, _address(request))
            if session:
                await anyio.to_thread.run_sync(self._workspace.again(session.who).logout)
        response = RedirectResponse("/login", 303)
        response.headers["Set-Cookie"] = set_cookie(headers, "", 0, secure=request.url.scheme == "https")
        return response


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _enter(request: Request, session: Session, to: str) -> Response:
    """Begin the session in the browser, and go on; to a place of ours only."""
    parts = urlsplit(to)
    ours = to.startswith("/") and not to.startswith(("//", "/\\")) and not parts.netloc
    response = RedirectResponse(to if ours else "/", 303)
    response.headers["Set-Cookie"] = set_cookie(
        dict(request.headers), session.token, LONGEST // 1_000_000, secure=request.url.scheme == "https"
    )
    return response


async def _posted(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY:
            return {}
    given = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in given.items()}


async def _file(request: Request) -> Response:
    name = request.path_params["file"]
    if name == "style.css":
        return Response(style.sheet(), media_type="text/css", headers={"Cache-Control": KEPT})
    if name == "web.js":
        source = (files(__package__) / "web.js").read_text(encoding="utf-8")
        return Response(source, media_type="text/javascript", headers={"Cache-Control": KEPT})
    stem = name.removesuffix(".ttf")
    if stem in style.FONTS and name != stem:
        return Response(style.font(stem), media_type="font/ttf", headers={"Cache-Control": KEPT})
    return PlainTextResponse("there is nothing at this address", 404)


def _form(
    title: str,
    wrong: str,
    act: str,
    *,
    said: str = "",
    name: str = "",
    new: bool = False,
    off: bool = False,
    first: bool = False,
) -> Response:
    """The page of a login, or with `new` of a new password."""
    kind = "new-password" if new else "current-password"
    alert = (
        f'<div class="of-alert of-alert-bad" role="alert"><i class="of-i of-i-failed" aria-hidden="true"></i>'
        f"<p>{escape(wrong[:1].upper() + wrong[1:])}</p></div>"
        if wrong
        else ""
    )
    hint = (
        "<p class=of-note>There is no user yet: open the link that the server printed when it started.</p>"
        if first
        else ""
    )
    again = (
        '<div class="of-field"><label for="again">Password, once more</label>'
        f'<input class="of-input" id="again" name="again" type="password" autocomplete="{kind}" required></div>'
        if new
        else ""
    )
    least = "<p class=of-note>At least 12 characters; a few words are good.</p>" if new else ""
    fields = (
        '<form method="post"><div class="of-field"><label for="name">Name or e-mail address</label>'
        '<input class="of-input" id="name" name="name" autocomplete="username" required autofocus'
        f' value="{escape(name)}">'
        '</div><div class="of-field"><label for="password">Password</label>'
        '<input class="of-input" id="password" name="password" type="password" required'
        f' autocomplete="{kind}">{least}</div>'
        f'{again}<button class="of-btn of-btn-primary" type="submit">{escape(act)}</button></form>'
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · Onefold</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{links()}'
        "<script>if (matchMedia('(prefers-color-scheme: dark)').matches) addEventListener('DOMContentLoaded',"
        " () => document.body.classList.add('body--dark'))</script></head>"
        f'<body><div class="of-door"><main><div class="of-brand">{LOGO}<span>Onefold</span></div>'
        f"<h1>{escape(title)}</h1>{f'<p class=of-text>{escape(said)}</p>' if said else ''}{alert}{hint}"
        f"{'' if off else fields}</main></div></body></html>"
    )
    return HTMLResponse(page, 400 if wrong else 200)
