"""Commands in processes of their own: the server stays quick, and their memory goes back when they end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread

# How far the server's children stand behind it where processors are short, on the scale of `nice`: the resolver, and
# commands, which nobody waits for within a second.
RESOLVER, COMMAND = 5, 10

_under_way: set[subprocess.Popen[bytes]] = set()


def start(words: Sequence[str], ended: Callable[[], None]) -> int:
    """Start `onefold WORDS`; `ended` is called in a thread of ours once it is over. Returns its pid."""
    process = subprocess.Popen(  # noqa: S603 - this same program, and every word is an argument of its own
        [sys.executable, "-m", "onefold", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    stand_behind(process.pid, COMMAND)

    def wait() -> None:
        process.wait()
        _under_way.discard(process)
        ended()

    _under_way.add(process)
    Thread(target=wait, name=f"child-{process.pid}", daemon=True).start()
    return process.pid


def stand_behind(pid: int, steps: int) -> None:
    """Let a child, and what it will start, wait for processors where the server needs them to answer."""
    with suppress(OSError):  # it is over already, or this system does not allow it: then all are alike
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + steps)


def stop(patience: float) -> None:
    """Ask all of them to end, and wait so many seconds; whatever a run had not committed, the next one does."""
    for process in (waited := list(_under_way)):
        process.terminate()
    for process in waited:
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
