"""Help: shortcuts, and where to read on."""

from __future__ import annotations

from nicegui.page_arguments import PageArguments

from onefold.roles import ADMIN
from onefold.web import kit
from onefold.web.kit import el, link, text
from onefold.web.shell import crumbs, may

KEYS = (
    (
        "Anywhere",
        (
            ("Ctrl K", "Search or jump to a profile, mapping, model, run or screen"),
            ("?", "This page"),
            ("/", "Go to the filter of the list"),
            ("E", "Edit the source, or the mapping of the run"),
            ("Esc", "Close what is open"),
        ),
    ),
    (
        "Go to",
        (
            ("G then O", "Overview"),
            ("G then S", "Sources"),
            ("G then M", "Models"),
            ("G then D", "Destinations"),
            ("G then R", "Runs"),
            ("G then P", "Profiles"),
            ("G then B", "Debugger"),
        ),
    ),
    ("In lists", (("J and K", "Down and up"), ("Enter", "Open"))),
    ("In editors", (("Ctrl S", "Save"), ("Ctrl Enter", "Preview"))),
    ("In the debugger", (("Space", "Pause, and go on"),)),
)
WORDS = (
    ("Warehouse source", "Where rows are read. It is never written to."),
    ("Model", "A SQL query with a unique key, which tells its rows apart."),
    ("Destination", "An instance of Segment Profiles, with settings and at most 50 mappings."),
    ("Mapping", "A model, an action, which records, the fields, and when."),
    ("Run", "One sync of one mapping."),
    ("Profile Space", "Identity rules, and the profiles that they made."),
    ("Profile source", "An input of a space, with a write key for live calls."),
    ("Identifier", "A type and a value, such as email:ada@example.com, that belongs to one profile."),
    ("Rejected", "A row or call that was refused, with its reason. It is kept, and can be sent again."),
)


async def help_(args: PageArguments) -> None:
    """Shortcuts and words."""
    crumbs(("Help and shortcuts", args.path))
    with kit.page():
        kit.simple_head("Help and shortcuts")
        with el("div", "of-split of-split-even"):
            with kit.panel("Shortcuts"):
                for title, keys in KEYS:
                    with el("div", "of-panel-body"):
                        el("h3", "of-label", title)
                        with el("dl", "of-facts-list"):
                            for key, said in keys:
                                with el("dt"):
                                    el("kbd", "of-mod", key)
                                el("dd", "", said)
            with kit.panel("Words"), el("dl", "of-facts-list of-panel-body"):
                for word, said in WORDS:
                    el("dt", "", word)
                    el("dd", "", said)
        if may(ADMIN):
            with el("p", "of-note"):
                text("For developers of the app: ")
                link("all parts of its screens, in every state", "/components")
                text(".")
