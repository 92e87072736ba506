"""One profile, with the reason for everything in it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from nicegui.page_arguments import PageArguments

from onefold.rules import Rules
from onefold.web import kit, words
from onefold.web.graph import graph
from onefold.web.history import PAGE, Calls, facts, origin
from onefold.web.jump import name_of
from onefold.web.kit import column, el, link, text
from onefold.web.profiles import address
from onefold.web.shell import ask, crumbs, given, path
from onefold.workspace import Workspace, pick

TRAITS = 12  # shown before "more"
Profile = dict[str, Any]


async def profile(args: PageArguments) -> None:
    """One profile, person or account."""
    space, segment_id = given(args, "space"), given(args, "profile")

    def read(workspace: Workspace) -> tuple[str, Profile, Rules, dict[str, Any]]:
        named = pick(workspace.configuration().spaces, space, "space").name
        accounts = segment_id.startswith("grp_")
        view = workspace.explain(space, f"segment_id:{segment_id}", accounts=accounts)
        return named, view, workspace.rules(space), workspace.history(space, segment_id, PAGE)

    named, view, rules, calls = await ask(read)
    name = name_of(view)
    crumbs((named, path("spaces", space)), ("Profiles", f"/profiles?space={space}"), (name, args.path))
    _head(space, view, name, sum(calls["events"].values()))
    with kit.page(), el("div", "of-split of-split-3"):
        with el("div", "of-stack"):
            _identifiers(view, rules)
            _subscriptions(view)
            _links(view, space)
        with el("div", "of-stack"):
            _traits(view)
            Calls(space, segment_id, calls)
        with el("div", "of-stack"):
            graph(view, calls["events"])


def _head(space: str, view: Profile, name: str, events: int) -> None:
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
                text(f"· {words.many(events, 'event')}")
        with el("div", "of-actions"):
            shown = {key: value for key, value in view.items() if key != "why"}
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
            column("type", "Type", width="116px"),
            column("value", "Value"),
            column("of", "Use", num=True, width="62px"),
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


def _traits(view: Profile) -> None:
    why = {item["name"]: item for item in view["why"]["traits"]}
    names = sorted(view["traits"], key=lambda name: why[name]["timestamp"] if name in why else "", reverse=True)
    with kit.panel("Traits", str(len(names))) as (right, _):
        if not names:
            el("p", "of-panel-body of-note", "No call has set a trait.")
            return
        columns = [
            column("name", "Trait", name=True, width="26%"),
            column("value", "Value", mono=True),
            column("by", "Set by", width="30%"),
            column("when", "When", num=True, faint=True, width="98px"),
        ]
        rows = []
        for name in names:
            item = why.get(name)
            said, href = origin(item) if item else ("", None)
            rows.append(
                {
                    "id": name,
                    "go": True,
                    "name": name,
                    "value": words.flat(view["traits"][name], 120),
                    "by": {
                        "t": said,
                        "s": item["run_id"][-4:] if href and item else "live",
                        "href": href,
                        "smono": True,
                    },
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
            facts(item)
