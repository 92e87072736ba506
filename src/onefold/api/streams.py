"""Server-Sent Events: answers that go on until the client or the server ends them."""

from __future__ import annotations

import asyncio
from threading import Event

# Set when the server is about to end.
ended = Event()


async def pause(seconds: float) -> bool:
    """Wait; whether to go on."""
    await asyncio.sleep(seconds)
    return not ended.is_set()
