"""The calls of a profile by day, and what is said of one call."""

from __future__ import annotations

from typing import Any

from onefold.web import kit, words
from onefold.web.kit import column, el, link
from onefold.web.shell import ask, path

PAGE = 100
KINDS = ("track", "page", "screen", "identify", "group", "alias")
COLUMNS = [
    column("day", "Day", faint=True, width="106px"),
    column("time", "Time", mono=True, faint=True, width="86px"),
    column("type", "Type", width="96px"),
    column("what", "Event"),
]
Call = dict[str, Any]


def origin(item: Call) -> tuple[str, str | None]:
    """Who sent a call: its mapping or source, and the address of the run."""
    mapping = item.get("mapping")
    said = mapping.partition("/")[2] if mapping else item["source"]
    return said, path("runs", item["run_id"]) if item.get("run_id") else None


def facts(item: Call) -> None:
    """Where a call came from, in words."""
    said, href = origin(item)
    with el("dl", "of-facts-list"):
        for term, value in (
            ("Call", item["call"]),
            ("Time", words.exact(item["timestamp"])),
            ("Source", item["source"]),
            ("Message id", item["message_id"]),
        ):
            el("dt", "", term)
            el("dd", "of-mono", str(value))
        if href:
            el("dt", "", "Sent by")
            with el("dd"):
                link(said, href)


def one(title: str, item: Call) -> None:
    """A call whole, in a dialog."""
    with kit.dialog(title, wide=True):
        facts(item)
        kit.dump(item["message"])


class Calls:
    """The panel of a profile's calls: newest first, more on demand, filtered by type."""

    def __init__(self, space: str, segment_id: str, found: dict[str, Any]) -> None:
        """`found`: the first page of `Workspace.history`."""
        self._space, self._id = space, segment_id
        self._calls: list[Call] = found["calls"]
        self._next, self._kind = found["next"], ""
        events = sum(found["events"].values())
        with kit.panel("Calls", f"{words.many(events, 'event')}") as (right, _):
            if not self._calls:
                el("p", "of-panel-body of-note", "No call is filed here.")
                return
            kinds = [kind for kind in KINDS if any(call["call"] == kind for call in self._calls)]
            if len(kinds) > 1:
                options = [("", "All"), *((kind, kind.capitalize()) for kind in kinds)]
                with right:
                    kit.segments(options, "", self._choose, "Type of call")
            self._table = kit.Table(COLUMNS, [], "Calls, newest first", dense="30", fixed=True)
            self._table.on_open(self._open)
            self._foot = el("div", "of-panel-foot of-row")
        self._show()

    def _choose(self, kind: str) -> None:
        self._kind = kind
        self._show()

    def _show(self) -> None:
        self._table.show(self._rows())
        self._foot.clear()
        with self._foot:
            if self._next:
                kit.button("Older calls", self._more, "ghost", small=True)
                kit.note(f"The newest {len(self._calls):,} are looked at.")
            else:
                kit.note("Identify and group calls are shown where they set something that still holds.")

    def _rows(self) -> list[kit.Cell]:
        rows, before = [], ""
        for at, call in enumerate(self._calls):
            if self._kind not in ("", call["call"]):
                continue
            day, (by, _) = words.near(call["timestamp"]), origin(call)
            rows.append(
                {
                    "id": str(at),
                    "go": True,
                    "day": day if day != before else None,
                    "time": {"t": words.clock(call["timestamp"]), "title": words.exact(call["timestamp"])},
                    "type": {"t": call["call"], "code": True},
                    "what": {"t": said_by(call), "s": by, "title": f"{said_by(call)}, by {by}"},
                }
            )
            before = day
        return rows

    async def _more(self) -> None:
        before = self._next
        found = await ask(lambda workspace: workspace.history(self._space, self._id, PAGE, before))
        self._calls, self._next = [*self._calls, *found["calls"]], found["next"]
        self._show()

    def _open(self, at: str) -> None:
        call = self._calls[int(at)]
        one(said_by(call), call)


def said_by(call: Call) -> str:
    """A call in a few words: its event, page or screen, or how many traits it set."""
    message = call["message"]
    properties = message.get("properties")
    place = properties.get("path") if isinstance(properties, dict) else None
    found = call["event"] or message.get("name") or place
    if found:
        return words.flat(found, 80)
    context = message.get("context")
    channels = context.get("messaging_subscriptions") if isinstance(context, dict) else None
    said = (_many(message.get("traits"), "trait"), _many(channels, "subscription"))
    return ", ".join(filter(None, said)) or "(no name)"


def _many(found: Any, one: str) -> str:
    return words.many(len(found), one) if isinstance(found, dict | list) and found else ""
