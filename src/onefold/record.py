"""A run as others see it while it is under way: its stage, rows and rate, written about twice a second.

The run only notes where it is; a thread writes it down, and looks whether somebody asked the run to stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from onefold.cancel import Cancel
from onefold.catalog import HEARTBEAT, Catalog
from onefold.errors import StoreError

if TYPE_CHECKING:
    from onefold.sync import Progress

PAUSE = 0.5  # seconds
POINTS = 240  # of a trail; then every second one is left out
# Where a run was: seconds since it began, stage, rows done, rows in all if known.
Point = tuple[float, str, int, int | None]


class Record:
    """Where one run is. `progress` may be called as often as anybody likes: it costs nothing."""

    def __init__(self, catalog: Catalog, run_id: str, cancel: Cancel, said: Progress = lambda *_: None) -> None:
        """`said` is told of the same progress."""
        self._said = said
        self._catalog = catalog
        self._run_id = run_id
        self._cancel = cancel
        self._at: tuple[str, int, int | None] = ("open", 0, None)
        self._start = self._began = perf_counter()  # the run did, and the stage
        self._over = Event()
        self._trail: list[Point] = []
        self._marking = Lock()  # the run marks, and the thread that writes
        self._step = PAUSE  # seconds between two points of the trail

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """sync.Progress."""
        fresh = stage != self._at[0]
        if fresh:
            self._mark()  # where the stage before ended
            self._began = perf_counter()
        self._at = (stage, done, total)
        if fresh:
            self._mark()
        self._said(stage, done, total)

    def view(self) -> dict[str, Any]:
        """Stage, rows done, rows in all if known, and rows a second since the stage began."""
        stage, rows, total = self._at
        seconds = perf_counter() - self._began
        return {"stage": stage, "rows": rows, "total": total, "rate": round(rows / seconds) if rows else None}

    def trail(self) -> list[Point]:
        """Where the run was: begin and end of each stage, and points between, not many more than POINTS in all."""
        with self._marking:
            return list(self._trail)

    def _mark(self) -> None:
        with self._marking:
            trail = self._trail
            if trail and trail[-1][1:] == self._at:
                return
            trail.append((round(perf_counter() - self._start, 2), *self._at))
            if len(trail) > POINTS:
                self._trail = _thinned(trail)
                self._step *= 2

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write it down as long as the run takes."""
        thread = Thread(target=self._keep, name=f"record-{self._run_id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _keep(self) -> None:
        told, at, marked = None, perf_counter(), 0.0
        while not self._over.wait(PAUSE):
            moved = self._at != told or perf_counter() - at > HEARTBEAT
            if moved and perf_counter() - marked >= self._step:
                marked = perf_counter()
                self._mark()
            try:
                if moved:
                    told, at = self._at, perf_counter()
                    self._catalog.progress(self._run_id, self.view(), time_ns() // 1000, self.trail())
                asked = self._catalog.cancel_asked(self._run_id)
            except StoreError:
                continue  # a catalog that is busy is no reason for a run to end; half a second later it is told again
            if asked is not None:
                self._cancel.ask(asked)


def _thinned(trail: list[Point]) -> list[Point]:
    """A trail without every second point; where stages begin and end it stays."""
    left_out = {at for at in range(1, len(trail) - 1, 2) if trail[at - 1][1] == trail[at][1] == trail[at + 1][1]}
    return [point for at, point in enumerate(trail) if at not in left_out]
