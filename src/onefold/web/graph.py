"""The identity graph of a profile: which segment_ids became one, by which call and which identifiers."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from onefold.web import kit, words
from onefold.web.history import one, origin
from onefold.web.kit import column, el, link, text


def graph(view: dict[str, Any], events: dict[str, int]) -> None:
    """Newest first: each merge, under it how the profile that became part of this one began; at last the oldest.

    `events`: how many each segment_id has.
    """
    canonical, merges = view["segment_id"], view["why"]["merges"]
    born: dict[str, list[dict[str, Any]]] = {}
    for item in view["why"]["identifiers"]:
        born.setdefault(item["filed_under"], []).append(item)
    ids = list(dict.fromkeys([canonical, *born, *(one for item in merges for one in item["joined"])]))
    beside = f"{words.many(len(ids), 'segment id')}, {words.many(len(merges), 'merge')}"
    with kit.panel("Identity graph", beside):
        with el("ol", "of-graph"):
            for item in reversed(merges):
                _merge(item, canonical)
                _created(item["merged"], born.get(item["merged"], []), canonical=False)
            _created(canonical, born.get(canonical, []), canonical=True)
        el("div", "of-panel-foot of-note", "Filed under").style("padding-bottom: 0; border-bottom: 0")
        rows = [
            {
                "id": one,
                "segment": {
                    "t": words.brief(one),
                    "mono": True,
                    "title": one,
                    "tone": "acc" if one == canonical else "",
                },
                "ids": len(born.get(one, [])),
                "events": events.get(one, 0),
            }
            for one in ids
        ]
        columns = [
            column("segment", "Segment id"),
            column("ids", "Identifiers", num=True),
            column("events", "Events", num=True),
        ]
        kit.Table(columns, rows, "Filed under", dense="30")


def _merge(item: dict[str, Any], canonical: str) -> None:
    """A merge: which segment_id joined, and the identifiers of both that one call carried."""
    other, into = item["merged"], item["into"]
    said, href = origin(item)
    with el("li"):
        ui.html(_MERGED, sanitize=False).classes("of-bare")
        with kit.row():
            text("Merged")
            kit.copy(words.brief(other), other)
            if into != canonical:
                text("into")
                kit.copy(words.brief(into), into)
        el("span", "of-note", words.ago(item["timestamp"]), title=words.exact(item["timestamp"]))
        with el("small"):
            text("by ")
            kit.press(item["call"], lambda: one("The call that merged them", item), f"Show the {item['call']} call")
            text(", ")
            link(said, href) if href else text(said)
        if item["identifiers"]:
            with el("small"):
                text("carried ")
                for at, carried in enumerate(item["identifiers"]):
                    if at:
                        text(" and ")
                    text(f"{carried['type']} ")
                    kit.mono(words.flat(carried["id"], 60))


def _created(segment: str, items: list[dict[str, Any]], *, canonical: bool) -> None:
    first = min(items, key=lambda item: item["timestamp"]) if items else None
    with el("li"):
        ui.html(_FIRST if canonical else _BORN, sanitize=False).classes("of-bare")
        with kit.row():
            text("Created")
            kit.copy(words.brief(segment), segment, "of-code of-code-acc" if canonical else "of-code")
        at = first["timestamp"] if first else None
        el("span", "of-note", words.ago(at) if at else "", title=words.exact(at))
        with el("small"):
            if first:
                said, href = origin(first)
                text(f"by {first['call']}, ")
                link(said, href) if href else text(said)
            else:
                text("without an identifier that was kept")


_LINE = 'stroke="var(--acc)" stroke-width="2" fill="none"'
_SIDE = 'stroke="var(--off-dot)" stroke-width="2" fill="none"'
_RING = f'<circle cx="12" cy="16" r="5" {_LINE}/><circle cx="12" cy="16" r="2" fill="var(--acc)"/>'
_MERGED = (
    f'<svg aria-hidden="true"><line x1="12" y1="21" x2="12" y2="100%" {_LINE}/>{_RING}'
    f'<path d="M12 22C12 32 30 26 30 40" {_SIDE}/><line x1="30" y1="40" x2="30" y2="100%" {_SIDE}/></svg>'
)
_BORN = (
    f'<svg aria-hidden="true"><line x1="12" y1="0" x2="12" y2="110%" {_LINE}/>'
    f'<line x1="30" y1="0" x2="30" y2="16" {_SIDE}/>'
    '<circle cx="30" cy="16" r="4" fill="var(--off-dot)"/></svg>'
)
_FIRST = (
    f'<svg aria-hidden="true"><line x1="12" y1="0" x2="12" y2="16" {_LINE}/>'
    '<circle cx="12" cy="16" r="5" fill="var(--acc)"/></svg>'
)
