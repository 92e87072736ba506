"""Profiles: search, and the address of each."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.errors import NotFound
from onefold.profiles import Search
from onefold.web import kit, words
from onefold.web.jump import name_of
from onefold.web.kit import column, el
from onefold.web.shell import ask, asked, crumbs, given, path
from onefold.workspace import Workspace, pick

PAGE = 50
LONG = 30.0  # seconds that are spent on looking for a part of an identifier when that is asked for
Profile = dict[str, Any]


async def profiles(args: PageArguments) -> None:
    """Profiles of one space: those that a text finds, or the oldest ones."""
    wanted, said, accounts = asked(args, "space"), asked(args, "q"), asked(args, "of") == "accounts"
    parts = asked(args, "parts") == "1"

    def read(workspace: Workspace) -> tuple[tuple[config.Space, ...], str, Search]:
        spaces = workspace.configuration().spaces
        if not spaces:
            return spaces, "", Search([], 0, 0)
        space = pick(spaces, wanted, "space").slug if wanted else spaces[0].slug
        if said:
            found = workspace.search(space, said, PAGE, LONG if parts else None, parts=parts)
            mine = [one for one in found.profiles if ("users" in one) == accounts]
            return spaces, space, found._replace(profiles=mine)
        return spaces, space, Search(list(workspace.profiles(space, accounts=accounts, limit=PAGE)), 0, 0)

    spaces, space, found = await ask(read)
    crumbs(("Profiles", "/profiles"))

    def href(**changed: str) -> str:
        query = {"space": space, "q": said, "of": "accounts" if accounts else "", "parts": "", **changed}
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
            _listing(found.profiles, space, said, href(q=""), accounts=accounts)
            if said:
                _looked(found, href(parts="1"), parts=parts)


def _looked(found: Search, more: str, *, parts: bool) -> None:
    """How far was looked for a part of an identifier, and the way on."""
    if len(found.profiles) == PAGE or (found.looked and found.looked >= found.calls):
        return
    with el("div", "of-panel-foot of-row"):
        if not found.looked:
            kit.note("Whole identifiers are shown.")
        else:
            kit.note(f"{found.looked:,} of {found.calls:,} calls were looked through for a part of it.")
        if not parts:
            kit.button("Look for parts, too" if not found.looked else "Look longer", None, "", small=True, href=more)


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
