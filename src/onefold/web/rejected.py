"""Rejected rows: what is refused as things are, by mapping and reason, to be looked at and sent again."""

from __future__ import annotations

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold.rejected import KEYLESS
from onefold.roles import EDITOR
from onefold.web import destinations, kit, refused, words
from onefold.web.kit import column, el, text
from onefold.web.shell import ask, crumbs, given, may, path
from onefold.web.standing import Group, groups

LIVE = 2.0
COLUMNS = [
    column("mapping", "Mapping", name=True),
    column("code", "Code"),
    column("why", "Why"),
    column("rows", "Rows", num=True),
    column("when", "When", faint=True),
    column("act", "Review", tight=True, hidden=True),
]


async def rejected(args: PageArguments) -> None:
    """All open rejected rows."""
    crumbs(("Rejected", args.path))
    found = await ask(groups)
    with kit.page():
        total = sum(group["rows"] for group in found)
        said = f"{words.many(total, 'row')} refused. Nothing is lost: a rejected row is tried again when it changes."
        kit.simple_head("Rejected", said if found else "Rows that were refused, each with its reason.")
        _Groups(found, "")


async def within(args: PageArguments) -> None:
    """Those of a destination."""
    slug = given(args, "destination")
    now, destination, standing = await ask(destinations.reader(slug))
    found = await ask(groups)
    with kit.page():
        destinations.head(now, destination, standing, "rejected")
        _Groups(found, f"{slug}/")


class _Groups:
    """The table of reasons; those that are selected can be sent again."""

    def __init__(self, found: list[Group], within: str) -> None:
        self._within = within
        self._found = self._mine(found)
        with el("section", "of-panel"):
            with el("header"):
                el("h2", "of-h2", "By mapping and reason")
                el("div", "of-grow")
                self._actions = kit.row()
            self._table = kit.Table(COLUMNS, [], "Rejected rows by reason", selectable=may(EDITOR))
            with (
                el("div") as self._none,
                kit.empty("No rejected rows", "Rows that a mapping refuses are kept here with a code and a sentence."),
            ):
                kit.button("Open runs", href="/runs")
        self._table.on_select(lambda _: self._bar())
        self._show()
        ui.timer(LIVE, self._look)

    def _mine(self, found: list[Group]) -> dict[str, Group]:
        return {
            f"{group['run_id']} {group['code']}": group for group in found if group["mapping"].startswith(self._within)
        }

    async def _look(self) -> None:
        found = self._mine(await ask(groups))
        if found != self._found:
            self._found = found
            self._table.select([key for key in self._table.selected if key in found])
            self._show()

    def _show(self) -> None:
        self._table.show([_row(key, group) for key, group in self._found.items()])
        self._table.set_visibility(bool(self._found))
        self._none.set_visibility(not self._found)
        self._bar()

    def _bar(self) -> None:
        chosen = [self._found[key] for key in self._table.selected]

        async def send() -> None:
            for group in chosen:
                await refused.resend(group["run_id"], group["code"])
            self._table.select([])
            self._bar()

        self._actions.clear()
        with self._actions:
            if chosen:
                rows = sum(group["rows"] for group in chosen)
                text(f"{words.many(len(chosen), 'reason')} selected", "of-note")
                kit.button(f"Resend {words.many(rows, 'row')}", send, "", "resend", small=True)


def _row(key: str, group: Group) -> kit.Cell:
    destination, _, mapping = group["mapping"].partition("/")
    href = path("runs", group["run_id"]) + f"?code={group['code']}"
    return {
        "id": key,
        "label": f"{mapping}, {group['code']}",
        "go": href,
        "off": group["code"] in KEYLESS,
        "mapping": {"t": mapping, "s": destination},
        "code": {"t": group["code"], "code": True},
        "why": group["why"],
        "rows": words.number(group["rows"]),
        "when": {"t": words.ago(group["at"]), "title": words.exact(group["at"])},
        "act": {"act": "Review", "href": href},
    }
