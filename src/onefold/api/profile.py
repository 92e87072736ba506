"""The Profile API (reference, section 7): `GET /v1/spaces/SPACE/collections/users/profiles/TYPE:VALUE/traits` and more.

The event loop takes requests in and sends answers out; two threads read, each with a store of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Lock
from time import monotonic, time_ns
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from onefold.api.access import Meter, basic
from onefold.api.answer import Refused, send_answer, send_error
from onefold.api.resources import RESOURCES, Question, answers
from onefold.api.route import Below
from onefold.config import Space
from onefold.errors import StoreError
from onefold.rules import ACCOUNTS, TYPE, USERS, Rules
from onefold.stores import Store
from onefold.tokens import Tokens
from onefold.workspace import Workspace

PREFIX = "/v1/spaces/"
# How many requests are answered at once, and how many may wait; more are told to come back.
BATCH, WAITING = 32, 1_000
# What may have much to read has a thread of its own, so that nothing else waits for it.
SLOW = ("/events", "/links")
# Seconds after which another configuration is noticed.
FRESH = 1.0
# What may be asked without naming the type, as it stands in the answers.
BARE = {USERS: "use_", ACCOUNTS: "grp_"}


def routes(workspace: Workspace) -> list[BaseRoute]:
    """The routes of the Profile API; what they hold open closes with the workspace."""
    api = Api(workspace)
    workspace.closing.callback(api.close)
    return [Below(PREFIX, api)]


class Api:
    """The ASGI application behind the routes."""

    def __init__(self, workspace: Workspace) -> None:
        self._spaces = Spaces(workspace)
        self._tokens = Tokens(workspace.catalog)
        self._meter = Meter()
        self._quick, self._slow = Lane("profile-api-quick", self._answers), Lane("profile-api-slow", self._answers)

    def close(self) -> None:
        self._quick.close()
        self._slow.close()
        self._spaces.close()

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        request_id = uuid4().hex
        lane = self._slow if scope["path"].endswith(SLOW) else self._quick
        try:
            found = await lane.answer(scope)
        except Exception as error:  # whatever it is, it has an answer
            found = error
        if isinstance(found, Exception):
            await send_error(scope, send, request_id, found)
        else:
            await send_answer(scope, send, request_id, found)

    def _answers(self, scopes: Sequence[Scope]) -> list[bytes | Exception]:
        """The body of the answer to each request, or why there is none. Those about one space are read together."""
        found: list[bytes | Exception] = [b""] * len(scopes)
        asked: dict[str, list[tuple[int, Question]]] = {}
        for at, scope in enumerate(scopes):
            try:
                slug, question = self._question(scope)
                asked.setdefault(slug, []).append((at, question))
            except Exception as error:  # it is this request's alone
                found[at] = error
        for slug, items in asked.items():
            try:
                with self._spaces.reading(slug) as (store, rules):
                    said = answers(store, rules, [question for _, question in items])
                for (at, _), answer in zip(items, said, strict=True):
                    found[at] = answer if isinstance(answer, Refused) else msgspec.json.encode(answer)
            except Exception as error:  # it is this space's alone
                for at, _ in items:
                    found[at] = error
        return found

    def _question(self, scope: Scope) -> tuple[str, Question]:
        """The space that a request is about, and what it asks. Raises Refused, StoreError."""
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "invalid_request_error", "the Profile API is only read: use GET", {"Allow": "GET, HEAD"})
        # The path as it was sent: a value may hold an escaped slash.
        path = scope["raw_path"].decode("ascii", "replace")
        path = path[path.index(PREFIX) :]
        slug, *rest = path.removeprefix(PREFIX).split("/")
        slug = unquote(slug)
        self._admit(scope, slug)
        collection, identifier, resource = _parts(rest)
        if resource not in RESOURCES:
            raise Refused(404, "not_found", f"a profile has {', '.join(RESOURCES)}, not {resource!r}")
        query = _query(scope["query_string"], resource, RESOURCES[resource][1])
        return slug, Question(collection, *_identifier(collection, identifier), resource, path, query)

    def _admit(self, scope: Scope, slug: str) -> None:
        """Let a request pass that has a token of the space. Raises Refused, 401 and 429."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        text = basic(given.decode("latin-1"))
        token = self._tokens.find(text, time_ns() // 1000) if text else None
        if token is None or token.space != slug:
            message = (
                "send an access token of the space as user name of basic authentication, with an empty password;"
                " `onefold token create` makes one"
                if text is None
                else "the access token is unknown, was revoked, or is not one of this space"
            )
            raise Refused(401, "authentication_error", message, {"WWW-Authenticate": 'Basic realm="onefold"'})
        self._meter.count(token)


class Lane:
    """A thread that answers requests, always all that are waiting at once: the fuller it is, the quicker each is."""

    def __init__(self, name: str, answer: Callable[[Sequence[Scope]], list[bytes | Exception]]) -> None:
        self._answer = answer
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: list[tuple[Scope, asyncio.Future[bytes | Exception]]] = []
        self._busy = False

    def close(self) -> None:
        self._thread.shutdown()

    async def answer(self, scope: Scope) -> bytes | Exception:
        """The answer to a request. Raises Refused, 429, when too many are waiting."""
        if len(self._waiting) >= WAITING:
            message = "more requests are waiting than can be answered soon; wait a second"
            raise Refused(429, "rate_limit_error", message, {"Retry-After": "1"})
        future: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
        self._waiting.append((scope, future))
        if not self._busy:
            self._next()
        return await future

    def _next(self) -> None:
        """Give the thread what is waiting."""
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._busy = bool(batch)
        if not batch:
            return
        loop = asyncio.get_running_loop()

        def done(found: asyncio.Future[list[bytes | Exception]]) -> None:
            self._next()
            for (_, future), answer in zip(batch, found.result(), strict=True):
                if not future.done():  # its client may have gone
                    future.set_result(answer)

        loop.run_in_executor(self._thread, self._answer, [scope for scope, _ in batch]).add_done_callback(done)


def _parts(rest: list[str]) -> tuple[str, str, str]:
    """Collection, identifier and resource of what follows the space in a path. Raises Refused."""
    if len(rest) != 5 or rest[0] != "collections" or rest[2] != "profiles":
        message = f"there is nothing here; use {PREFIX}SPACE/collections/users/profiles/TYPE:VALUE/traits"
        raise Refused(404, "not_found", message)
    _, collection, _, identifier, resource = rest
    if collection not in (USERS, ACCOUNTS):
        raise Refused(400, "validation_error", f"the collections are users and accounts, not {unquote(collection)!r}")
    return collection, identifier, unquote(resource)


def _identifier(collection: str, text: str) -> tuple[str, str]:
    """Type and value of `TYPE:VALUE`, or of a segment_id alone. Raises Refused."""
    try:
        text = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Refused(400, "validation_error", "the identifier is not UTF-8, percent-encoded") from None
    kind, colon, value = text.partition(":")
    if not colon and text.startswith(BARE[collection]):
        return "segment_id", text
    if not value or not TYPE.fullmatch(kind):
        message = f"{text!r} is not TYPE:VALUE, such as user_id:42, the value percent-encoded (+ as %2B)"
        raise Refused(400, "validation_error", message)
    if "\0" in value:  # no identifier has one, and not every store can be asked
        raise Refused(404, "not_found", f"no profile in {collection} has an identifier with a NUL character")
    return kind, value


def _query(text: bytes, resource: str, accepted: tuple[str, ...]) -> dict[str, str]:
    """The parameters of a query; a list may be given in several. Raises Refused."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refused(400, "invalid_request_error", "the query is not UTF-8, percent-encoded") from None
    for name, value in pairs:
        if name not in accepted:
            message = f"{resource} takes no parameter {name!r}; it takes {', '.join(accepted)}"
            raise Refused(400, "invalid_request_error", message)
        found[name] = f"{found[name]},{value}" if name in ("include", "exclude") and name in found else value
    return found


class Spaces:
    """The applied spaces, and open stores to read them: a thread takes one and puts it back."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = Lock()
        self._idle: dict[tuple[str, str], list[Store]] = {}
        self._found: dict[str, tuple[Space, Rules]] = {}
        self._version, self._read_at = 0, -FRESH

    def close(self) -> None:
        with self._lock:
            for store in [store for stores in self._idle.values() for store in stores]:
                store.close()
            self._idle.clear()

    @contextmanager
    def reading(self, slug: str) -> Iterator[tuple[Store, Rules]]:
        """A store that shows one moment, and the rules of its space. Raises Refused, StoreError."""
        space, rules = self._space(slug)
        idle = self._idle.setdefault((slug, space.store), [])
        try:
            store = idle.pop()
        except IndexError:
            store = self._workspace.again().space(slug)
        try:
            store.execute("begin")
            try:
                yield store, rules
            finally:
                store.execute("commit")
        except StoreError:
            store.close()
            raise
        except BaseException:
            idle.append(store)
            raise
        idle.append(store)

    def _forget(self, kept: Collection[tuple[str, str]]) -> None:
        """Close the stores of other spaces: one that comes back may be another one."""
        for key in [key for key in self._idle if key not in kept]:
            stores = self._idle.pop(key)
            with suppress(IndexError):  # another thread may take the last one, and closes it by itself in the end
                while True:
                    stores.pop().close()

    def _space(self, slug: str) -> tuple[Space, Rules]:
        with self._lock:
            if monotonic() - self._read_at >= FRESH:
                self._read_at = monotonic()
                version = self._workspace.catalog.version()
                if version != self._version:
                    applied = self._workspace.again().applied
                    self._found = {space.slug: (space, Rules.of(space)) for space in applied.spaces}
                    self._version = version
                    self._forget({(space.slug, space.store) for space in applied.spaces})
        if slug not in self._found:
            raise Refused(404, "not_found", f"the workspace has no space {slug!r} any more")
        return self._found[slug]
