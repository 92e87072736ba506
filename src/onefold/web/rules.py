"""Identity rules: which identifiers belong to one person, in rank order, and which values identify nobody."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.page_arguments import PageArguments

from onefold import config
from onefold.config import DEFAULT_BLOCKED_VALUES, WINDOWS
from onefold.roles import EDITOR
from onefold.web import edit, kit, words
from onefold.web.kit import column, el
from onefold.web.shell import ask, asked, crumbs, may
from onefold.workspace import Workspace, pick


async def rules(args: PageArguments) -> None:
    """The rules of one space."""
    wanted = asked(args, "space")

    def read(workspace: Workspace) -> tuple[config.Workspace, edit.Change | None]:
        now = workspace.configuration()
        if not now.spaces:
            return now, None
        slug = pick(now.spaces, wanted, "space").slug if wanted else now.spaces[0].slug
        return now, edit.read(workspace, "space", slug)

    now, change = await ask(read)
    crumbs(("Identity rules", args.path))
    if change is None:
        with kit.page():
            kit.simple_head("Identity rules")
            with el("section", "of-panel"), kit.empty("No space yet", "Identity rules belong to a Profile Space."):
                kit.button("Create space", None, "primary", "plus", href="/spaces/new")
        return
    _Rules(now, change).build()


class _Rules:
    """The rules as they are typed; nothing counts until they are saved."""

    def __init__(self, now: config.Workspace, change: edit.Change) -> None:
        self.now, self.change = now, change
        self.name = f"rules {change.slug}"
        saved = change.found or {}
        draft = edit.draft(self.name)
        typed = draft.value if draft else {}
        self.version = draft.version if draft else change.version or ""
        self.saved: edit.Data = {
            "identifiers": [dict(one) for one in saved.get("identifiers") or []],
            "blocked_values": list(saved.get("blocked_values") or DEFAULT_BLOCKED_VALUES),
        }
        self.items: list[edit.Data] = typed.get("identifiers", [dict(one) for one in self.saved["identifiers"]])
        self.blocked: list[str] = typed.get("blocked_values", list(self.saved["blocked_values"]))

    def build(self) -> None:
        with kit.page():
            said = "In rank order: when a limit would be passed, the lowest-ranked identifier of a call is left out."
            actions = kit.simple_head("Identity rules", said)
            with actions:
                if len(self.now.spaces) > 1:
                    options = [(space.slug, space.name) for space in self.now.spaces]
                    kit.Input(
                        self.change.slug,
                        lambda slug: ui.navigate.to(f"/rules?space={slug}"),
                        options=options,
                        label="Space",
                    )
                if may(EDITOR):
                    kit.button("Discard", self._discard, "ghost")
                    kit.button("Save rules", self._save, "primary").props["data-save"] = "1"
            self.top = el("div", "of-gone")
            with kit.panel("Identifiers", "highest rank first") as (right, _):
                with right:
                    if may(EDITOR):
                        kit.button("Add identifier", lambda: self._edit(None), "", "plus", small=True)
                columns = [
                    column("rank", "Rank", num=True, tight=True),
                    column("type", "Identifier", name=True, mono=True),
                    column("limit", "Limit for one profile"),
                    column("key", "Found in trait", mono=True),
                    column("menu", "Actions", tight=True, hidden=True),
                ]
                self.table = kit.Table(columns, [], "Identifiers in rank order")
                self.table.on_act(self._act)
                foot = "Types that are not listed are added when first seen: at most 5 ever, ranked below these."
                el("div", "of-panel-foot of-note", foot)
            with kit.panel("Blocked values", "patterns for the whole value, for all types"), el("div", "of-panel-body"):
                kit.note("A blocked value stays in its call, and identifies nobody.")
                made = kit.Input(
                    "\n".join(self.blocked),
                    self._blocked,
                    label="Blocked values, one a line",
                    lines=5,
                    mono=True,
                    off=not may(EDITOR),
                )
                made.style("max-width: 420px")
        self._show()

    def _show(self) -> None:
        menu = [
            {"key": "edit", "t": "Edit"},
            {"key": "up", "t": "Move up"},
            {"key": "down", "t": "Move down"},
            {"key": "remove", "t": "Remove", "bad": True},
        ]
        self.table.show(
            [
                {
                    "id": item["type"],
                    "rank": at + 1,
                    "type": item["type"],
                    "limit": words.limit(
                        config.IdentifierRule(item["type"], limit=_limit(item), per=item.get("per", "ever"))
                    ),
                    "key": item.get("key"),
                    "menu": {"menu": menu, "label": f"Actions of {item['type']}"} if may(EDITOR) else None,
                }
                for at, item in enumerate(self.items)
            ]
        )
        self.top.clear()
        if self._value() != self.saved:
            with self.top:
                kit.alert(
                    "Unsaved changes",
                    edit.STALE
                    if self.version != self.change.version
                    else "Changed rules apply to what comes after; profiles stay as they are.",
                    tone="warn",
                )

    def _value(self) -> edit.Data:
        return {"identifiers": self.items, "blocked_values": self.blocked}

    def _changed(self) -> None:
        edit.keep(self.name, self._value() if self._value() != self.saved else None, self.version)
        self._show()

    def _blocked(self, said: str) -> None:
        self.blocked = [line.strip() for line in said.splitlines() if line.strip()]
        self._changed()

    def _act(self, kind: str, act: str) -> None:
        at = next(at for at, item in enumerate(self.items) if item["type"] == kind)
        if act == "edit":
            self._edit(at)
            return
        item = self.items.pop(at)
        if act != "remove":
            self.items.insert(max(0, at + (-1 if act == "up" else 1)), item)
        self._changed()

    def _edit(self, at: int | None) -> None:
        item: edit.Data = self.items[at] if at is not None else {"type": "", "limit": 5, "per": "ever"}
        with kit.dialog(f"Edit {item['type']}" if at is not None else "Add an identifier") as box:
            form = edit.Form()
            form.add(
                "type",
                "Type",
                item["type"],
                "Letters, digits, _ and ., such as crm_id.",
                must=True,
                mono=True,
                off=at is not None,
            )
            form.add(
                "key",
                "Found in trait",
                item.get("key", ""),
                "For types of your own: the trait that holds it.",
                mono=True,
            )
            form.add("limit", "At most so many for one profile", str(_limit(item)), type_="number")
            form.add("per", "Within", item.get("per", "ever"), options=[(one, one.capitalize()) for one in WINDOWS])

            def done() -> None:
                kind = form.value("type")
                if not kind or (at is None and any(kind == one["type"] for one in self.items)):
                    form.say("type", "There is one of this type already." if kind else "An identifier has a type.")
                    return
                if not form.value("limit").isdigit() or int(form.value("limit")) < 1:
                    form.say("limit", f"“{form.value('limit')}” is no whole number from 1 up.")
                    return
                made = {**item, "type": kind, "limit": int(form.value("limit")), "per": form.value("per")}
                if form.value("key"):
                    made["key"] = form.value("key")
                else:
                    made.pop("key", None)
                if at is None:
                    self.items.append(made)
                else:
                    self.items[at] = made
                box.close()
                self._changed()

            with el("div", "of-dialog-end"):
                kit.button("Cancel", box.close)
                kit.button("Keep", done, "primary")

    def _discard(self) -> None:
        edit.keep(self.name, None)
        ui.navigate.reload()

    async def _save(self) -> None:
        form = edit.Form()
        value = {key: one for key, one in self._value().items() if one != self.saved[key]}
        found = {**(self.change.found or {}), **value}
        change = edit.Change("space", self.change.slug, found, self.version)
        if await form.attempt(lambda: edit.save(change)):
            edit.keep(self.name, None)
            kit.toast("Rules saved; they apply to what comes after")
            ui.navigate.reload()


def _limit(item: edit.Data) -> int:
    found: Any = item.get("limit")
    return int(found) if found else 1 if item["type"] in ("user_id", "group_id") else 5
