"""The component sheet: every part of the kit in every state, to be looked at in both themes after a change of style."""

from __future__ import annotations

from nicegui.page_arguments import PageArguments

from onefold.errors import OnefoldError
from onefold.roles import ADMIN
from onefold.web import jump, kit, values, words
from onefold.web.kit import column, el, icon, text
from onefold.web.shell import crumbs, here

ICONS = {"customer_id": "number", "store_id": "text"}
HITS = (
    ("user", "Ada Lindqvist", "ada@fjordline.no", "#hits"),
    ("user", "Adam Wold", "use_91ce0a44", "#hits"),
    ("model", "adaptive_scores", "model", "#hits"),
    ("arrow", "Go to Debugger", "G then B", "#hits"),
)


async def components(args: PageArguments) -> None:
    """The sheet, for admins."""
    here().who.need(ADMIN)
    crumbs(("Component sheet", args.path))
    with kit.page():
        kit.simple_head("Component sheet", "Every part of the screens in every state. Nothing here does anything.")
        with el("div", "of-split of-thirds"):
            with el("div", "of-stack"):
                _buttons()
                _fields()
                _states()
                _values()
            with el("div", "of-stack"):
                _empty()
                _errors()
                _loading()
                _table()
            with el("div", "of-stack"):
                _toasts()
                _jump()
                _question()
                _figures()
                _call()


def _nothing() -> None:
    """What a button of the sheet does."""


def _part(title: str) -> None:
    el("h2", "of-label", title)


def _buttons() -> None:
    _part("Buttons: one primary per view")
    with kit.row():
        kit.button("Save mapping", _nothing, "primary")
        kit.button("Preview", _nothing, "", "play")
        kit.button("Discard", _nothing, "ghost")
        kit.button("Stop run", _nothing, "danger")
        kit.button("Delete mapping", _nothing, "destroy")
    with kit.row():
        kit.button("Unmerge", _nothing, small=True)
        kit.button("Add trait", _nothing, "", "plus", small=True)
        kit.button("", _nothing, "ghost", "copy", label="Copy")
        kit.button("A link", None, "", href="#buttons")
        kit.button("Off", _nothing, off=True)
        kit.button("Busy", _nothing).props["aria-busy"] = "true"
        with kit.menu("Menu"):
            kit.menu_item("Duplicate", _nothing, "copy")
            kit.menu_item("Delete", _nothing, "trash", bad=True)
    with kit.row():
        text("In a sentence:", "of-text")
        kit.link("a link", "#buttons")
        kit.press("a button", _nothing)
        kit.copy("use_3f9c41d2", "use_3f9c41d2", "of-code of-code-acc")


def _fields() -> None:
    _part("Fields: label above, error below")
    kit.field("Name", "customers")
    wrong = kit.field("Name", "customers", must=True)
    wrong.wrong("A mapping named “customers” exists. Choose another name.")
    kit.field("Region", "", "Where calls are delivered to.")
    kit.field("Cannot be changed", "local", off=True)
    kit.field("Schedule", "1h", options=[("1h", "Every 1 h"), ("1d", "Every 1 day")])
    kit.field("Query", "select *\nfrom customers", lines=3, mono=True)
    kit.search("Filter mappings", "", lambda _: None, "100%")
    with kit.row():
        kit.Switch(True, lambda _: None, "Enabled")
        text("Enabled")
        kit.Switch(False, lambda _: None, "Paused")
        text("Paused")
        kit.Switch(True, lambda _: None, "Locked", off=True)
        text("Locked")
    with kit.row():
        kit.checkbox("Added", True, lambda _: None)
        kit.checkbox("Deleted", False, lambda _: None)
        kit.segments([("pretty", "Pretty"), ("raw", "Raw")], "pretty", lambda _: None, "View")


def _states() -> None:
    _part("Status: icon, word and colour")
    with kit.row():
        for status in words.STATES:
            kit.state_pill(status)
    with kit.row():
        for word, tone in words.SUBSCRIPTIONS.values():
            kit.pill(word, tone)
    kit.meter(62, 100, "62 % of the rows")
    kit.meter(98, 100, "98 of 100 identifiers", "warn")


