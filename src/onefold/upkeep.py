"""What `serve` does now and then: alerts that no run tells of, messages that could not be sent, housekeeping."""

from __future__ import annotations

from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from onefold import notify, telemetry
from onefold.errors import OnefoldError

if TYPE_CHECKING:
    from onefold.workspace import Workspace

LOOK = 60.0  # seconds
DAY = 86_400.0


class Upkeep:
    """A thread that looks every minute, and keeps the house once a day."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._ended = Event()
        self._kept_at = monotonic() - DAY  # for the first time a minute after the start
        self._thread = Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(notify.TIMEOUT)

    def _run(self) -> None:
        while not self._ended.wait(LOOK):
            try:
                self.look()
            except OnefoldError as error:
                telemetry.logger().error("upkeep_failed", code=error.code)

    def look(self) -> None:
        """One look. Raises OnefoldError."""
        workspace = self._workspace.again()
        notify.look(workspace)
        notify.deliver(workspace)
        if monotonic() - self._kept_at >= DAY:
            self._kept_at = monotonic()
            for line in workspace.sweep():
                if line["deleted"]:
                    telemetry.logger().info("deleted", **line)
