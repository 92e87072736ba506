"""The resolver: takes live calls out of the inbox, in order, and applies them to the spaces.

`serve` runs it in a process of its own, so that answering is not held up by resolving. Each space remembers, in the
transaction of the effects, how far it has applied the inbox; so a resolver may be killed anywhere, and the next one
goes on from there. Rows are deleted from the inbox once every space is past them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Event, Thread
from time import gmtime, monotonic, strftime
from typing import Any

import msgspec

from onefold import calls, canonical, config, garbage, workspace
from onefold.apply import apply
from onefold.calls import Arrival
from onefold.errors import NotFound, OnefoldError, RowRejected, StoreError, ValueRefused
from onefold.events import Selected, check, event, wrong
from onefold.inbox import DAY, FILE, Inbox, Person, Refused, Request, digest
from onefold.rules import Rules
from onefold.stores import Store, sqlite
from onefold.telemetry import logger

# How many calls one turn of a space applies, about.
BATCH = 10_000
# Seconds: how soon another configuration is noticed, a space that failed is tried again, and a look is taken without
# having been woken.
FRESH, PAUSE, IDLE = 1.0, 1.0, 0.5
# Where more calls than so many, and no other, cannot be applied, it is not the calls that are wrong.
ALL = 100
# How deep a call may be nested: everything that reads it later must be able to.
DEPTH = 200
# How deep the resolver can read: deeper than the server, which takes in only what it can read itself.
READ_DEPTH = 3000
# What belongs to the request, not to the call.
_ENVELOPE = ("writeKey", "sentAt", "_metadata")


@dataclass
class Target:
    """A space, and what reaches it from the inbox: its own sources, and the mappings of event destinations."""

    slug: str
    rules: Rules
    own: set[str]
    selected: dict[str, list[Selected]]  # profile source -> mappings that take its calls as events
    progress: int = 0  # up to here nothing in the inbox is waiting for this space
    failed_at: float | None = None
    applied: int = -1  # as the space says; -1: not asked yet
    ahead: Future[Prepared] | None = None  # what comes next, being prepared

    @property
    def sources(self) -> list[str]:
        return sorted(self.own | set(self.selected))


@dataclass
class Prepared:
    """What a window of the inbox comes to for one space: up to the request `last`, and none waits up to `upto`."""

    last: int
    upto: int
    calls: list[dict[str, Any]] = field(default_factory=list)
    origins: list[tuple[Request, int, str, Any, Arrival]] = field(default_factory=list)  # of the calls, for `refused`
    refused: list[Refused] = field(default_factory=list)
    persons: set[Person] = field(default_factory=set)
    sent: list[tuple[int, int, str]] = field(default_factory=list)


def targets(applied: config.Workspace) -> dict[str, Target]:
    """What reaches each space."""
    found = {
        space.slug: Target(space.slug, Rules.of(space), {source.slug for source in space.sources}, {})
        for space in applied.spaces
    }
    for destination in applied.destinations:
        if not destination.enabled or destination.endpoint != "local":
            continue
        for mapping in destination.mappings:
            reached = applied.profile_source(mapping.engage_space)
            if mapping.enabled and not mapping.model and reached is not None:
                selected = Selected(f"{destination.slug}/{mapping.slug}", mapping, reached[1].slug)
                found[reached[0].slug].selected.setdefault(destination.source, []).append(selected)
    return found


class Resolver:
    """Applies what waits in the inbox of a workspace. Not shared between threads or processes."""

    def __init__(self, workspace: workspace.Workspace) -> None:
        self._workspace = workspace
        self._inbox = Inbox(workspace.home / FILE, durable=False)
        # The one thread that uses the inbox from here on.
        self._beside = ThreadPoolExecutor(1, "inbox")
        self._name = f"inbox {self._inbox.id}"
        self._targets: dict[str, Target] = {}
        self._stores: dict[str, Store] = {}
        self._version, self._read_at = 0, -FRESH
        self._retired = 0

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._beside.shutdown()
        self._inbox.close()

    def drain(self) -> None:
        """Apply all that waits. Raises what `step` meets only later."""
        while self.step():
            pass

    def step(self) -> bool:
        """Apply the next calls of each space; whether there were any. Raises OnefoldError."""
        self._configure()
        busy = False
        for target in self._targets.values():
            if target.failed_at is not None and monotonic() - target.failed_at < PAUSE:
                continue
            try:
                busy |= self._advance(target)
                target.failed_at = None
            except Exception as error:  # the other spaces go on; what this one has not applied stays in the inbox
                logger().error("space_failed", space=target.slug, code=getattr(error, "code", type(error).__name__))
                target.failed_at, target.applied = monotonic(), -1
                if target.slug in self._stores:
                    self._stores.pop(target.slug).close()
        self._retire()
        return busy

    def _retire(self) -> None:
        """Delete what every space is past."""
        upto = min((target.progress for target in self._targets.values()), default=0)
        # A call of a source that we do not know may be of one that was added since.
        if upto <= self._retired or self._workspace.catalog.version() != self._version:
            return
        self._beside.submit(self._let_go, upto).result()
        self._retired = upto

    def _configure(self) -> None:
        """Take up what was applied to the workspace since."""
        if monotonic() - self._read_at < FRESH:
            return
        self._read_at = monotonic()
        version = self._workspace.catalog.version()
        if version == self._version:
            return
        with suppress(NotFound):
            made = targets(self._workspace.again().applied)
            for store in self._stores.values():
                store.close()
            self._stores.clear()
            self._targets, self._version = made, version

    def _store(self, target: Target) -> Store:
        if target.slug not in self._stores:
            store = self._workspace.again().space(target.slug)
            if isinstance(store.engine, sqlite.Engine):
                # The inbox forgets what the space has committed, so that must be on disk.
                store.execute("pragma synchronous = full")
            self._stores[target.slug] = store
        return self._stores[target.slug]

    def _applied(self, store: Store) -> int:
        rows = store.rows("select value from counter where name = $1", self._name)
        return int(rows[0]["value"]) if rows else 0

    def _advance(self, target: Target) -> bool:
        """Apply the next calls of a space, with the place up to which they are applied. Raises StoreError."""
        store = self._store(target)
        if target.applied < 0:
            target.applied, target.ahead = self._applied(store), None
        ready = target.ahead or self._beside.submit(self._prepare, target, target.applied)
        target.ahead = None
        prepared = ready.result()
        if prepared.last == target.applied:
            target.progress = max(target.progress, prepared.upto)
            return False
        # Told only now: what was prepared under another configuration is prepared again.
        self._beside.submit(self._inbox.note, prepared.refused, prepared.persons, prepared.sent).result()
        # While these are applied, those behind them are prepared.
        ahead = self._beside.submit(self._prepare, target, prepared.last)
        try:
            with self._turn(store, target, prepared.last):
                if prepared.calls:
                    apply(store, calls.table(prepared.calls), target.rules)
        except Exception as error:
            if not _of_a_value(error):
                raise
            with self._turn(store, target, prepared.last):
                found = self._sift(store, target, prepared, range(len(prepared.calls)))
                if len(found) == len(prepared.calls) > ALL:
                    raise
                self._beside.submit(self._inbox.note, found, set(), ()).result()
        target.applied, target.progress, target.ahead = prepared.last, prepared.upto, ahead
        return True

    @contextmanager
    def _turn(self, store: Store, target: Target, upto: int) -> Iterator[None]:
        """A turn of a space that is committed with the place up to which the inbox is applied. Raises StoreError."""
        with store.turn():
            if self._applied(store) != target.applied:
                raise StoreError("another resolver has applied calls of the same inbox", code="not_alone")
            yield
            store.execute(
                "insert into counter (name, value) values ($1, $2)"
                " on conflict (name) do update set value = excluded.value",
                *(self._name, upto),
            )

    def _sift(self, store: Store, target: Target, prepared: Prepared, part: range) -> list[Refused]:
        """Apply a part of the calls; those that cannot be applied are rejected, alone. Raises StoreError."""
        try:
            with store.attempt():
                apply(store, calls.table(prepared.calls[part.start : part.stop]), target.rules)
            return []
        except Exception as error:
            if not _of_a_value(error):
                raise
            if len(part) == 1:
                return [refused(*prepared.origins[part.start], error)]
        middle = len(part) // 2
        return [
            *self._sift(store, target, prepared, part[:middle]),
            *self._sift(store, target, prepared, part[middle:]),
        ]

    def _let_go(self, upto: int) -> None:
        """Delete requests that are applied; what nobody took is kept as rejected. Raises OnefoldError."""
        sources = {source for target in self._targets.values() for source in target.own}
        taken = (taken for target in self._targets.values() for taken in target.selected.values())
        stray = self._inbox.stray(upto, sources, {selected.path for mappings in taken for selected in mappings})
        if stray:
            self._inbox.note([_unwanted(*each, sources) for each in self._messages(stray)], set(), ())
        self._inbox.retire(upto)

    # --- a window -------------------------------------------------------------------------------------

    def _prepare(self, target: Target, after: int) -> Prepared:
        """The next calls for a space, without those whose message id came before. Raises OnefoldError."""
        window, upto = self._inbox.read(target.sources, after, BATCH)
        if not window:
            return Prepared(after, upto)
        found = Prepared(window[-1].seq, upto)
        read = list(self._messages(window))
        claims = [
            (digest(request.source, arrival.message_id), request.received_at, request.seq, place)
            for request, place, _, arrival in read
            if request.only is None  # one that is sent again has its message id already
        ]
        repeated = self._inbox.claim(claims)
        for request, place, message, arrival in read:
            if (request.seq, place) in repeated:
                continue
            if request.source in target.own and not request.only:
                self._own(target, found, request, place, message, arrival)
            for selected in target.selected.get(request.source, ()):
                if request.only in (None, selected.path):
                    self._selected(target, found, selected, request, place, message, arrival)
        return found

    def _messages(self, window: Sequence[Request]) -> Iterator[tuple[Request, int, Any, Arrival]]:
        """Each call of the requests, with its place in its request."""
        for request in window:
            for place, message in enumerate(messages(request)):
                given = message.get("messageId") if isinstance(message, dict) else None
                # One made from the place is the same when the call is read again.
                name = given if isinstance(given, str) and given else f"{self._inbox.id}-{request.seq}-{place}"
                yield request, place, message, Arrival(request.source, request.received_at, name)

    def _own(
        self, target: Target, found: Prepared, request: Request, place: int, message: Any, arrival: Arrival
    ) -> None:
        try:
            check(message)
            found.calls.append(shallow(calls.call(message, arrival, target.rules, canonical.encode_read)))
            found.origins.append((request, place, "", message, arrival))
        except Exception as error:  # whatever is wrong with one call, the others go on
            found.refused.append(refused(request, place, "", message, arrival, error))
            return
        month = _month(request.received_at // DAY)
        user, anonymous = canonical.text(message.get("userId")), canonical.text(message.get("anonymousId"))
        if user:
            found.persons.add((month, request.source, 1, user, 1))
        if anonymous:
            found.persons.add((month, request.source, 0, anonymous, 1 if user else 0))

    def _selected(
        self,
        target: Target,
        found: Prepared,
        selected: Selected,
        request: Request,
        place: int,
        message: Any,
        arrival: Arrival,
    ) -> None:
        try:
            check(message)
            made = selected.call(event(message, arrival), arrival, target.rules)
            if made is not None:
                shallow(made)
        except Exception as error:  # as above; a call that is wrong itself is told once, where it came in
            if isinstance(message, dict) and not wrong(message):
                found.refused.append(refused(request, place, selected.path, message, arrival, error))
            return
        if made is not None:
            found.calls.append(made)
            found.origins.append((request, place, selected.path, message, arrival))
            found.sent.append((request.seq, place, selected.path))


@lru_cache(8)
def _month(day: int) -> str:
    """`YYYY-MM` of a day since the epoch."""
    return strftime("%Y-%m", gmtime(day * 86_400))


def messages(request: Request) -> list[Any]:
    """The calls of a request, each with the outer context and integrations, and its type. Never fails."""
    try:
        body = canonical.read_any(request.body)
    except (ValueError, RecursionError):
        return [request.body.decode(errors="replace")]  # it is no call, and rejected as it is
    if request.type is not None:
        return [{**{key: item for key, item in body.items() if key not in _ENVELOPE}, "type": request.type}]
    outer = {key: body[key] for key in ("context", "integrations") if isinstance(body.get(key), dict)}
    batch: list[Any] = body["batch"]
    for message in batch:
        if isinstance(message, dict):
            for key, around in outer.items():
                inner = message.get(key, {})
                if isinstance(inner, dict):
                    message[key] = {**around, **inner}
            for key in _ENVELOPE:
                if key in message:
                    del message[key]
    return batch


def shallow(made: dict[str, Any]) -> dict[str, Any]:
    """A call in the shape of `calls.SCHEMA` that is not nested too deeply. Raises RowRejected."""
    for text in (made["body"], made["traits"] or ""):
        if text.count("{") + text.count("[") > DEPTH and canonical.depth(text) > DEPTH:
            raise RowRejected("invalid_field", f"the call is nested more than {DEPTH} levels deep")
    return made


def refused(request: Request, place: int, mapping: str, message: Any, arrival: Arrival, error: Exception) -> Refused:
    """A rejected call as it is kept."""
    if not isinstance(error, RowRejected):
        said = "the call holds a value that cannot be kept"
        if isinstance(error, RecursionError):
            said = f"the call is nested more than {DEPTH} levels deep"
        elif isinstance(error, ValueRefused):
            said += f": {error}"
        elif not isinstance(error, canonical.InvalidValue):
            logger().error("call_failed", source=request.source, error=type(error).__name__)
        error = RowRejected("invalid_field", said)
    kind = message.get("type") if isinstance(message, dict) else None
    name = arrival.message_id[: calls.MAX_MESSAGE_ID]
    return Refused(
        *(request.seq, place, mapping, request.source, request.received_at),
        *(_printable(kind) if isinstance(kind, str) else None, _printable(name)),
        *(error.code, json.dumps(error.fields), _printable(str(error)), _kept(message)),
    )


def _printable(text: str) -> str:
    """A text without halves of surrogate pairs, which no file holds."""
    return text.encode(errors="replace").decode()


def _kept(message: Any) -> str:
    """The JSON of a rejected call; where that cannot be read again as it is, the JSON of a text that shows it."""
    try:
        text = msgspec.json.encode(message, enc_hook=float).decode()
        if canonical.depth(text) <= DEPTH and canonical.read(text) == message:
            return text
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        pass
    return json.dumps(json.dumps(message))


def _unwanted(request: Request, place: int, message: Any, arrival: Arrival, sources: set[str]) -> Refused:
    """A call that nobody takes any more."""
    if request.source in sources:
        error = RowRejected("mapping_removed", f"the mapping {request.only} no longer takes calls of {request.source}")
    else:
        error = RowRejected("source_removed", "the profile source was removed before the call was applied")
    return refused(request, place, request.only or "", message, arrival, error)


def _of_a_value(error: Exception) -> bool:
    """Whether a call is to blame, and not the database or the machine."""
    return isinstance(error, ValueRefused) or not isinstance(error, OnefoldError | OSError | MemoryError)


# --- the process --------------------------------------------------------------------------------------


def run(resolver: Resolver, woken: Event, ended: Event) -> None:
    """Apply calls as they come until it is `ended`; `woken` says that there are some."""
    while not ended.is_set():
        try:
            if resolver.step():
                continue
        except OnefoldError as error:
            logger().error("resolver_failed", code=error.code)
            ended.wait(PAUSE)
        woken.wait(IDLE)
        woken.clear()


def main(folder: str) -> None:
    """The process that `serve` starts: a byte on standard input wakes it, the end of standard input ends it."""
    from filelock import FileLock, Timeout

    from onefold import telemetry

    telemetry.configure()
    sys.setrecursionlimit(READ_DEPTH)
    garbage.seldom()
    sys.setswitchinterval(0.0005)  # seconds: who applies is not to wait for who prepares
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the server says when to end
    woken, ended = Event(), Event()

    def listen() -> None:
        while os.read(sys.stdin.fileno(), 65_536):
            woken.set()
        ended.set()
        woken.set()

    Thread(target=listen, daemon=True).start()
    found = workspace.open(folder)
    lock = FileLock(found.home / "resolver.lock")
    while not ended.is_set():
        try:
            with lock.acquire(timeout=IDLE):
                resolver = Resolver(found)
                run(resolver, woken, ended)
                resolver.close()
        except Timeout:
            continue  # another server's resolver is at work; it applies our calls too
    found.close()


if __name__ == "__main__":
    main(sys.argv[1])