def _values() -> None:
    _part("Values in a mapping")
    for value in (
        {"@path": "$.properties.customer_id"},
        {"@template": "NO-{{properties.store_id}}"},
        "warehouse",
        {"@path": "$.timestamp"},
        {"@flatten": {"value": {"@path": "$.properties.address"}}},
        None,
    ):
        with el("div", "of-value"):
            values.draw(value, ICONS)


def _empty() -> None:
    with kit.panel("Mappings", "0 of 50"):
        with kit.empty(
            "No mappings yet", "A mapping says which rows of a model become which calls. 3 models are ready to use."
        ):
            kit.button("Add mapping", _nothing, "primary", "plus")
            kit.button("Start from customers", _nothing)
    with kit.panel("Runs"):
        with kit.empty("No runs match “consents, failed”", "1,418 runs in all."):
            kit.button("Clear filter", _nothing)


def _errors() -> None:
    with kit.panel("Sources"):
        said = "crm cannot be reached: the server at crm.internal:5432 refused the connection; nothing was lost"
        kit.failure(OnefoldError(said, code="connection_refused"), _nothing)
    for tone, title in (("warn", "Saved, but not applied"), ("ok", "The connection works"), ("run", "A sync runs")):
        kit.alert(title, "What it means, and what to do.", tone=tone)


def _loading() -> None:
    with kit.panel("Loading", "only after 300 ms"):
        kit.loading()


def _table() -> None:
    with kit.panel("Table"):
        columns = [
            column("name", "Mapping", name=True),
            column("state", "State"),
            column("ticks", "History"),
            column("rows", "Rows", num=True),
            column("on", "On", tight=True),
        ]
        rows = [
            {
                "id": status,
                "name": {"t": f"mapping {at}", "s": "Send Identify", "href": "#table"},
                "state": kit.state(status),
                "ticks": {"ticks": ["none", "ok", "ok", "warn", "bad", "run"], "label": "6 runs, 1 partly, 1 failed"},
                "rows": words.number(10**at),
                "on": {"on": at % 2 == 0, "label": f"Enable mapping {at}"},
                "tone": "bad" if status == "failed" else "",
            }
            for at, status in enumerate(words.STATES)
        ]
        kit.Table(columns, rows, "A table", selectable=True)


def _toasts() -> None:
    _part("Toasts: what happened, and the way back")
    kit.toast_box("Mapping saved. Next run at 15:00.", "check", "Run now", _nothing)
    kit.toast_box("push_tokens deleted, with 412 runs.", "trash", "Undo, 9 s", _nothing)
    _part("Connection to the server lost")
    with el("div", "of-lost"):
        icon("lost")
        text("Reconnecting. Numbers are from 14:02:59.")


def _jump() -> None:
    _part("Jump to, on Ctrl K")
    with el("div", "of-dialog of-jumpbox of-inline", id="hits"):
        with el("div", "of-jump-in"):
            icon("search")
            kit.Input("ada", label="Search or jump to")
            el("kbd", "", "Esc")
        with el("ul"):
            for at, hit in enumerate(HITS):
                jump.draw(hit, first=at == 0)


def _question() -> None:
    _part("Confirmation: says what will happen, in numbers")
    with el("div", "of-dialog of-inline"):
        el("h2", "", "Delete the mapping push_tokens?")
        said = (
            "412 runs and 37 rejected rows go with it. The 2,051 profiles it updated stay as they are."
            " Rows it has sent are forgotten, so a new mapping would send all 2,051 again."
        )
        kit.question(said, "Delete mapping", _nothing, _nothing)


def _figures() -> None:
    with kit.strip():
        kit.figure("Syncs healthy", "9", "1 failing", unit="of 12")
        kit.figure("Rejected, open", "1,204", "oldest 2 days", tone="bad")


def _call() -> None:
    with kit.panel("Call"):
        kit.dump({"type": "track", "total": 2489.9, "coupon": None, "express": True, "items": ["TRAIL-9"]})
