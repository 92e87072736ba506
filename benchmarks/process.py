"""Whole processes, timed from start to finish, with their memory.

The bench itself must stay small: a child's peak starts from its parent's, and cannot be told from it. So whatever
needs a library, even making the warehouse, is a function called in a process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

from onefold import garbage

ONEFOLD = str(Path(sys.executable).parent / "onefold")
MODULE = "benchmarks.process"
_MB = 1 << 20
# What ru_maxrss counts in: bytes on macOS, KiB elsewhere.
_UNIT = 1 if sys.platform == "darwin" else 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Modules are compiled once, as those of an installed package are, whatever the shell of whoever measures forbids.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Ran:
    """A process that has ended well: seconds, peak resident MB with its children's, what it printed."""

    seconds: float
    memory_mb: float
    output: str


def run(*words: str) -> Ran:
    """Run a command; the first word is its path. Raises RuntimeError if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        start = perf_counter()
        stdout = (os.POSIX_SPAWN_DUP2, output.fileno(), 1)
        pid = os.posix_spawn(words[0], words, _ENVIRONMENT, file_actions=[stdout])
        family = _Family(pid)
        family.start()
        _, status, usage = os.wait4(pid, 0)
        seconds = perf_counter() - start
        family.ended.set()
        family.join()
        output.seek(0)
        said = output.read()
    if status != 0:
        raise RuntimeError(f"{' '.join(words)} failed with {os.waitstatus_to_exitcode(status)}: {said}")
    return Ran(seconds, max(usage.ru_maxrss * _UNIT, family.peak) / _MB, said)


def call(function: str, *given: Any) -> tuple[Any, Ran]:
    """Call `module.function` of this package in a new process: what it returned, and how that ran.

    What is given and returned goes as JSON. Raises RuntimeError if the call fails.
    """
    ran = run(sys.executable, "-m", MODULE, function, json.dumps(given))
    return json.loads(ran.output), ran


class _Family(Thread):
    """Watches a process that has children: `peak` is the most that they held together, in bytes.

    Memory that they share counts more than once. A process alone is left to the exact figure of the system; so is
    everything where there is no /proc.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.ended = Event()
        self.peak = 0

    def run(self) -> None:
        while not self.ended.wait(0.05):
            # Processes come and go while they are counted.
            with suppress(OSError):
                pids = _descendants(self.pid)
                if len(pids) > 1:
                    self.peak = max(self.peak, sum(map(_resident, pids)))


def _descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, file.read_text().split())
    return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


if __name__ == "__main__":
    garbage.seldom()  # as in the processes of the product
    module, name = sys.argv[1].split(".")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    print(json.dumps(function(*json.loads(sys.argv[2]))))
