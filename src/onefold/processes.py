"""Processes of this host, and what those that were killed left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory


def alive(pid: int) -> bool:
    """Whether a process is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is somebody else's
    return True


@contextmanager
def scratch(temp: Path, kind: str) -> Iterator[Path]:
    """A folder in `temp` that is gone afterwards; so are those of the same kind whose process was killed."""
    temp.mkdir(parents=True, exist_ok=True)
    for left in temp.glob(f"{kind}-*"):
        if not alive(int(left.name.split("-")[1])):
            rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=temp, prefix=f"{kind}-{os.getpid()}-") as folder:
        yield Path(folder)
