"""Commands in processes of their own: the server stays quick, and their memory goes back when they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from threading import Thread


def start(words: Sequence[str], ended: Callable[[], None]) -> int:
    """Start `onefold WORDS`; `ended` is called in a thread of ours once it is over. Returns its pid."""
    process = subprocess.Popen(  # noqa: S603 - this same program, and every word is an argument of its own
        [sys.executable, "-m", "onefold", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )

    def wait() -> None:
        process.wait()
        ended()

    Thread(target=wait, name=f"child-{process.pid}", daemon=True).start()
    return process.pid
