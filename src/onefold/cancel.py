"""Cancelling a run: it stops between two chunks, in a query, or while it waits; what is committed stays."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition, Event, Thread

from onefold.errors import Cancelled

AGAIN = 0.1  # seconds; an interruption just before a query begins is lost, so it is repeated


class Cancel:
    """Whether a run is to stop. May be asked from any thread; the run looks at it where it can stop."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._why: Cancelled | None = None
        self.ending = False  # the process is to end, not only the run

    def ask(self, by: str) -> None:
        """Ask the run to stop, in somebody's name."""
        self._ask(Cancelled(f"cancelled by {by}; {Cancelled.STAYS}"))

    def end(self) -> None:
        """Ask the run to stop because its process is to end."""
        self.ending = True
        self._ask(Cancelled(f"the process was told to end; {Cancelled.STAYS}", code="stopped"))

    def _ask(self, why: Cancelled) -> None:
        with self._changed:
            self._why = self._why or why
            self._changed.notify_all()

    def again(self) -> None:
        """Forget what was asked: another run begins."""
        self._why = None

    def check(self) -> None:
        """Raises Cancelled if the run is to stop."""
        if self._why is not None:
            raise self._why

    def wait(self, seconds: float) -> None:
        """Wait. Raises Cancelled as soon as the run is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._why, seconds)
        self.check()

    @contextmanager
    def breaking(self, *interrupts: Callable[[], None]) -> Iterator[None]:
        """Long work that `interrupts` break off, from another thread; its failing is then Cancelled."""
        over = Event()

        def watch() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._why or over.is_set())
            while not over.wait(AGAIN):
                for interrupt in interrupts:
                    interrupt()

        watching = Thread(target=watch, name="cancel", daemon=True)
        watching.start()
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            over.set()
            with self._changed:
                self._changed.notify_all()
            watching.join()
        self.check()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask the run to stop, whatever it is at; a second one ends the process at once.

        A handler in Python would wait until a query returns; the number of the signal is written at once.
        """
        here, there = socket.socketpair()
        there.settimeout(0)

        def listen() -> None:
            while number := here.recv(1):
                if self.ending:
                    os._exit(128 + number[0])
                self.end()

        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.set_wakeup_fd(there.fileno())
        listening = Thread(target=listen, name="signals", daemon=True)
        listening.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            with suppress(OSError):
                there.shutdown(socket.SHUT_RDWR)
            listening.join()
            there.close()
            here.close()
