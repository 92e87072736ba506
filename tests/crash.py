"""Run a sync that is killed for good just before its n-th statement: `crash.py FOLDER N`. Used by test_crash."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import onefold
from onefold import sync
from onefold.stores import Store


def counted(original: Callable[..., Any], limit: int, count: list[int]) -> Callable[..., Any]:
    def said(*given: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*given, **named)

    return said


def main(folder: str, limit: int) -> None:
    sync.CHUNK_ROWS = 40
    workspace = onefold.open(folder)
    count = [0]
    for name in ("execute", "append", "stage"):
        setattr(Store, name, counted(getattr(Store, name), limit, count))
    for outcome in workspace.sync():
        assert outcome.status == "succeeded", outcome.error
    print(count[0])  # noqa: T201 - the test reads how many statements there were


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
