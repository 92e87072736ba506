"""The resolver: takes live calls out of the inbox, in order, and applies them to the spaces.

`serve` runs it in a process of its own, so that answering is not held up by resolving. Each space remembers, in the
transaction of the effects, how far it has applied the inbox; so a resolver may be killed anywhere, and the next one
goes on from there. Rows are deleted from the inbox once every space is past them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pyarrow as pa

from onefold import garbage, window, workspace
from onefold.apply import apply
from onefold.errors import NotFound, OnefoldError, StoreError, ValueRefused
from onefold.inbox import FILE
from onefold.rules import Rules
from onefold.stores import Store, sqlite
from onefold.telemetry import logger
from onefold.window import Beside, Feed, Prepared, ReaderDied, Why

# Seconds: how soon another configuration is noticed, a space that failed is tried again, and a look is taken without
# having been woken.
FRESH, PAUSE, IDLE = 1.0, 1.0, 0.5
# Where more calls than so many, and no other, cannot be applied, it is not the calls that are wrong.
ALL = 100


@dataclass
class Target:
    """A space that calls of the inbox reach, and how far it is."""

    slug: str
    rules: Rules
    progress: int = 0  # up to here nothing in the inbox is waiting for this space
    failed_at: float | None = None
    applied: int = -1  # as the space says; -1: not asked yet
    ahead: Future[Prepared] | None = None  # what comes next, being prepared


class Resolver:
    """Applies what waits in the inbox of a workspace. Not shared between threads or processes."""

    def __init__(self, workspace: workspace.Workspace, reader: Callable[[Path], Beside] = window.thread) -> None:
        """`reader` starts what reads the inbox. Raises OnefoldError."""
        self._workspace = workspace
        self._beside = reader(workspace.home / FILE)
        self._name = f"inbox {self._beside.inbox_id}"
        self._targets: dict[str, Target] = {}
        self._stores: dict[str, Store] = {}
        self._version, self._read_at = 0, -FRESH
        self._retired = 0

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._beside.close()

    def drain(self) -> None:
        """Apply all that waits. Raises what `step` meets only later."""
        while self.step():
            pass

    def step(self) -> bool:
        """Apply the next calls of each space; whether there were any. Raises OnefoldError, ReaderDied."""
        self._configure()
        busy = False
        for target in self._targets.values():
            if target.failed_at is not None and monotonic() - target.failed_at < PAUSE:
                continue
            try:
                busy |= self._advance(target)
                target.failed_at = None
            except ReaderDied:
                raise
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
        self._beside.ask("let_go", upto).result()
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
            feeds: dict[str, Feed] = window.feeds(self._workspace.again().applied)
            self._beside.ask("configure", feeds).result()
            for store in self._stores.values():
                store.close()
            self._stores.clear()
            self._targets = {slug: Target(slug, feed.rules) for slug, feed in feeds.items()}
            self._version = version

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
        ready = target.ahead or self._beside.prepare(target.slug, target.applied)
        target.ahead = None
        prepared = ready.result()
        if prepared.last == target.applied:
            target.progress = max(target.progress, prepared.upto)
            return False
        # Only now: what was prepared under another configuration is prepared again.
        noted = self._beside.ask("note", target.slug, prepared.last)
        # While these are applied, those behind them are prepared.
        ahead = self._beside.prepare(target.slug, prepared.last)
        try:
            with self._turn(store, target, prepared.last):
                if prepared.calls.num_rows:
                    apply(store, prepared.calls, target.rules)
                noted.result()  # what the space has, the inbox tells of
        except Exception as error:
            if not _of_a_value(error):
                raise
            with self._turn(store, target, prepared.last):
                found = self._sift(store, target, prepared.calls, 0)
                if len(found) == prepared.calls.num_rows > ALL:
                    raise
                noted.result()
                self._beside.ask("refuse", target.slug, prepared.last, found).result()
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

    def _sift(self, store: Store, target: Target, calls: pa.Table, first: int) -> dict[int, Why]:
        """Apply some calls, the first of which is row `first` of its window; those that cannot be applied, by their
        rows, are left out. Raises StoreError."""
        try:
            with store.attempt():
                apply(store, calls, target.rules)
            return {}
        except Exception as error:
            if not _of_a_value(error):
                raise
            if calls.num_rows == 1:
                return {first: window.rejection(error, calls["source"][0].as_py())}
        middle = calls.num_rows // 2
        before = self._sift(store, target, calls.slice(0, middle), first)
        return before | self._sift(store, target, calls.slice(middle), first + middle)


def _of_a_value(error: Exception) -> bool:
    """Whether a call is to blame, and not the database or the machine."""
    ours = OnefoldError | OSError | MemoryError | ReaderDied
    return isinstance(error, ValueRefused) or not isinstance(error, ours)


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
    garbage.seldom()
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
                resolver = Resolver(found, window.process)
                run(resolver, woken, ended)
                resolver.close()
        except Timeout:
            continue  # another server's resolver is at work; it applies our calls too
        except ReaderDied:
            logger().error("reader_died")
            # At once, whatever is open: the server starts us again, and what was not committed is still in the inbox.
            os._exit(1)
    found.close()


if __name__ == "__main__":
    main(sys.argv[1])
