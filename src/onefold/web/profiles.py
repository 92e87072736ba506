"""Profiles: search, and one profile with the reason for everything in it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.errors import NotFound
from onefold.rules import Rules
from onefold.web import kit, words
from onefold.web.jump import name_of
from onefold.web.kit import column, el, link, text
from onefold.web.shell import ask, asked, crumbs, given, path
from onefold.workspace import Workspace, pick

PAGE = 50
TRAITS = 12  # shown before "more"
Profile = dict[str, Any]


async def profiles(args: PageArguments) -> None:
    """Profiles of one space: those that a text finds, or the oldest ones."""
    wanted, said, accounts = asked(args, "space"), asked(args, "q"), asked(args, "of") == "accounts"

    def read(workspace: Workspace) -> tuple[tuple[config.Space, ...], str, list[Profile]]:
        spaces = workspace.configuration().spaces
        if not spaces:
            return spaces, "", []
        space = pick(spaces, wanted, "space").slug if wanted else spaces[0].slug
        found = (
            [one for one in workspace.search(space, said, PAGE) if ("users" in one) == accounts]
            if said
            else list(workspace.profiles(space, accounts=accounts, limit=PAGE))
        )
        return spaces, space, found

    spaces, space, found = await ask(read)
    crumbs(("Profiles", "/profiles"))

    def href(**changed: str) -> str:
        query = {"space": space, "q": said, "of": "accounts" if accounts else "", **changed}
        written = "&".join(f"{key}={_quoted(value)}" for key, value in query.items() if value)
        return f"/profiles?{written}" if written else "/profiles"

    with kit.page():
        actions = kit.simple_head("Profiles", "One profile is one person or account, with all its identifiers.")
        if len(spaces) > 1:
            with actions:
                options = [(one.slug, one.name) for one in spaces]
                kit.Input(space, lambda value: ui.navigate.to(href(space=value)), options=options, label="Space")
        if not spaces:
            with (
                el("section", "of-panel"),
                kit.empty(
                    "No Profile Space yet",
                    "A space keeps profiles and the rules by which identifiers belong to one person.",
                ),
            ):
                kit.button("Create a space", None, "primary", "plus", href="/spaces/new")
            return
        with kit.row():
            kit.search(
                "Any identifier: an email, a user id, a phone number …",
                said,
                lambda value: ui.navigate.to(href(q=value.strip())),
                "420px",
            )
            kit.segment_links(
                [(href(of=""), "People"), (href(of="accounts"), "Accounts")],
                href(of="accounts" if accounts else ""),
                "People or accounts",
            )
        with el("section", "of-panel"):
            _listing(found, space, said, href(q=""), accounts=accounts)


def _quoted(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")


def _listing(found: list[Profile], space: str, said: str, cleared: str, *, accounts: bool) -> None:
    if not found and said:
        with kit.empty(f"No profile has an identifier with “{said}” in it", "Search looks at identifiers, not traits."):
            kit.button("Clear filter", href=cleared)
        return
    if not found:
        who = "accounts" if accounts else "people"
        with kit.empty(f"No {who} yet", "Profiles appear when a mapping is synced or a live call arrives."):
            kit.button("Open destinations", href="/destinations")
        return
    columns = [
        column("name", "Name", name=True),
        column("id", "Canonical id", mono=True),
        column("ids", "Identifiers"),
        column("traits", "Traits", num=True),
        column("links", "People" if accounts else "Accounts", num=True),
        column("seen", "Last call"),
    ]
    kit.Table(columns, [_row(one, space) for one in found], "Profiles")
    if len(found) == PAGE:
        shown = "found" if said else "oldest"
        el("div", "of-panel-foot of-note", f"The first {PAGE} {shown} are shown; search by any identifier for others.")


def address(space: str, segment_id: str) -> str:
    return path("spaces", space, "profiles", segment_id)


def _row(one: Profile, space: str) -> kit.Cell:
    href = address(space, one["segment_id"])
    return {
        "id": {"t": words.brief(one["segment_id"]), "code": True, "title": one["segment_id"]},
        "go": href,
        "name": {"t": name_of(one), "href": href},
        "ids": words.flat(", ".join(f"{item['id']}" for item in one["external_ids"][:3]), 70),
        "traits": len(one["traits"]),
        "links": len(one.get("accounts") or one.get("users") or []),
        "seen": {"t": words.ago(one["updated_at"]), "title": words.exact(one["updated_at"])},
    }


# --- one profile --------------------------------------------------------------------------------------


async def profile(args: PageArguments) -> None:
    """One profile, person or account."""
    space, segment_id = given(args, "space"), given(args, "profile")

    def read(workspace: Workspace) -> tuple[str, Profile, Rules]:
        named = pick(workspace.configuration().spaces, space, "space").name
        accounts = segment_id.startswith("grp_")
        view = workspace.explain(space, f"segment_id:{segment_id}", accounts=accounts)
        return named, view, workspace.rules(space)

    named, view, rules = await ask(read)
    name = name_of(view)
    crumbs((named, path("spaces", space)), ("Profiles", f"/profiles?space={space}"), (name, args.path))
    _head(space, view, name)
    with kit.page(), el("div", "of-split of-split-3"):
        with el("div", "of-stack"):
            _identifiers(view, rules)
            _subscriptions(view)
            _links(view, space)
        with el("div", "of-stack"):
            _traits(view)
            _events(view)
        with el("div", "of-stack"):
            _graph(view)


def _head(space: str, view: Profile, name: str) -> None:
    with el("div", "of-head of-head-edge"):
        el("div", "of-face", words.initials(name), aria_hidden="true")
        with el("div", "of-head-text"):
            with el("h1"):
                el("span", "of-name", name)
                kit.copy(words.brief(view["segment_id"]), view["segment_id"])
            with el("div", "of-facts"):
                emails = [item["id"] for item in view["external_ids"] if item["type"] == "email"]
                if emails and emails[0] != name:
                    text(f"{emails[0]} ·")
                el("span", "", f"first seen {words.day(view['created_at'])}", title=words.exact(view["created_at"]))
                el("span", "", f"· last call {words.ago(view['updated_at'])}", title=words.exact(view["updated_at"]))
        with el("div", "of-actions"):
            shown = {key: value for key, value in view.items() if key not in ("why", "events")}
            made = kit.button("Copy as JSON", None, "", "braces")
            made.props["data-copy"] = json.dumps(shown, ensure_ascii=False, indent=2)
            first = view["external_ids"][0] if view["external_ids"] else None
            if first:
                collection = "accounts" if "users" in view else "users"
                api = path(
                    "v1",
                    "spaces",
                    space,
                    "collections",
                    collection,
                    "profiles",
                    f"{first['type']}:{first['id']}",
                    "traits",
                )
                made = kit.button("Copy API address", None, "", "copy")
                made.props["data-copy"] = api


def _identifiers(view: Profile, rules: Rules) -> None:
    ids = view["external_ids"]
    count = Counter(item["type"] for item in ids)
    with kit.panel("Identifiers", str(len(ids))):
        if not ids:
            with kit.empty("No identifiers", "Every identifier of its calls is blocked."):
                pass
            return
        rows, seen = [], set()
        for at, item in enumerate(ids):
            most = rules.limit(item["type"]).most
            first = item["type"] not in seen
            seen.add(item["type"])
            full = count[item["type"]] >= most and most > 1
            rows.append(
                {
                    "id": str(at),
                    "type": {"t": item["type"], "faint": True},
                    "value": {"t": item["id"], "mono": True},
                    "of": {
                        "t": f"{count[item['type']]} of {most}",
                        "tone": "warn" if full else "off",
                        "title": "The limit is reached: another one is left out" if full else "",
                    }
                    if first
                    else None,
                }
            )
        columns = [
            column("type", "Type", width="104px"),
            column("value", "Value"),
            column("of", "Use", num=True, width="72px"),
        ]
        kit.Table(columns, rows, "Identifiers, with the use of each limit", dense="30", fixed=True)


def _subscriptions(view: Profile) -> None:
    found = view["subscriptions"]
    if not found and "users" in view:
        return
    with kit.panel("Channel subscriptions"):
        if not found:
            el("p", "of-panel-body of-note", "Nothing was said about e-mail, SMS, WhatsApp or push.")
            return
        with el("ul", "of-list of-list-plain"):
            for item in found:
                word, icon = words.CHANNELS.get(item["type"], (item["type"], "mail"))
                with el("li"):
                    kit.icon(icon)
                    el("span", "of-name", word)
                    el("span", "of-grow of-note of-mono", item["key"], title=item["key"])
                    _status(item["status"])
                for group in item.get("groups", ()):
                    with el("li"):
                        el("span", "of-grow of-text", group["name"]).style("padding-left: 24px")
                        _status(group["status"])


def _status(status: str | None) -> None:
    word, tone = words.SUBSCRIPTIONS.get(status or "", (status or "No statement", "off"))
    kit.pill(word, tone)


def _links(view: Profile, space: str) -> None:
    kind, word = ("users", "People") if "users" in view else ("accounts", "Accounts")
    found = view.get(kind, [])
    with kit.panel(word, str(len(found))):
        if not found:
            said = "Nobody was said to belong to it." if kind == "users" else "Belongs to no account."
            el("p", "of-panel-body of-note", said)
            return
        with el("ul", "of-list"):
            for one in found[:100]:
                with el("li"):
                    kit.icon("user" if kind == "users" else "account")
                    ids = one["external_ids"]
                    shown = one.get("name") or (ids[0]["id"] if ids else words.brief(one["segment_id"]))
                    link(str(shown), address(space, one["segment_id"]), "of-name of-grow")
                    el("span", "of-note of-mono", ids[0]["type"] if ids else "")
        if len(found) > 100:
            el("div", "of-panel-foot of-note", f"The first 100 of {len(found):,} are shown.")


def _why(item: dict[str, Any]) -> tuple[str, str | None]:
    """Who set something: its mapping or source, and the address of the run."""
    mapping = item.get("mapping")
    said = mapping.partition("/")[2] if mapping else item["source"]
    return said, path("runs", item["run_id"]) if item.get("run_id") else None


def _traits(view: Profile) -> None:
    why = {item["name"]: item for item in view["why"]["traits"]}
    names = sorted(view["traits"], key=lambda name: why[name]["timestamp"] if name in why else "", reverse=True)
    with kit.panel("Traits", str(len(names))) as (right, _):
        if not names:
            el("p", "of-panel-body of-note", "No call has set a trait.")
            return
        columns = [
            column("name", "Trait", name=True, width="28%"),
            column("value", "Value", mono=True),
            column("by", "Set by", width="24%"),
            column("when", "When", num=True, faint=True, width="104px"),
        ]
        rows = []
        for name in names:
            item = why.get(name)
            said, href = _why(item) if item else ("", None)
            rows.append(
                {
                    "id": name,
                    "go": True,
                    "name": name,
                    "value": words.flat(view["traits"][name], 120),
                    "by": {"t": said, "href": href},
                    "when": {"t": words.ago(item["timestamp"]), "title": words.exact(item["timestamp"])}
                    if item
                    else None,
                }
            )
        table = kit.Table(columns, rows[:TRAITS], "Traits", dense="30", fixed=True)
        table.on_open(lambda name: _trait(name, view["traits"][name], why.get(name)))
        with right:
            kit.search(
                "Filter traits",
                "",
                lambda said: table.show([row for row in rows if said.lower() in row["name"].lower()]),
                "150px",
            )
        if len(rows) > TRAITS:
            with el("div", "of-panel-foot") as foot:
                more = kit.button(f"{len(rows) - TRAITS} more traits", None, "ghost", small=True)

            def whole() -> None:
                table.show(rows)
                foot.delete()

            kit.on(more, "click", whole)


def _trait(name: str, value: Any, item: dict[str, Any] | None) -> None:
    with kit.dialog(name, wide=True):
        kit.dump(value)
        if item:
            _call_facts(item)


def _call_facts(item: dict[str, Any]) -> None:
    """The call behind something, in words."""
    said, href = _why(item)
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
            el("dt", "", "Set by")
            with el("dd"):
                link(said, href)


def _events(view: Profile) -> None:
    """Events by day, newest first, with a filter by type."""
    found = view.get("events")
    if found is None:
        return
    with kit.panel("Events", str(len(found))) as (right, _):
        if not found:
            el("p", "of-panel-body of-note", "No track, page or screen call is filed here.")
            return
        columns = [
            column("day", "Day", faint=True),
            column("time", "Time", mono=True, faint=True),
            column("type", "Type"),
            column("what", "Event"),
            column("source", "Source", faint=True),
        ]
        table = kit.Table(columns, _event_rows(found), "Events", dense="30")
        kinds = list(dict.fromkeys(event["type"] for event in found))
        if len(kinds) > 1:
            with right:
                options = [("", "All"), *((kind, kind.capitalize()) for kind in kinds)]
                kit.segments(
                    options,
                    "",
                    lambda kind: table.show(_event_rows([one for one in found if kind in ("", one["type"])])),
                    "Type",
                )


def _event_rows(found: list[dict[str, Any]]) -> list[kit.Cell]:
    rows, before = [], ""
    for at, event in enumerate(found):
        day = words.day(event["timestamp"])
        rows.append(
            {
                "id": str(at),
                "day": day if day != before else None,
                "time": words.clock(event["timestamp"]),
                "type": {"t": event["type"], "code": True},
                "what": words.flat(str(event.get("event") or event.get("name") or ""), 60),
                "source": event.get("source") or event.get("source_id") or "",
            }
        )
        before = day
    return rows


def _graph(view: Profile) -> None:
    """Which segment_ids became this profile, by which call: newest first."""
    why = view["why"]
    born: dict[str, list[dict[str, Any]]] = {}
    for item in why["identifiers"]:
        born.setdefault(item["filed_under"], []).append(item)
    merges = why["merges"]
    ids = list(dict.fromkeys([view["segment_id"], *born, *(one for item in merges for one in item["joined"])]))
    beside = f"{words.many(len(ids), 'segment id')}, {words.many(len(merges), 'merge')}"
    with kit.panel("Identity graph", beside):
        with el("ol", "of-graph"):
            for item in reversed(merges):
                _merge(item, view["segment_id"])
                other = _joined(item, view["segment_id"])
                if other in born:
                    _created(other, born[other], canonical=False)
            _created(view["segment_id"], born.get(view["segment_id"], []), canonical=True)
        el("div", "of-panel-foot of-note", "Filed under").style("padding-bottom: 0; border-bottom: 0")
        rows = [
            {
                "id": one,
                "segment": {
                    "t": words.brief(one),
                    "mono": True,
                    "title": one,
                    "tone": "acc" if one == view["segment_id"] else "",
                },
                "ids": words.many(len(born.get(one, [])), "identifier"),
            }
            for one in ids
        ]
        kit.Table(
            [column("segment", "Segment id"), column("ids", "Identifiers", num=True)], rows, "Filed under", dense="30"
        )


def _joined(item: dict[str, Any], canonical: str) -> str:
    """Which of the two became part of the other one."""
    first, second = item["joined"]
    return str(first if second == canonical else second)


def _merge(item: dict[str, Any], canonical: str) -> None:
    other = _joined(item, canonical)
    said, href = _why(item)
    with el("li"):
        ui.html(_MERGED, sanitize=False).classes("of-bare")
        with kit.row():
            text("Merged")
            kit.copy(words.brief(other), other)
        el("span", "of-note", words.day(item["timestamp"]), title=words.exact(item["timestamp"]))
        with el("small"):
            text(f"by {item['call']}, ")
            link(said, href) if href else text(said)
            by = item.get("identifier") or item.get("by")
            text(
                f" · same {by['type']} {by['id']}"
                if isinstance(by, dict)
                else f" · user {item['user_id']}"
                if item.get("user_id")
                else ""
            )


def _created(segment: str, items: list[dict[str, Any]], *, canonical: bool) -> None:
    first = min(items, key=lambda item: item["timestamp"]) if items else None
    with el("li"):
        ui.html(_FIRST if canonical else _BORN, sanitize=False).classes("of-bare")
        with kit.row():
            text("Created")
            kit.copy(words.brief(segment), segment, "of-code of-code-acc" if canonical else "of-code")
        el("span", "of-note", words.day(first["timestamp"]) if first else "")
        with el("small"):
            if first:
                said, href = _why(first)
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


async def found(args: PageArguments) -> None:
    """The profile that owns an identifier: an address that can be written by hand."""
    space, kind = given(args, "space"), given(args, "identifier")

    def read(workspace: Workspace) -> str:
        return str(workspace.profile(space, kind)["segment_id"])

    try:
        ui.navigate.to(address(space, await ask(read)))
    except NotFound as error:
        crumbs(("Profiles", "/profiles"))
        with kit.page():
            kit.failure(error)
