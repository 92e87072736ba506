"""The jump box, on Ctrl K: profiles by any identifier, mappings, models, runs, screens."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.element import Element

from onefold.web import kit, shell, words
from onefold.web.kit import el, icon, text
from onefold.web.shell import ask, path
from onefold.workspace import Workspace

SHORT = 2  # characters from which profiles are searched
SHOWN = 9
QUICK = 0.05  # seconds that a key may look for a part of an identifier; a whole one is found anyway
KEYS = {
    "/": "G then O",
    "/sources": "G then S",
    "/models": "G then M",
    "/destinations": "G then D",
    "/runs": "G then R",
    "/profiles": "G then P",
    "/debugger": "G then B",
}
Hit = tuple[str, str, str, str]  # icon, name, what it is, address


def open_box() -> None:
    """Show the box."""
    with ui.dialog(value=True).props("position=top") as box:
        box.on("hide", box.delete)
        with el("div", "of-dialog of-jumpbox", role="search"):
            with el("div", "of-jump-in"):
                icon("search")
                typed = kit.Input(
                    "", lambda text_: find(text_), label="Search or jump to", hint="Search or jump to…", pause=150
                )
                typed.props["autofocus"] = True
                el("kbd", "", "Esc")
            hits = el("ul")

    async def find(said: str) -> None:
        found = _screens(said)
        if len(said.strip()) >= SHORT:
            further = (
                "profiles",
                f"Search profiles for “{said.strip()}”",
                "",
                f"/profiles?q={quote(said.strip(), safe='')}",
            )
            found = [*(await ask(lambda workspace: _things(workspace, said.strip())))[: SHOWN - 1], further, *found]
        hits.clear()
        with hits:
            for at, hit in enumerate(found[:SHOWN]):
                kit.on(draw(hit, first=at == 0), "click", box.close)
            if not found:
                with el("li", "of-row"):
                    text("Nothing is called so, and no profile has such an identifier.", "of-note")

    def enter() -> None:
        ui.run_javascript("document.querySelector('.of-jumpbox a.of-first')?.click()")

    kit.on(typed, "enter", enter)
    ui.timer(0.01, lambda: find(""), once=True)
    focus = "document.querySelector('.of-jumpbox:not(:focus-within) input')?.focus()"
    ui.timer(0.15, lambda: ui.run_javascript(focus), once=True)


def draw(hit: Hit, *, first: bool) -> Element:
    """A line of what was found."""
    name, title, what, href = hit
    with el("li"), el("a", "of-first" if first else "", href=href) as made:
        icon(name)
        el("span", "of-name of-cut", title)
        el("span", "of-sub of-cut", what)
        if first:
            el("kbd", "", "Enter")
    return made


def _screens(said: str) -> list[Hit]:
    items = [item for _, group in shell.NAVIGATION for item in group] + list(shell.BELOW)
    return [
        ("arrow", f"Go to {word}", KEYS.get(href, ""), href)
        for word, href, _ in items
        if said.strip().lower() in word.lower()
    ]


def _things(workspace: Workspace, said: str) -> list[Hit]:
    """What is called so, and whom it identifies."""
    low = said.lower()
    now = workspace.configuration()
    found: list[Hit] = []
    for space in now.spaces:
        for profile in workspace.search(space.slug, said, 5, QUICK).profiles:
            found.append(
                (
                    "user",
                    name_of(profile),
                    f"{words.brief(profile['segment_id'])} in {space.name}",
                    path("spaces", space.slug, "profiles", profile["segment_id"]),
                )
            )
    things: list[tuple[Any, Hit]] = [
        *((source, ("database", source.name, "source", path("sources", source.slug))) for source in now.sources),
        *((model, ("model", model.name, "model", path("models", model.slug))) for model in now.models),
    ]
    for destination in now.destinations:
        things.append(
            (destination, ("destination", destination.name, "destination", path("destinations", destination.slug)))
        )
        for mapping in destination.mappings:
            things.append(
                (
                    mapping,
                    (
                        "arrow",
                        mapping.name,
                        f"mapping of {destination.name}",
                        path("destinations", destination.slug, "mappings", mapping.slug),
                    ),
                )
            )
    found += [hit for thing, hit in things if low in thing.name.lower() or low in thing.slug]
    found += [
        ("run", run["run_id"], f"run of {run['mapping']}", path("runs", run["run_id"]))
        for run in workspace.runs(200)
        if low in run["run_id"]
    ]
    return found


def name_of(profile: dict[str, Any]) -> str:
    """What a profile is called: its name, else its address or first identifier."""
    traits = profile["traits"]
    parts = [traits.get(key) for key in ("first_name", "last_name")]
    named = traits.get("name") or " ".join(str(part) for part in parts if part) or traits.get("email")
    ids = {item["type"]: item["id"] for item in reversed(profile["external_ids"])}
    found = named or ids.get("email") or ids.get("user_id") or next(iter(ids.values()), None)
    return words.flat(found, 80) if found else words.brief(profile["segment_id"])
