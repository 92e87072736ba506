"""A value of a mapping as people see and edit it: a column, a text template, a constant, or whatever else it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from onefold import mapping
from onefold.errors import InvalidMapping
from onefold.web import kit, words
from onefold.web.kit import el, icon, text

_PATH = re.compile(r"\$\.properties\.([^.\[\]'\"]+)")
_HOLE = re.compile(r"\{\{\{?\s*([^{}]+?)\s*\}?\}\}")
KINDS = (("column", "Column"), ("template", "Text template"), ("constant", "Constant"), ("json", "JSON"))
DEFAULTS = {
    "$.timestamp": "time of the row",
    "$.messageId": "id of the call",
    "$.context.consent": "consent of the row",
}


def kind(value: Any) -> str:
    """Which of KINDS a value is, or `empty`."""
    if value is None or value == "":
        return "empty"
    if column(value) is not None:
        return "column"
    if isinstance(value, dict | list):
        return "template" if isinstance(value, dict) and set(value) == {"@template"} else "json"
    return "constant"


def column(value: Any) -> str | None:
    """The column that a value is, lower-cased or not."""
    if isinstance(value, dict) and set(value) == {"@path"} and isinstance(value["@path"], str):
        found = _PATH.fullmatch(value["@path"])
        return found[1] if found else None
    return column(value["@case"].get("value")) if lowered(value) else None


def lowered(value: Any) -> bool:
    case = value.get("@case") if isinstance(value, dict) and set(value) == {"@case"} else None
    return isinstance(case, dict) and case.get("operator") == "lower"


def of_column(name: str, *, lower: bool = False) -> Any:
    """The value that a column gives."""
    plain = {"@path": f"$.properties.{name}"}
    return {"@case": {"operator": "lower", "value": plain}} if lower else plain


def typed(template: str, columns: Sequence[str]) -> str:
    """A template as it is kept, from one where columns stand by their name alone."""
    return _HOLE.sub(
        lambda hole: f"{{{{properties.{hole[1]}}}}}" if hole[1] in columns else hole[0],
        template,
    )


def shown(template: str) -> str:
    """A template as it is edited: columns by their name alone."""
    return _HOLE.sub(lambda hole: f"{{{{{hole[1].removeprefix('$.').removeprefix('properties.')}}}}}", template)


def result(value: Any, event: dict[str, Any]) -> str:
    """What a value gives for an event, as text. Raises InvalidMapping."""
    found = mapping.resolve(value, event)
    return "nothing" if found is mapping.UNDEFINED or found is None else words.flat(found, 80)


def chip(name: str, icon_: str = "text") -> Element:
    with el("span", "of-chip") as made:
        icon(icon_)
        text(name)
    return made


def draw(value: Any, icons: dict[str, str], default: str = "") -> None:
    """A value as chips and text, with its kind at the right."""
    what = kind(value)
    if what == "empty":
        el("span", "of-said of-said-none", default or "Pick a column or type text")
        el("span", "of-kind", "default" if default else "empty")
    elif what == "column":
        name = column(value) or ""
        chip(name, icons.get(name, "text"))
        el("span", "of-kind", "column, lower case" if lowered(value) else "column")
    elif what == "template":
        _template(str(value["@template"]), icons, "template")
    elif (text_ := _liquid(value)) is not None:
        _template(text_, icons, "Liquid, lower case" if lowered(value) else "Liquid")
    elif what == "constant":
        kit.mono(value if isinstance(value, str) else json.dumps(value), "of-said")
        el("span", "of-kind", "constant")
    else:
        path = value.get("@path") if isinstance(value, dict) else None
        if path in DEFAULTS:
            el("span", "of-said", DEFAULTS[path])
            el("span", "of-kind", "default")
            return
        kit.mono(words.flat(value, 60), "of-said")
        names = [name for name in value if name.startswith("@")] if isinstance(value, dict) else []
        el("span", "of-kind", names[0].removeprefix("@") if names else "JSON")


def _liquid(value: Any) -> str | None:
    """The text of a Liquid value, lower-cased or not."""
    inner = value["@case"].get("value") if lowered(value) else value
    text_ = inner.get("@liquid") if isinstance(inner, dict) and set(inner) == {"@liquid"} else None
    return text_ if isinstance(text_, str) and "{%" not in text_ else None


def _template(template: str, icons: dict[str, str], kind_: str) -> None:
    at = 0
    for hole in _HOLE.finditer(template):
        if template[at : hole.start()]:
            kit.mono(template[at : hole.start()], "of-said")
        name = hole[1].removeprefix("$.").removeprefix("properties.")
        chip(name, icons.get(name.partition("|")[0].strip(), "text"))
        at = hole.end()
    if template[at:]:
        kit.mono(template[at:], "of-said")
    el("span", "of-kind", kind_)


# A column that is dragged, and what takes it: nothing else may be dropped on a value.
_COLUMN = "text/x-onefold-column"
_OVER = f"""(e) => {{
    if (!e.dataTransfer.types.includes("{_COLUMN}")) return
    e.preventDefault()
    e.currentTarget.classList.toggle("of-over", %s)
}}"""
_DROP = f"""(e) => {{
    e.preventDefault()
    e.currentTarget.classList.remove("of-over")
    emit(e.dataTransfer.getData("{_COLUMN}"))
}}"""


def draggable(made: Element, name: str) -> None:
    """Let an element be dragged to a value, which then is this column."""
    made.props["draggable"] = "true"
    made.on("dragstart", js_handler=f'(e) => e.dataTransfer.setData("{_COLUMN}", {json.dumps(name)})')


class Value:
    """A field that opens a popover where its value is edited."""

    def __init__(
        self,
        label: str,
        value: Any,
        context: Context,
        changed: Callable[[Any], Any],
        default: str = "",
    ) -> None:
        self.label, self.value, self.context, self.changed, self.default = label, value, context, changed, default
        self.button = el("button", "of-value", type="button", aria_label=f"{label}: edit", aria_haspopup="dialog")
        self.button.props["tabindex"] = "0"  # so that the focus comes back to it
        self.button.props["aria-expanded"] = "false"
        self._draw()

    def _draw(self) -> None:
        self.button.clear()
        with self.button:
            draw(self.value, self.context.icons, self.default)
            with ui.menu().props(
                'no-parent-event no-focus anchor="bottom left" self="top left" :offset="[0, 4]"'
            ) as menu:
                body = el("div", "of-pop", role="dialog", aria_label=self.label)
        self.menu, self.body = menu, body
        # Keys typed in the popover are no presses of the button around it.
        body.on("click", js_handler="(e) => e.stopPropagation()")
        body.on("keydown", js_handler="(e) => { if (e.key !== 'Escape') e.stopPropagation() }")
        body.on("keyup", js_handler="(e) => { if (e.key !== 'Escape') e.stopPropagation() }")
        menu.on("hide", lambda: self._expanded("false"))

    def bind(self) -> Value:
        kit.on(self.button, "click", self.open)
        for event, over in (("dragenter", "true"), ("dragover", "true"), ("dragleave", "false")):
            self.button.on(event, js_handler=_OVER % over)
        self.button.on("drop", self._dropped, js_handler=_DROP)
        return self

    def _dropped(self, event: GenericEventArguments) -> None:
        """Take the column that was dragged here."""
        if event.args in self.context.columns:
            self.keep(of_column(event.args, lower=lowered(self.value)))

    def _expanded(self, said: str) -> None:
        if not self.button.is_deleted:
            self.button.props["aria-expanded"] = said
            self.button.update()

    def open(self) -> None:
        """Show the popover."""
        start = kind(self.value)
        self._build("column" if start == "empty" else start)
        self._expanded("true")
        self.menu.open()

    def keep(self, value: Any) -> None:
        """Take a value and close."""
        self.value = value
        self.menu.close()
        self._draw()
        self._expanded("false")
        place = self.button.parent_slot
        assert place is not None
        with place:  # what was pressed is gone: it stood within what was drawn anew
            self.changed(value)
            ui.run_javascript(f"setTimeout(() => getHtmlElement({self.button.id})?.focus(), 50)")

    def _build(self, what: str) -> None:
        self.body.clear()
        with self.body:
            kit.segments(KINDS, what, self._build, "Kind of value")
            {"column": self._column, "template": self._template, "constant": self._constant, "json": self._json}[what]()
            with kit.row():
                el("div", "of-grow")
                if kind(self.value) != "empty":
                    kit.button("Clear", lambda: self.keep(None), "ghost", small=True)
                kit.button("Cancel", self.menu.close, "ghost", small=True)
            ui.timer(
                0.05,
                lambda: ui.run_javascript(f"getElement({self.body.id})?.querySelector('input, textarea')?.focus()"),
                once=True,
            )

    def _column(self) -> None:
        now, lower = column(self.value), lowered(self.value)
        state = {"lower": lower}
        found = kit.Input("", lambda said: fill(said), label="Filter columns", hint="Filter columns", pause=80)
        listed = el("div", "of-cols").style("max-height: 220px; overflow: auto; padding: 0")
        with kit.row():
            kit.checkbox("Lower case", lower, lambda on: state.update(lower=on))

        def names(said: str) -> list[str]:
            return [name for name in self.context.columns if said.lower() in name.lower()]

        def fill(said: str) -> None:
            listed.clear()
            with listed:
                for name in names(said)[:100]:
                    with el("button", "of-used" if name == now else "", type="button") as made:
                        icon(self.context.icons.get(name, "text"))
                        kit.mono(name)
                        kit.mono(self.context.sample(name))
                    kit.on(made, "click", lambda name=name: self.keep(of_column(name, lower=state["lower"])))

        def enter(said: str) -> None:
            first = names(said)
            if first:
                self.keep(of_column(first[0], lower=state["lower"]))

        kit.on(found, "enter", enter, args=True)
        fill("")

    def _template(self) -> None:
        start = shown(self.value["@template"]) if kind(self.value) == "template" else ""
        if kind(self.value) == "column":
            start = f"{{{{{column(self.value)}}}}}"
        made = kit.Input(
            start,
            lambda said: gives(said),
            label="Text template",
            hint="{{first_name}} {{last_name}}",
            mono=True,
            pause=120,
        )
        said = el("p", "of-note", "")

        def value(written: str) -> Any:
            return {"@template": typed(written, self.context.columns)} if written else None

        def gives(written: str) -> None:
            said.text = self.context.gives(value(written))  # type: ignore[attr-defined]

        def insert(name: str) -> None:
            made.value = f"{made.value}{{{{{name}}}}}"
            gives(made.value)

        def keep() -> None:
            self.keep(value(str(made.value)))

        with kit.row():
            for name in self.context.columns[:4]:
                kit.button(name, partial(insert, name), "", "plus", small=True)
            kit.button("Keep", keep, "primary", small=True)

        kit.on(made, "enter", lambda written: self.keep(value(written)), args=True)
        gives(start)

    def _constant(self) -> None:
        now = self.value if kind(self.value) == "constant" else ""
        made = kit.Input(
            now if isinstance(now, str) else json.dumps(now), label="Constant", hint="The same for every row", mono=True
        )
        kit.button("Keep", lambda: self.keep(made.value or None), "primary", small=True)
        kit.on(made, "enter", lambda said: self.keep(said or None), args=True)

    def _json(self) -> None:
        made = kit.Input(
            json.dumps(self.value, ensure_ascii=False, indent=2) if self.value is not None else "",
            label="Value as JSON",
            mono=True,
            lines=6,
        )
        said = el("p", "of-wrong", "", role="alert")

        def keep() -> None:
            try:
                value = json.loads(made.value) if made.value.strip() else None
                mapping.validate(value, self.label)
            except (ValueError, InvalidMapping) as error:
                said.text = f"This is no value of a mapping: {error}"  # type: ignore[attr-defined]
                return
            self.keep(value)

        kit.button("Keep", keep, "primary", small=True)


class Context:
    """What values are edited against: the columns, and the test row as an event."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.icons: dict[str, str] = {}
        self.row: dict[str, Any] = {}
        self.event: dict[str, Any] = {}
        self.name = ""

    def look(self, columns: list[str], rows: list[dict[str, Any]], row: dict[str, Any], name: str) -> None:
        """Take up the columns, and the row that is tested."""
        self.columns, self.row, self.name = columns, row, name
        self.icons = {column_: _icon(column_, rows) for column_ in columns}
        self.event = {"type": "track", "event": "new", "properties": row, "context": {}}

    def sample(self, name: str) -> str:
        return words.flat(self.row.get(name), 40)

    def gives(self, value: Any) -> str:
        if value is None:
            return ""
        try:
            return f"Row {self.name} gives {result(value, self.event)}"
        except InvalidMapping as error:
            return str(error)


def _icon(name: str, rows: list[dict[str, Any]]) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if values and all(isinstance(value, bool) for value in values):
        return "toggle"
    if values and all(isinstance(value, int | float) for value in values):
        return "number"
    times = re.compile(r"\d{4}-\d\d-\d\d")
    if values and all(isinstance(value, str) and times.match(value) for value in values):
        return "clock"
    return "braces" if values and all(isinstance(value, dict | list) for value in values) else "text"
