"""Processes of this host, and what those that were killed left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory


def alive(pid: int, born: str | None = None) -> bool:
    """Whether a process is running; with `born`, that very one, as `birth` tells."""
    if born is not None and birth(pid) not in (born, None):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


def birth(pid: int) -> str | None:
    """When a process began, in clock ticks since the machine did: no other has the same pid and birth.

    None where it cannot be told.
    """
    try:
        # The name of the program stands in parentheses, and may hold anything (proc(5), /proc/pid/stat).
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


@contextmanager
def scratch(temp: Path, kind: str) -> Iterator[Path]:
    """A folder in `temp` that is gone afterwards; so are those of the same kind whose process was killed."""
    temp.mkdir(parents=True, exist_ok=True)
    for left in temp.glob(f"{kind}-*"):
        if not alive(int(left.name.split("-")[1])):
            rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=temp, prefix=f"{kind}-{os.getpid()}-") as folder:
        yield Path(folder)
