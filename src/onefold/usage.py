"""Usage: what came in through the tracking API, by month (UTC) and profile source.

`api_calls` are calls that were accepted; `tracked_users` the user ids seen in a month, and the anonymous ids that were
never seen beside one. What the Segment Profiles destination sends, from a warehouse or from live calls, counts as
neither and stands in `sent`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onefold.inbox import RECEIVED, REFUSED, REPEATED, Inbox

FIGURES = ("api_calls", "tracked_users", "rejected", "duplicates", "sent")


def read(inbox: Inbox, paths: dict[str, str], synced: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """One line a month and source, newest month first. Raises OnefoldError.

    `paths`: DEST/MAPPING -> the profile source it sends through; `synced`: (month, DEST/MAPPING, calls) of syncs.
    """
    found: dict[tuple[str, str], dict[str, int]] = {}

    def add(month: str, source: str, figure: str, calls: int) -> None:
        line = found.setdefault((month, source), dict.fromkeys(FIGURES, 0))
        line[figure] += calls

    for month, source, what, calls in inbox.usage():
        if what == RECEIVED:
            add(month, source, "api_calls", calls)
        elif what in (REPEATED, REFUSED):
            add(month, source, "api_calls", -calls)
            add(month, source, "duplicates" if what == REPEATED else "rejected", calls)
        else:
            add(month, paths.get(what, what), "sent", calls)
    for month, source, persons in inbox.persons():
        add(month, source, "tracked_users", persons)
    for month, path, calls in synced:
        add(month, paths.get(path, path), "sent", calls)
    ordered = sorted(found.items(), key=lambda item: item[0][1])
    ordered.sort(key=lambda item: item[0][0], reverse=True)
    return [{"month": month, "source": source, **line} for (month, source), line in ordered]
